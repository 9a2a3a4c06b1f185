"""Promises of replication: matching, roles, acknowledgements, sessions, and whole clusters of members."""
