"""Deterministic simulation: a whole cluster in one process from one seed.

disk.py and links.py are the seams' doubles with faults, world.py plays one seed, checkers.py holds the promises INV-1 to
INV-6 against what was seen. `python -m tests.sim --seeds N` sweeps; a failing seed prints how to replay it.
"""
