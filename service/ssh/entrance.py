"""One connection: who is let in, and what they may open. One object a connection, called by asyncssh."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from functools import partial
from typing import Any, Protocol

import asyncssh
import structlog

from service.domain.events import Session as Kind
from service.errors import JobyardError, TooMany, Unavailable
from service.held import Room
from service.ssh.forward import OWN_HOSTS, Connection, Forward
from service.ssh.guests import Guest, Refused, admit, record
from service.ssh.in_hand import InHand
from service.ssh.ports import SshParts
from service.ssh.reading import Reading
from service.ssh.sending import Sending
from service.ssh.session import Session
from service.ssh.talk import LEAST_PACKET_BYTES

#: Keys that a client may offer; an agent may hold many.
MOST_TRIES = 20
MOST_SESSIONS = 10
MOST_FORWARDS = 64
#: How far a client may be ahead on a channel.
WINDOW_BYTES = 1024**2

TOO_MUCH = "too much waits on all connections together, and on those of its project the most"

PROHIBITED = asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
SHORT, FAILED = asyncssh.OPEN_RESOURCE_SHORTAGE, asyncssh.OPEN_CONNECT_FAILED

_log = structlog.get_logger()


class Hall(Protocol):
    """The gateway, as its connections see it."""

    @property
    def parts(self) -> SshParts: ...

    @property
    def held(self) -> Room:
        """What all connections have in hand, by their jobs' projects."""

    def arrived(self, entrance: Entrance) -> bool:
        """Whether there is room for one more that has not said who it is."""

    def entered(self, entrance: Entrance) -> bool:
        """Whether there is room for one more of its job."""

    def opens(self, entrance: Entrance) -> None:
        """Something is about to be opened in its job. Raises `TooMany`."""

    def left(self, entrance: Entrance) -> None: ...

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...


