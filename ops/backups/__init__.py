"""The verbs of `twinlog backup`, one file each; gathered by ops/commands/backup.py."""
