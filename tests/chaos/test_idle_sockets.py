"""Ten thousand sockets that ask nothing: who asks something is answered as before, and all are let go.

The service is a process of its own, as a user has it; its kernel's books say what it holds.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from service.api.door import Door
from service.domain import commands as cmd
from service.ledger.ledger import Ledger
from service.vault import master_key
from tests.api.process import Service, nothing, serving
from tests.api.yard import OPERATOR, SPEC, furnish, make_token
from tests.support.chaos import Chaos
from tests.support.waiting import DEADLINE_S, until

SOCKETS = 10_000
#: Until all are held, or let go, of the one of both that never comes.
IN_VAIN_S = 2.0
#: Requests of somebody else meanwhile.
BESIDE = 20
#: The project of theirs, with room for every job.
WIDE = "wide"
#: How often all come and go; what was kept of the first ones shows when the next ones come.
WAVES = 2
#: What a socket may leave in memory, on the average: allocators keep some of what was given back.
LEFT_BYTES = 500
#: The state of a socket that takes connections, in the kernel's table.
_LISTENS = "0A"
#: Run by a process of its own, as a process may have 20,000 descriptors or fewer. Half of its sockets say
#: nothing, half stop in the middle of a head, but for one in twenty that is answered once and kept: so no
#: more come than the service takes, or the kernel would have each of the others wait for a second.
_CLIENT = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held = []
for number in range(int(sys.argv[2])):
    held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    try:
        if number % 20 == 0:
            held[-1].sendall(b"GET /healthz HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
            held[-1].recv(4096)
        elif number % 2:
            held[-1].sendall(b"GET /v1/jo")
    except OSError:
        pass  # who is turned away is not held, and not counted
print("open", flush=True)
sys.stdin.read()
"""


@dataclass
class Seen:
    """Of one service: its memory before any came, and with each wave that was there; what was answered to
    others meanwhile, and after how long."""

    rss_bytes: int
    rss_during: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    waits_ms: list[float] = field(default_factory=list)

    def bytes_each(self, count: int) -> int:
        """Memory of the service that an idle socket takes."""
        return (self.rss_during[0] - self.rss_bytes) // count

    def left_each(self, count: int) -> int:
        """Memory of the service that each socket of a wave left to the next."""
        return (self.rss_during[-1] - self.rss_during[0]) // ((len(self.rss_during) - 1) * count)


async def test_ten_thousand_idle_sockets_cost_nobody_anything(
    database_url: str, tmp_path: Path, chaos: Chaos
) -> None:
    seen = await attack(database_url, tmp_path, SOCKETS, chaos.times(short=WAVES, long=4 * WAVES))
    chaos.told(
        "idle sockets",
        held=SOCKETS,
        waves=len(seen.rss_during),
        bytes_each=seen.bytes_each(SOCKETS),
        left_bytes_each=seen.left_each(SOCKETS),
        requests_beside=len(seen.statuses),
        refused=sum(status != 200 for status in seen.statuses),
        median_ms=round(statistics.median(seen.waits_ms)),
        slowest_ms=round(max(seen.waits_ms)),
    )


def _keeps_what_has_gone() -> None:
    """Plant it: each connection's parts are remembered for ever."""
    kept: list[Door] = []
    gone = Door.connection_lost

    def connection_lost(door: Door, error: BaseException | None) -> None:
        kept.append(door)
        gone(door, error)

    Door.connection_lost = connection_lost  # type: ignore[method-assign,assignment]


def _hears_no_end() -> None:
    """Plant it: a client that has ended its side is waited for all the same."""
    Door.eof_received = lambda _door: True  # type: ignore[method-assign,assignment]


@pytest.mark.parametrize(
    ("planted", "environment", "deadlines", "found"),
    [
        (nothing, {"JOBYARD_MAX_CONNECTIONS": "1000"}, {"held_s": IN_VAIN_S}, "every socket held"),
        (_hears_no_end, {}, {"gone_s": IN_VAIN_S}, "every socket let go"),
        (_keeps_what_has_gone, {}, {}, "bytes of memory a socket"),
    ],
    ids=["holds-fewer", "hears-no-end", "keeps-memory"],
)
async def test_of_the_test_what_is_planted_is_found(
    database_url: str,
    tmp_path: Path,
    planted: Callable[[], None],
    environment: Mapping[str, str],
    deadlines: Mapping[str, float],
    found: str,
) -> None:
    with pytest.raises(AssertionError, match=found):
        await attack(database_url, tmp_path, 2000, 2, environment, planted, **deadlines)


async def attack(
    database: str,
    state: Path,
    count: int,
    waves: int,
    environment: Mapping[str, str] | None = None,
    planted: Callable[[], None] = nothing,
    held_s: float = DEADLINE_S,
    gone_s: float = DEADLINE_S,
) -> Seen:
    """So many sockets at a time, so often; fails if they are not held, cost others an answer, or leave
    anything behind. `held_s` and `gone_s`: the deadlines of the two moments that are waited for."""
    async with Ledger.open(database, master_key(None, state / "master.key")) as ledger:
        await furnish(ledger)
        await ledger.submit(cmd.CreateProject(project=WIDE, name="Wide", cpu=10_000, gpu=0), actor="test")
        token, _ = await make_token(ledger, OPERATOR, OPERATOR, project=WIDE)
    async with (
        serving(database, state, environment, planted) as service,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http,
    ):
        await _ask(http, service, Seen(0))  # what is made at the first request is made
        seen = Seen(_rss_bytes(service))
        for _ in range(waves):
            await _wave(http, service, seen, count, held_s, gone_s)
    assert seen.left_each(count) < LEFT_BYTES, f"{seen.left_each(count)} bytes of memory a socket are left"
    assert set(seen.statuses) == {200}
    return seen


async def _wave(
    http: aiohttp.ClientSession, service: Service, seen: Seen, count: int, held_s: float, gone_s: float
) -> None:
    port = service.url.rpartition(":")[2]
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CLIENT, port, str(count), stdin=PIPE, stdout=PIPE
    )
    try:
        assert client.stdin is not None and client.stdout is not None
        assert await client.stdout.readline() == b"open\n"
        await until(lambda: _held(service) >= count, held_s, what="every socket held")
        for _ in range(BESIDE):
            await _ask(http, service, seen)
        seen.rss_during.append(_rss_bytes(service))
        assert _held(service) >= count, "some were given up meanwhile"
        client.stdin.close()  # `communicate` without input leaves it open before Python 3.12
        await client.wait()
        await until(lambda: not _held(service), gone_s, what="every socket let go")
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()


async def _ask(http: aiohttp.ClientSession, service: Service, seen: Seen) -> None:
    """Submit a job on a connection of its own."""
    started = time.perf_counter()
    async with http.post(f"{service.url}/v1/job", json=SPEC, headers={"Connection": "close"}) as answer:
        await answer.read()
    seen.statuses.append(answer.status)
    seen.waits_ms.append((time.perf_counter() - started) * 1000)


def _held(service: Service) -> int:
    """Connections that the service has taken and not given back, as the kernel's table has them."""
    port = int(service.url.rpartition(":")[2])
    here = f"0100007F:{port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines())
    # The fields: local address, state, inode. One that nobody took yet, or nobody has any more, has no inode.
    return sum(row[1] == here and row[3] != _LISTENS and row[9] != "0" for row in rows)


def _rss_bytes(service: Service) -> int:
    """The service's memory in use."""
    status = Path(f"/proc/{service.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024
