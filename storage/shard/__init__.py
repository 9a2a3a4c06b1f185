"""The sealed part of a database: shard logs, the checkpoints that name them, and the job that writes both.

    record.py      the bytes of a shard log
    logfile.py     one open shard log, read by location
    checkpoint.py  the manifest of immutable files at one position
    rebuild.py     a shard's primary index worked out from its logs (INV-5)
    shardset.py    everything one checkpoint names, open for reading
    seal.py        commit log range -> shard records, index segments, checkpoint
"""
