"""The cluster inside Kubernetes: who stands behind the Service that writes go to, and how that changes. No pod is ever made or deleted here.

    standing.py   what the primary Service says, as values and as patches      pure
    verdicts.py   what to do, from the Service, the nodes and the pods         pure
    api.py        the few calls of the API server
    nodes.py      the nodes, asked and ordered through the client
    moves.py      failover, switchover, hand-over and sync, step by step
"""
