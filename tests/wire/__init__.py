"""Promises of the wire: handshake, packets, sessions, messages, key files."""
