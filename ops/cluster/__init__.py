"""The verbs of `twinlog cluster`, one a file; ops/commands/cluster.py gathers them. Each asks nodes through the client and shows before it does."""
