"""Real processes on loopback, from the outside."""
