"""What goes over the wire: events, encoded once for all streams that want them, and control frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from service.domain.cloudevents import TYPE_PREFIX, frame
from service.domain.events import Event
from service.ledger.labels import Labelled

#: The control frames: what a stream begins with, and what it says when there is nothing else to say.
Control = Literal["hello", "heartbeat"]
HELLO: Control = "hello"
HEARTBEAT: Control = "heartbeat"

_encode = msgspec.json.Encoder().encode


class Piece:
    """One event on its way to any number of streams, with the labels that its job had right after it."""

    __slots__ = ("_json", "_socket", "_source", "_sse", "event", "labels", "weighed")

    def __init__(self, labelled: Labelled, source: str) -> None:
        self.event: Event = labelled.event
        self.labels: Mapping[str, str] = labelled.labels
        self._source = source
        self._json: bytes | None = None
        self._socket: bytes | None = None
        self._sse: bytes | None = None
        #: For `in_hand`, while a client has still to take it.
        self.weighed: object = None

    @property
    def position(self) -> int:
        return self.event.position

    @property
    def json(self) -> bytes:
        """The CloudEvent."""
        if self._json is None:
            self._json = _encode(frame(self.event, self._source))
        return self._json

    @property
    def socket(self) -> bytes:
        """The CloudEvent as one message of a websocket."""
        if self._socket is None:
            self._socket = socket_frame(self.json)
        return self._socket

    @property
    def sse(self) -> bytes:
        """The CloudEvent as one Server-Sent Event; it has no name, so that `onmessage` gets it."""
        if self._sse is None:
            self._sse = b"id: %d\ndata: %b\n\n" % (self.position, self.json)
        return self._sse


class Told(msgspec.Struct, frozen=True, rename="camel"):
    """What a control frame says.

    All that was wanted up to `position` has been sent: the stream may be resumed from there. `head` is where
    the ledger ended when last looked at; `live`: nothing lies between. Another `epoch` of a ledger means that
    it was restored from a backup, and that positions after that one mean other events.
    """

    position: int
    head: int
    live: bool
    ledger_id: str
    epoch: int


def control(kind: Control, told: Told, *, source: str, frame_id: str) -> bytes:
    """A control frame, as a CloudEvent of a type that no event of the ledger has."""
    found: dict[str, Any] = {
        "specversion": "1.0",
        "id": frame_id,
        "source": source,
        "type": TYPE_PREFIX + kind,
        "datacontenttype": "application/json",
        "data": told,
    }
    return _encode(found)


def socket_frame(text: bytes) -> bytes:
    """One whole text message as a server sends it: not masked, so the same for every client (RFC 6455)."""
    size = len(text)
    if size < 126:
        return bytes((0x81, size)) + text
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + text
    return b"\x81\x7f" + size.to_bytes(8, "big") + text
