"""Failover drills: faults on a cluster under load, judged by what its clients were promised.

    scenarios.py   what is done, as plain values              records.py   what was written, seen and found, as plain values
    targets/       the clusters it is done to                 verdict.py   what it means: losses, times, equality (pure)
    conductor.py   carries a scenario out on a target         limits.py    what is allowed: targets.yaml
    writers.py     numbered writes and their bookkeeping      report.py    JSON, Markdown, table
    watch.py       every node's status, all the time          history.py   earlier runs and their trend
    ending.py      the copies at the end, and their hashes    relay.py     links of local nodes that can be cut
"""