class Entrance(asyncssh.SSHServer):
    """`guest` once somebody was let in; `free` while its line takes what is sent; `hand` is what waits."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall
        self._conn: Any = None
        self._sending: Sending | None = None
        self._hand: InHand | None = None
        self._candidate: tuple[str, Guest] | None = None
        self._guest: Guest | None = None
        self._why = "no key was offered"
        self._tries = 0
        self._sessions = 0
        self._ports: set[int] = set()
        self._recording = asyncio.Lock()
        self._forwards = 0
        self._works = 0
        self._lost = False
        self.user = self.peer = ""

    @property
    def parts(self) -> SshParts:
        return self._hall.parts

    @property
    def free(self) -> asyncio.Event:
        if self._sending is None:
            raise LookupError("there is no connection yet")
        return self._sending.free

    @property
    def hand(self) -> InHand:
        if self._hand is None:
            raise LookupError("there is no connection yet")
        return self._hand

    @property
    def guest(self) -> Guest:
        if self._guest is None:
            raise LookupError("nobody was let in")
        return self._guest

    @property
    def is_in(self) -> bool:
        return self._guest is not None

    # -- the connection -----------------------------------------------------------------------------

    def connection_made(self, conn: Any) -> None:
        self._conn = conn
        address = conn.get_extra_info("peername")
        self.peer = address[0] if address else ""
        self._sending = Sending(conn, self._cut)
        self._hand = InHand(self._sending)
        conn._transport.set_protocol(Reading(conn, self._hand.count))
        if not self._hall.arrived(self):
            self._why = "too many connections that have not said who they are"
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        if self._sending is not None:
            self._sending.stop()
        if self._hand is not None:
            self._hand.leave()
        self._leave_if_over()
        if self._guest is None:
            said = {} if exc is None else {"error": str(exc)[:200]}
            _log.info("ssh refused", user=self.user, peer=self.peer, why=self._why, tries=self._tries, **said)

    def end(self, why: str) -> None:
        """Close it, and say why to a client that listens."""
        if self._lost:
            return
        self._conn.disconnect(asyncssh.DISC_BY_APPLICATION, why)

    def _cut(self, why: str) -> None:
        """Close it, and say why to the log: a client that does what this is for does not listen."""
        self._why = why
        if self._guest is not None:
            job, run, key = str(self._guest.job), self._guest.run, self._guest.fingerprint
            held = self.hand.bytes
            _log.warning("ssh cut", job=job, run=run, key=key, peer=self.peer, why=why, held_bytes=held)
        self._conn.abort()

    # -- who it is ----------------------------------------------------------------------------------

    def begin_auth(self, username: str) -> bool:
        self.user = username[:64]
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether a key may be used; that its owner is there, asyncssh looks at."""
        self._candidate = None
        self._tries += 1
        if self._tries > MOST_TRIES:
            self._why = "too many keys were offered"
            self._conn.abort()
            return False
        try:
            guest = await admit(self.parts.ledger, username, key.public_data, self.peer or None)
        except Refused as error:
            self._why = f"{error} ({key.get_fingerprint()})"
            return False
        except Unavailable as error:
            self._why = f"who may come in cannot be read: {error.message}"
            return False
        self._candidate = username, guest
        self._why = "the key was not proved"
        return True

    def auth_completed(self) -> None:
        username, guest = self._candidate or ("", None)
        if guest is None or username != self._conn.get_extra_info("username"):
            self._conn.abort()
            return
        self._guest = guest
        if not self._hall.entered(self):
            self._conn.disconnect(asyncssh.DISC_TOO_MANY_CONNECTIONS, "the job has too many SSH connections")
            return
        self.hand.enter(self._hall.held, guest.project, partial(self._cut, TOO_MUCH))

    # -- what they open -----------------------------------------------------------------------------

    def session_requested(self) -> Any:
        if self._guest is None:
            raise asyncssh.ChannelOpenError(PROHIBITED, "nobody was let in")
        if self._sessions >= MOST_SESSIONS:
            raise asyncssh.ChannelOpenError(SHORT, f"at most {MOST_SESSIONS} sessions a connection")
        self._sessions += 1
        chan = self._conn.create_server_channel(window=WINDOW_BYTES)
        return chan, self._session(chan)

    async def _session(self, chan: Any) -> Session:
        try:
            _check(chan)
        except asyncssh.ChannelOpenError:
            self.session_over()
            raise
        return Session(self)

    async def record(self, kind: Kind, words: list[str], *, tty: bool) -> None:
        """Put what is about to be done into the ledger. Raises `TooMany`, and what refused it."""
        self._hall.opens(self)
        await record(self.parts.ledger, self.guest, kind, words, tty=tty)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._works += 1
        self._hall.begin(work).add_done_callback(self._work_over)

    def _work_over(self, _: asyncio.Task[None]) -> None:
        self._works -= 1
        self._leave_if_over()

    def _leave_if_over(self) -> None:
        """Its place is free once what it began has ended: who comes and goes would have any number."""
        if self._lost and not self._works:
            self._hall.left(self)

    def session_over(self) -> None:
        self._sessions -= 1

    def connection_requested(self, dest_host: str, dest_port: int, _orig_host: str, _orig_port: int) -> Any:
        if self._guest is None or dest_host.lower() not in OWN_HOSTS or not 0 < dest_port < 65_536:
            allowed = ", ".join(sorted(OWN_HOSTS, reverse=True))
            raise asyncssh.ChannelOpenError(PROHIBITED, f"only to a port of the job itself: {allowed}")
        if self._forwards >= MOST_FORWARDS:
            raise asyncssh.ChannelOpenError(SHORT, f"at most {MOST_FORWARDS} forwards a connection")
        self._forwards += 1
        chan = self._conn.create_tcp_channel(window=WINDOW_BYTES)
        return chan, self._forward(chan, dest_port)

    async def _forward(self, chan: Any, port: int) -> Forward:
        handed_on = False
        try:
            _check(chan)
            await self._recorded(port)
            far = Connection(await self.parts.inside.connect(self.guest.container_id, port))
            if self._lost:
                far.close()
                raise asyncssh.ChannelOpenError(FAILED, "the connection was lost")
            forward = Forward(self, far)
            self.begin(self._forwarded(forward, port))
            handed_on = True
            return forward
        except (OSError, TimeoutError) as error:
            text = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "no answer"
            raise asyncssh.ChannelOpenError(FAILED, f"port {port} of the job: {text}") from error
        except JobyardError as error:
            code = SHORT if isinstance(error, TooMany) else FAILED
            raise asyncssh.ChannelOpenError(code, error.message) from error
        finally:
            if not handed_on:
                self._forwards -= 1

    async def _recorded(self, port: int) -> None:
        """Once a connection and port: what a browser opens through one forward is one thing."""
        async with self._recording:
            if port not in self._ports:
                await self.record("forward", [str(port)], tty=False)
                self._ports.add(port)

    async def _forwarded(self, forward: Forward, port: int) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            try:
                await forward.run()
            finally:
                ms = round((loop.time() - began) * 1000, 2)
            await forward.gone.wait()  # what its client has not taken is kept, though the far end is gone
        finally:
            self._forwards -= 1
            _log.info(
                "ssh session",
                job=str(self.guest.job),
                run=self.guest.run,
                key=self.guest.fingerprint,
                peer=self.peer,
                kind="forward",
                port=port,
                sent_bytes=forward.sent_bytes,
                received_bytes=forward.received_bytes,
                ms=ms,
            )


def _check(chan: Any) -> None:
    """Raises `ChannelOpenError`. What a client takes at a time is not known before a session is asked for."""
    if (most := chan._send_pktsize) < LEAST_PACKET_BYTES:
        why = f"packets of at least {LEAST_PACKET_BYTES} bytes must be taken, not of at most {most}"
        raise asyncssh.ChannelOpenError(PROHIBITED, why)
