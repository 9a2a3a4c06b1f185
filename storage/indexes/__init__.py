"""What joins field segments (fields/) and shard logs (shard/): reading documents in bulk, building and merging, the parts of a query."""
