"""Salvage: what a rewind took out of a database, kept so that people can look at it and put it back (INV-7).

    entry.py        what an entry is: files, manifest, lines
    divergence.py   the commits after a point of the log, and which of their writes are the newest of their document
    writing.py      an entry made from them, whole and synced before anything is cut
    shelf.py        every entry of a data directory: listed, read by pages, marked as applied, removed on order
    standing.py     what became of an entry's documents since, as a database has them now
"""
