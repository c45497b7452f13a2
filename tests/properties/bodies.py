"""Strategies for every event body there is, made from their types, so that a new one is covered by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import strategies as st

from service.domain.canonical import MAX_INTEGER
from service.domain.events import BODIES, Body

#: Any text that JSON can hold, the awkward ones often: controls, quotes, escapes, beyond the BMP.
AWKWARD = st.sampled_from(
    ["", "\x01\x1f", "\b\t\n\f\r", '"\\/', "\\u0000", "\x7f\x80\u2028\ufeff", "\U0001f600\ue000"]
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | AWKWARD
#: Names within a body are ours or checked; `canonical.problem` refuses what is beyond the BMP.
NAMES = st.text(
    st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="\0"), max_size=8
)
INTEGERS = st.integers(-MAX_INTEGER, MAX_INTEGER) | st.sampled_from([0, -1, 1, MAX_INTEGER, -MAX_INTEGER])
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
DECIMALS = st.decimals(0, 10**6, places=4) | st.sampled_from([Decimal("0"), Decimal("1E+2"), Decimal("0.10")])


def of_type(kind: msgspec.inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a type, as msgspec describes it."""
    inspect = msgspec.inspect
    match kind:
        case inspect.StrType():
            return TEXT
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return INTEGERS
        case inspect.NoneType():
            return st.none()
        case inspect.DateTimeType():
            return TIMES
        case inspect.DecimalType():
            return DECIMALS
        case inspect.UUIDType():
            return st.uuids()
        case inspect.EnumType(cls=cls):
            return st.sampled_from(cls)
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.UnionType(types=types):
            return st.one_of([of_type(each) for each in types])
        case inspect.VarTupleType(item_type=item):
            return st.lists(of_type(item), max_size=3).map(tuple)
        case inspect.DictType(value_type=value):
            return st.dictionaries(NAMES, of_type(value), max_size=3)
        case inspect.StructType(cls=cls, fields=fields):
            return st.builds(cls, **{field.name: of_type(field.type) for field in fields})
        case _:
            raise TypeError(f"no strategy for {kind}")


BODY: dict[str, st.SearchStrategy[Body]] = {
    name: of_type(msgspec.inspect.type_info(body)) for name, body in BODIES.items()
}
ANY_BODY = st.one_of(list(BODY.values()))
