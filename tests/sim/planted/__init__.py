"""Planted faults: each switches off one safety rule of the production code, and some checker must say so.

A promise that no checker would miss is not checked. rules.py has the faults, table.py plays fresh seeds until each is told and
writes how many that took: `python -m tests.sim --planted`. tests/sim/test_planted.py plays the quick ones.
"""
