"""How much one token may ask of this process: requests a second, requests at once, open streams.

What goes beyond is refused at once, with the time after which it would be let in, so that nobody else waits
for one who asks too much. Each API process counts for itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiohttp import web

from service.api import handshake
from service.errors import TooMany

#: So many tokens are counted at most; those that were idle long enough to owe nothing go first.
MOST_KEPT = 10_000
#: Sums of times are off by less: who comes exactly when he was told to is let in.
_ROUNDING_S = 1e-6
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
    """`owed_at`: when, at the agreed rate, all that was let in will have been due."""

    owed_at: float = 0.0
    working: int = 0
    streaming: int = 0


class Limits:
    """`clock` is monotonic, in seconds."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float]) -> None:
        self._bounds = bounds
        self._clock = clock
        self._uses: dict[str, _Use] = {}

    @contextmanager
    def admitted(self, token_id: str, *, stream: bool) -> Iterator[None]:
        """One request while it is worked on, and until its answer is sent. Raises `TooMany`.

        What is refused counts for nothing: who keeps asking is let in again when it is time.
        """
        use = self._use(token_id)
        self._check_room(use, stream=stream)
        self._check_rate(use)
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

    def _check_room(self, use: _Use, *, stream: bool) -> None:
        open_now, most = (
            (use.streaming, self._bounds.streams) if stream else (use.working, self._bounds.at_once)
        )
        if open_now >= most:
            what = "streams open" if stream else "requests at once"
            raise TooMany(f"this token has {open_now} {what}, and may have {most}", BUSY_S)

    def _check_rate(self, use: _Use) -> None:
        rate = self._bounds.per_second
        if not rate:
            return
        now, burst_s = self._clock(), max(2.0, 1 / rate)
        owed_at = max(use.owed_at, now) + 1 / rate
        wait_s = owed_at - now - burst_s
        if wait_s > _ROUNDING_S:
            raise TooMany(f"this token asks more than {rate:g} times a second", math.ceil(wait_s))
        use.owed_at = owed_at

    def _use(self, token_id: str) -> _Use:
        use = self._uses.get(token_id)
        if use is None:
            if len(self._uses) >= MOST_KEPT:
                self._tidy()
            use = self._uses[token_id] = _Use()
        return use

    def _tidy(self) -> None:
        """Forget who has nothing open and owes nothing."""
        now = self._clock()
        self._uses = {
            token: use
            for token, use in self._uses.items()
            if use.working or use.streaming or use.owed_at > now
        }


def wants_stream(request: web.Request) -> bool:
    """Whether an answer that goes on until somebody ends it is asked for, where there is one."""
    return (
        handshake.is_socket(request)
        or request.query.get("follow", "false").lower() not in ("", "false")
        or handshake.is_event_stream(request)
    )
