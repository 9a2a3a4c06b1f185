"""A naive evaluator of MongoDB's language, written apart from the engine: the other opinion that the engine is held against.

Its rules are from MongoDB's manual and, where the manual is silent (paths through arrays, single update operators, sort keys), from what the
server's matcher, update and sort code does; no text or code is taken over.

It shares no code with storage/query. It walks documents, asks one function an operator, knows no index and no plan, and is as
slow as it likes. A refusal is `Refused`, whose code is None where MongoDB's number is not certain.

    values.py       types, order and equality over all types
    numbers.py      arithmetic: int64, double, Decimal128
    filters.py      matches(document, filter)
    sorting.py      ordered(documents, sort)
    projections.py  projected(document, projection)
    updates.py      updated(document, update, ...) with the operators of update_operators.py
    expressions.py  value(expression, document)
    accumulators.py the accumulators of $group
    pipeline.py     run(documents, stages, collections)
"""
