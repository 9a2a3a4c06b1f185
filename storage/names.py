"""What databases and collections may be called. Pure. A database name becomes a directory name, so the rule is strict."""

from __future__ import annotations

import re

from .errors import BadName

DATABASE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}\Z")
COLLECTION_NAME_BYTES_MAX = 255
SYSTEM_DATABASE = "_system"


def check_database_name(name: str) -> str:
    """Returns name. Names that begin with an underscore are Twinlog's own; only `_system` exists among them."""
    if not isinstance(name, str) or not DATABASE_NAME.match(name):
        raise BadName(
            f"database name {name!r}: 1 to 63 letters, digits, '_' or '-', and no '-' in front; choose another name"
        )
    if name.startswith("_") and name != SYSTEM_DATABASE:
        raise BadName(f"database name {name!r}: a leading '_' is kept for Twinlog itself; choose another name")
    return name


def check_collection_name(name: str) -> str:
    """Returns name."""
    if not isinstance(name, str) or not name:
        raise BadName("a collection name must be a string that is not empty")
    if "\0" in name or "$" in name or name.startswith(("system.", ".")) or name.endswith("."):
        raise BadName(
            f"collection name {name!r}: no NUL, no '$', no '.' at either end, and not beginning with 'system.'"
        )
    if len(name.encode("utf-8", "surrogatepass")) > COLLECTION_NAME_BYTES_MAX:
        raise BadName(f"collection name of {len(name)} characters: at most {COLLECTION_NAME_BYTES_MAX} bytes of UTF-8")
    return name
