"""A naive evaluator of MongoDB's language, written from its documentation alone: the other opinion that the engine is held against.

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
