"""Backups: a checkpoint's files beside a manifest that vouches for them, and the way back. Knows no schedule and no peer.

    checkpoint ── copying.py ──> backup_YYYYMMDD_HHMMSS/ ── verifying.py ──> restoring.py ──> staged directory ──> Engine.replace
                                  └ _manifest.json (manifest.py)

    parts.py    incremental backups: which bytes of a file lie in which backup; increments.py finds them, composed.py reads them as one
    shelf.py    the directory that holds one database's backups: its names, list, deletion, rotation

Everything here blocks and runs in a worker or behind the disk seam.
"""
