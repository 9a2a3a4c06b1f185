"""Power cuts on real files: what a workload wrote and synced is recorded through the disk seam, and replayed up to random points."""
