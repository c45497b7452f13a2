"""How the answers of strangers' HTTP servers are heard: of jobs, registries, stores, webhooks, and the web.

aiohttp takes interim answers (`100 Continue` and the like) without end, and nothing that bounds a request has
its turn while they come. Here they are counted, and of each connection one read is taken a turn.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

from service.paced import rest

#: More than anybody needs before the answer: one `100 Continue`, and some early hints.
MOST_INTERIM = 16
#: So much is looked at at once until the answer has begun. One read may bring 14,000 interim answers, and to
#: make something of all of them to throw it away would take tenths of a second.
HEAD_BYTES = 8192


class NoAnswer(aiohttp.ClientPayloadError):
    """What came is not one answer to what was asked: interim ones without end, or more after it."""


class Heard(ResponseHandler):
    """One connection to a stranger's server."""

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self._interim = 0
        self._answered = self._refused = False

    def set_response_params(self, **how: Any) -> None:
        """A request is about to be sent."""
        self._interim, self._answered = 0, False
        super().set_response_params(**how)

    def data_received(self, data: bytes) -> None:
        left = data
        while len(left) > HEAD_BYTES and not (self._answered or self._refused):
            super().data_received(left[:HEAD_BYTES])
            left = left[HEAD_BYTES:]
        if not self._refused:
            super().data_received(left)
            rest(self, data)

    def feed_data(self, item: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """The head of an answer."""
        if self._refused:
            return
        status = item[0].code
        if 100 <= status < 200 and status != 101:
            self._interim += 1
            if self._interim > MOST_INTERIM:
                self._refuse(f"more than {MOST_INTERIM} interim answers")
                return
        elif self._answered:
            self._refuse("more than one answer")
            return
        else:
            self._answered = True
        super().feed_data(item, size)

    def _refuse(self, why: str) -> None:
        self._refused = True
        self.set_exception(NoAnswer(why))
        if self.transport is not None:
            self.transport.abort()  # what is still to be sent would not be taken either


class Connector(aiohttp.TCPConnector):
    """Connects to strangers."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        heard(self)


def heard(connector: aiohttp.TCPConnector) -> aiohttp.TCPConnector:
    """The connector, from now on one to strangers: for those that somebody else makes."""
    factory: Any = partial(Heard, loop=connector._loop)
    connector._factory = factory
    return connector
