"""An event as those outside see it: a CloudEvents 1.0 object, without secrets.

`id` is the position, which is also the cursor; `source` names the ledger, so that the two together are
unique. `sequence` and `recordedtime` are extensions of the CloudEvents project; the others are ours. Source:
CloudEvents 1.0.2, "Context Attributes" and "JSON Event Format"; its integers have 32 bits, so positions are
text.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from service.domain.events import BODIES, Body, Event, TokenCreated, TokenRenewed
from service.domain.spec import Sealed

TYPE_PREFIX = "jobyard."

#: What nobody outside has any use for: a digest of a token's value is as good as a lock's drawing.
_HIDDEN: dict[type[Any], frozenset[str]] = {
    TokenCreated: frozenset({"sha256"}),
    TokenRenewed: frozenset({"sha256"}),
}


def source_of(ledger_id: UUID) -> str:
    """The `source` of all events of a ledger."""
    return f"urn:jobyard:ledger:{ledger_id}"


def frame(event: Event, source: str) -> dict[str, Any]:
    """The event as a CloudEvents object, of types that JSON has. Attributes that it lacks are left out."""
    attributes = {
        "specversion": "1.0",
        "id": str(event.position),
        "source": source,
        "type": TYPE_PREFIX + event.type,
        "subject": _subject(event),
        "time": event.occurred_at,
        "datacontenttype": "application/json",
        "sequence": f"{event.position:020}",
        "recordedtime": event.recorded_at,
        "project": event.project,
        "job": event.job,
        "run": event.run,
        "actor": event.actor,
        "commandid": event.command_id,
        "requestid": event.request_id,
    }
    found: dict[str, Any] = msgspec.to_builtins(
        {name: value for name, value in attributes.items() if value is not None}
    )
    return found | {"data": shown(event.body)}


def shown(body: Body) -> dict[str, Any]:
    """A body as JSON's types, with `{"sealed": <key id>}` for each secret and nothing of tokens' digests."""
    found: dict[str, Any] = _shown(body)
    return found


def shown_schemas(ref_template: str) -> dict[str, Any]:
    """JSON schemas of what `shown` gives for every body, and of what these are made of, by name."""
    _, schemas = msgspec.json.schema_components(BODIES.values(), ref_template=ref_template)
    schemas[Sealed.__name__] = {
        "title": Sealed.__name__,
        "description": "A secret: the id of the key that it is sealed with.",
        "type": "object",
        "properties": {"sealed": {"type": "string"}},
        "required": ["sealed"],
    }
    for kind, names in _HIDDEN.items():
        schema = schemas[kind.__name__]
        for name in names:
            del schema["properties"][name]
            schema["required"].remove(name)
        del schema["description"]  # it tells of what is hidden
    return schemas


def _subject(event: Event) -> str | None:
    if event.job is not None:
        return f"job/{event.job}"
    return None if event.project is None else f"project/{event.project}"


def _shown(value: Any) -> Any:
    match value:
        case Sealed():
            return {"sealed": value.key_id}
        case msgspec.Struct():
            return {
                written: _shown(held)
                for name, written, usual in _fields(type(value))
                if (held := getattr(value, name)) is not msgspec.UNSET and held != usual
            }
        case tuple() | list():
            return [_shown(item) for item in value]
        case dict():
            return {str(name): _shown(item) for name, item in value.items()}
        case _:
            return msgspec.to_builtins(value)


@lru_cache
def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, str, Any], ...]:
    """Name, name in JSON, and the value with which it is left out there (or one that nothing equals)."""
    hidden = _HIDDEN.get(kind, frozenset())
    return tuple(
        (field.name, field.encode_name, _usual(field) if kind.__struct_config__.omit_defaults else object())
        for field in msgspec.structs.fields(kind)
        if field.name not in hidden
    )


def _usual(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return object()
