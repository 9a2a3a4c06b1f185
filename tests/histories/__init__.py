"""Histories of transactions, as their clients saw them, and a checker of snapshot isolation that knows nothing else."""
