"""Promises of the client library, on every transport, against a fake node and the embedded engine."""
