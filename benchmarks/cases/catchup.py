"""Not yet."""
WHAT=""
