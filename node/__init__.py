"""One Twinlog node: its configuration, its ports, the client wire, its role in the cluster.

Knows replication and storage through their faces. What applications need to speak to a node lives in `node.wire`,
which knows nothing of the rest of this package.
"""
