"""The commit log: codec, segments, scanning, writing, and the memtable of what it holds beyond the newest checkpoint."""
