"""Queries: MongoDB's language over decoded documents. Everything here is pure.

    filters ── conditions ──> tree ── predicates, value_tests ──> document -> bool, position
    paths                 which values of a document a dotted path reaches
    regex                 regular expressions in bounded time; regex_syntax and regex_classes read them
    sorting, projection   a sort to a key function, a projection to a reshaping function
    expressions           aggregation expressions; their families stand in expression_*.py
    stages                a pipeline to compiled stages (stage_*.py, reshaping, accumulators); pipeline runs them
"""
