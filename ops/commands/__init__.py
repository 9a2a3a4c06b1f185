"""One module a verb; none imports another (a contract in pyproject.toml holds that)."""
