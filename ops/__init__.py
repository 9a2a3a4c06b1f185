"""The `twinlog` command: what an operator does with a pair, by way of the client. Knows no log and no link."""
