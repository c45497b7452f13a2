"""How much one token may ask of this process: requests a second, requests at once, open streams.

What goes beyond is refused at once, with the time after which it would be let in, so that nobody else waits
for one who asks too much. Each API process counts for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiohttp import web

from service.api import handshake
from service.errors import TooMany
from service.rate import Rates

#: When an answer or a stream of one's own may be expected to have ended.
BUSY_S = 1


@dataclass(frozen=True)
class Bounds:
    """Of one token. `per_second` in the long run, and a burst of twice that many; 0: no bound."""

    per_second: float
    at_once: int
    streams: int


@dataclass
class _Use:
    """What a token has open now."""

    working: int = 0
    streaming: int = 0


class Limits:
    """`clock` is monotonic, in seconds."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float]) -> None:
        self._bounds = bounds
        rate = bounds.per_second
        self._rates = Rates(rate, max(2 * rate, 1), clock) if rate else None
        self._uses: dict[str, _Use] = {}

    @contextmanager
    def admitted(self, token_id: str, *, stream: bool) -> Iterator[None]:
        """One request while it is worked on, and until its answer is sent. Raises `TooMany`.

        What is refused counts for nothing: who keeps asking is let in again when it is time.
        """
        use = self._uses.get(token_id) or _Use()
        self._check_room(use, stream=stream)
        if self._rates is not None:
            asked = f"this token asks more than {self._bounds.per_second:g} times a second"
            self._rates.check(token_id, asked)
        self._uses[token_id] = use
        if stream:
            use.streaming += 1
        else:
            use.working += 1
        try:
            yield
        finally:
            if stream:
                use.streaming -= 1
            else:
                use.working -= 1
            if not (use.working or use.streaming):
                del self._uses[token_id]

    def _check_room(self, use: _Use, *, stream: bool) -> None:
        open_now, most = (
            (use.streaming, self._bounds.streams) if stream else (use.working, self._bounds.at_once)
        )
        if open_now >= most:
            what = "streams open" if stream else "requests at once"
            raise TooMany(f"this token has {open_now} {what}, and may have {most}", BUSY_S)


def wants_stream(request: web.Request) -> bool:
    """Whether an answer that goes on until somebody ends it is asked for, where there is one."""
    return (
        handshake.is_socket(request)
        or request.query.get("follow", "false").lower() not in ("", "false")
        or handshake.is_event_stream(request)
    )
