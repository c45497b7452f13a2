"""Nothing is recorded that is sealed under a key which is gone, whatever command brings it and wherever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain.decide_keys import require_key
from service.domain.directory import Project
from service.domain.spec import Sealed
from service.errors import Erased
from tests.support.jobs import PROJECT, T0

GONE, THERE = Sealed("gone.1", "bm9uY2U=", "Ym94"), Sealed("there.1", "bm9uY2U=", "Ym94")
ERASED = Project(id=PROJECT, name="Vision", created_at=T0, destroyed_keys=("gone",), erased_position=9)


def kinds(base: type[cmd.Command] = cmd.Command) -> Iterator[type[cmd.Command]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def ways(of: Any, sealed: Sealed) -> Iterator[Any]:
    """Values of a type that hold the secret in one place each."""
    inspect = msgspec.inspect
    match of:
        case inspect.StructType(cls=cls) if cls is Sealed:
            yield sealed
        case inspect.StructType(cls=cls, fields=fields):
            for field in fields:
                for value in ways(field.type, sealed):
                    yield made(cls, **{field.name: value})
        case inspect.UnionType(types=types):
            for each in types:
                yield from ways(each, sealed)
        case inspect.VarTupleType(item_type=item):
            yield from ((value,) for value in ways(item, sealed))


def made(kind: type[Any], **fields: Any) -> Any:
    """A struct with the least of all else; what its other fields hold is of no matter here."""
    others = {field.name: None for field in msgspec.structs.fields(kind) if field.required}
    return kind(**(others | fields))


HOLDING = {
    f"{kind.__name__} {number}": (one, two)
    for kind in kinds()
    for number, (one, two) in enumerate(
        zip(*(ways(msgspec.inspect.type_info(kind), each) for each in (GONE, THERE)), strict=True)
    )
}


def test_the_commands_that_bring_secrets_are_known() -> None:
    names = {name.partition(" ")[0] for name in HOLDING}
    assert {"SubmitJob", "OpenExec", "SetDataStore", "SetRegistry"} <= names


@pytest.mark.parametrize("name", HOLDING)
def test_what_is_sealed_under_a_key_that_is_gone_is_refused(name: str) -> None:
    late, in_time = HOLDING[name]
    with pytest.raises(Erased, match="send the request again"):
        require_key(late, ERASED)
    require_key(in_time, ERASED)
    require_key(late, replace(ERASED, destroyed_keys=()))
