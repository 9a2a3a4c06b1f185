"""Queries: MongoDB's language over decoded documents. Everything here is pure.

`filters` compiles a filter to a predicate and says when it names one `_id`; `paths` walks dotted paths through maps
and arrays; `sorting` compiles a sort to a key function and a projection to a reshaping function.
"""
