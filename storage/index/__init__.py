"""Indexes: immutable column files beside the shard logs. Each is a cache of the logs and can be rebuilt (INV-5)."""
