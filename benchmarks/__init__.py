"""Measuring Twinlog beside its peers: `python -m benchmarks`. What the cases mean stands in docs/benchmarks.md."""
