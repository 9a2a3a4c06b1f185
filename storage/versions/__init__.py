"""What a state of a database is called: the state hash, snapshots, differences between versions."""
