"""Exchange: documents in other people's formats, one module a format, over streams that somebody else opened.

`extjson` knows MongoDB's Extended JSON, one document at a time; `jsonl` finds the documents in a stream of lines or in
one JSON array.
"""
