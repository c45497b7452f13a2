"""What an unexpected answer of the engine means."""

from __future__ import annotations

import pytest

from service.errors import EngineAway, EngineError, NodeFull
from service.supervisor.engine.wire import Answer, refused

DIAL = (
    'connection error: desc = "transport: Error while dialing dial unix /run/containerd/containerd.sock: '
    'connect: connection refused": unavailable'
)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (500, DIAL, EngineAway),
        (500, "error reading from server: EOF: unavailable", EngineAway),
        (503, "starting", EngineAway),
        (500, "mkdir /x: no space left on device", NodeFull),
        (500, "failed to start shim: mkdir /x: file exists: unknown", EngineError),
        (500, "the image says: connection error", EngineError),
        (404, DIAL, EngineError),
    ],
)
def test_an_engine_that_is_not_whole_is_waited_for(status: int, message: str, kind: type[Exception]) -> None:
    error = refused("start a", Answer(status, {"message": message}))
    assert type(error) is kind
    assert "containerd.sock" not in str(error) or kind is EngineError
