"""Exchange: documents in other people's formats, one module a format, over streams that somebody else opened.

    formats.py      the formats by name, and how a stream tells which it is in
    reading.py      Export: any of them as (collection, line, document or BadLine)      jsonl.py, json_object.py, skv.py, zipped.py below it
    writing.py      Writer: documents as pieces of text, for whoever writes them        ZipWriter (zipped.py) for archives
    zip_entries.py  an archive as a stream, zip_slices.py one read in pieces: the format below zipped.py
    extjson.py      MongoDB's Extended JSON, one document at a time
    dump.py         the directory that mongodump writes, around bson_stream.py

This module is the face of it.
"""

from __future__ import annotations

from . import dump
from .encoded import Packed, Packing, packed
from .extjson import parse_line, to_json
from .formats import EXTENSIONS, Format, format_of
from .jsonl import BadLine, read_documents
from .reading import Export, Item
from .skv import as_text
from .writing import Asked, Writer
from .zipped import ZipWriter, read_zip

__all__ = [
    "EXTENSIONS",
    "Asked",
    "BadLine",
    "Export",
    "Format",
    "Item",
    "Packed",
    "Packing",
    "Writer",
    "ZipWriter",
    "as_text",
    "dump",
    "format_of",
    "packed",
    "parse_line",
    "read_documents",
    "read_zip",
    "to_json",
]
