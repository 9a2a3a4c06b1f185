"""The field index: immutable columns of the values that documents hold at a path. A cache of the logs (INV-5).

`values` says what stands in an index, `column` is one field of one segment, `rows` tells where its documents are, `extract`
and `build` make columns from documents, `merge` makes one segment of several, `files` writes and maps them. All of it is
pure but files.py, which goes through the disk seam; nothing here knows trio, a view or which rows are live.
"""
