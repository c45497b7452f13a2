from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from service.api import readiness
from service.ledger import database, follow, writer
from service.supervisor.data import StoreAccess
from service.supervisor.data.model import Timing
from service.supervisor.data.s3 import faults, store
from service.supervisor.engine import docker, events, pull, wire
from tests.chaos.links.house import Log, captured
from tests.data.server import the_store
from tests.images import import_busybox
from tests.support.chaos import Chaos

#: What notices a cut, and how soon in the short form; the long one goes by what the service is run with.
_QUICK = (
    (database, "ANSWER_TIMEOUT_S", 4.0),
    (database, "IDLE_IN_TRANSACTION_S", 1.0),
    (writer, "PING_S", 0.5),
    (writer, "PING_TIMEOUT_S", 1.0),
    (follow, "PING_S", 0.5),
    (follow, "PING_TIMEOUT_S", 1.0),
    (readiness, "LOOK_TIMEOUT_S", 1.5),
    (wire, "ANSWER_TIMEOUT_S", 2.0),
    (events, "SILENCE_S", 0.5),
    (docker, "LOOK_TIMEOUT_S", 2.5),
    (docker, "CALL_TIMEOUT_S", 4.0),
    (store, "Timing", partial(Timing, call_s=2.0, progress_s=2.0)),
    (pull, "NOTICE_S", 0.5),
    (faults, "NOTICE_S", 0.5),
)


@pytest.fixture(scope="session")
def access() -> Iterator[StoreAccess]:
    with the_store() as found:
        yield found


@pytest.fixture(scope="session")
def busybox(parts: None) -> str:
    return import_busybox()


@pytest.fixture
def quick(chaos: Chaos, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is noticed sooner in the short form."""
    if not chaos.long:
        for module, name, value in _QUICK:
            monkeypatch.setattr(module, name, value)


@pytest.fixture
def log() -> Iterator[Log]:
    with captured() as found:
        yield found
