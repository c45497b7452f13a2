"""The SSH server: its listening socket, its bounds, and the look after jobs that end meanwhile."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import asyncssh
import structlog

from service.errors import Unavailable
from service.held import Room
from service.rate import Rates
from service.ssh.entrance import Entrance
from service.ssh.ports import SshParts

LOGIN_S = 30
#: A peer that is silent for so many of these is gone.
KEEPALIVE_S, KEEPALIVES = 60, 5
#: Connections that have not said who they are: in all, and from one address.
MOST_STRANGERS, MOST_STRANGERS_OF_ONE = 64, 16
MOST_OF_ONE_JOB = 32
#: What waits on all connections together, either way. A channel alone may have 1.3 MiB, as an upload has
#: that is faster than its disk, a connection 95 MiB, and a job 3 GiB: this is for some 200 such uploads at
#: once, and little beside what the process takes anyway.
MOST_IN_HAND_BYTES = 256 * 1024**2
#: Sessions and forwards of one job, as each is an event in the ledger for ever. An editor opens a dozen at
#: once, a browser's forwards are some dozens more, and whoever connects anew for each file does not come to
#: ten a second: the keys, the container and the ledger take longer.
OPENED_PER_S, OPENED_AT_ONCE = 10, 100
BACKLOG = 128
LOOK_S, PAUSE_S = 1.0, 0.2
CLOSE_S = 10.0

_CIPHERS = (
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
_SIGNATURES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ecdsa-sha2-nistp521",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp256",
    "rsa-sha2-512",
    "rsa-sha2-256",
)

_log = structlog.get_logger()


class Gateway:
    """One process's SSH server. Use `gateway` to have one."""

    def __init__(self, parts: SshParts) -> None:
        self.parts = parts
        self.held = Room(MOST_IN_HAND_BYTES)
        self.openings = Rates(OPENED_PER_S, OPENED_AT_ONCE, time.monotonic)
        self._strangers: set[Entrance] = set()
        self._in: set[Entrance] = set()
        self._work: set[asyncio.Task[None]] = set()

    async def listen(self, listening: socket.socket) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            sock=listening,
            backlog=BACKLOG,
            server_factory=lambda: Entrance(self),
            server_host_keys=[self.parts.host_key],
            server_version="Jobyard",
            login_timeout=LOGIN_S,
            keepalive_interval=KEEPALIVE_S,
            keepalive_count_max=KEEPALIVES,
            encryption_algs=_CIPHERS,
            signature_algs=_SIGNATURES,
            compression_algs=["none"],
            public_key_auth=True,
            password_auth=False,
            kbdint_auth=False,
            host_based_auth=False,
            gss_host=None,
            agent_forwarding=False,
            x11_forwarding=False,
            allow_scp=False,
            line_editor=False,
            encoding=None,
        )

    # -- what connections tell ----------------------------------------------------------------------

    def arrived(self, entrance: Entrance) -> bool:
        of_one = Counter(each.peer for each in self._strangers)[entrance.peer]
        if len(self._strangers) >= MOST_STRANGERS or of_one >= MOST_STRANGERS_OF_ONE:
            return False
        self._strangers.add(entrance)
        return True

    def entered(self, entrance: Entrance) -> bool:
        self._strangers.discard(entrance)
        of_one = sum(each.guest.job == entrance.guest.job for each in self._in)
        if of_one >= MOST_OF_ONE_JOB:
            return False
        self._in.add(entrance)
        return True

    def opens(self, entrance: Entrance) -> None:
        many = f"{OPENED_PER_S} sessions and forwards a second, and {OPENED_AT_ONCE} at once"
        self.openings.check(str(entrance.guest.job), f"a job has at most {many}, opened by SSH")

    def left(self, entrance: Entrance) -> None:
        self._strangers.discard(entrance)
        self._in.discard(entrance)

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self._work.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("ssh session failed", exc_info=error)

    # -- jobs that end ------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Close the connections of jobs that can be reached no more, and see what waits, again and again."""
        ledger = self.parts.ledger
        while True:
            hints = ledger.listener.hints
            try:
                await self.look()
            except Unavailable as error:
                _log.warning("ssh watch interrupted", error=error.message)
            except Exception:  # noqa: BLE001 (without it who is in would stay when the job has ended)
                _log.exception("ssh watch failed; it looks again")
            await asyncio.sleep(PAUSE_S)
            await ledger.listener.moved(hints, LOOK_S)

    async def look(self) -> None:
        """One look at all jobs that somebody is in, and at what has gone out of their sockets by itself."""
        for entrance in list(self._in):
            entrance.hand.count()
        there = {entrance.guest.job for entrance in self._in}
        if not there:
            return
        jobs = {job.id: job for job in await self.parts.ledger.jobs_of(there)}
        for entrance in list(self._in):
            job = entrance.guest.job
            if job in there and not entrance.guest.may_stay(jobs.get(job)):
                self._in.discard(entrance)
                _log.info("ssh ended", job=str(job), run=entrance.guest.run, peer=entrance.peer)
                entrance.end("the job has ended")

    async def close(self) -> None:
        """End all connections, and what they have begun in containers."""
        for entrance in [*self._in, *self._strangers]:
            entrance.end("the service closes")
        try:
            async with asyncio.timeout(CLOSE_S):
                while self._work:
                    await asyncio.wait(self._work)
        except TimeoutError:
            left = list(self._work)
            _log.warning("ssh sessions left behind", count=len(left))
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


@asynccontextmanager
async def gateway(parts: SshParts, listening: socket.socket) -> AsyncIterator[Gateway]:
    """Serve SSH on a socket while the context lasts."""
    made = Gateway(parts)
    acceptor = await made.listen(listening)
    watching = asyncio.create_task(made.watch())
    try:
        yield made
    finally:
        acceptor.close()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await made.close()
