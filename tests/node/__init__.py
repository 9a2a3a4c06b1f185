"""Tests of the node: configuration, service, hub, links, server."""
