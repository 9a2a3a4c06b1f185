"""Values: what a document may hold, how it is written as bytes, when two values are equal and which comes first.

Everything here is pure. `documents` turns Python values into MessagePack and back and checks bytes that come from a
client; `extensions` knows the types MessagePack does not have; `decimals` reads Decimal128 exactly; `keys` gives
every `_id` one canonical byte string; `order` compares any two values the way MongoDB does.
"""
