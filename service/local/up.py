"""`python3 -m service up`: the whole service on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, TextIO
from urllib.parse import urlsplit

import asyncssh
import structlog
import typer
import uvloop
from msgspec.structs import replace

from service import app
from service.audit.bucket import open_place
from service.cli import exits
from service.cli.values import state_dir
from service.config import Settings, read_settings, unknown_variables
from service.errors import JobyardError, Misconfigured, Unavailable
from service.ledger import address
from service.ledger.ledger import Ledger
from service.ledger.migrate import migrate
from service.local import first_look, first_run, log_file, ports, stopping
from service.local.log_file import LogFile
from service.local.parts import Parts, local_parts
from service.local.places import Identity, make_state, until_gone
from service.local.workers import workers
from service.memory import collect_seldom
from service.ssh.host_key import host_key
from service.tasks import dropped
from service.telemetry import set_up_logging
from service.vault import MasterKey, SigningKey, master_key, signing_key

UP_JSON = "up.json"
LOG_FILE = "jobyard.log"
_READY_TIMEOUT_S = 60.0

_log = structlog.get_logger()


def up(
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    state: Annotated[
        Path | None, typer.Option(help="Where everything is kept.", metavar="DIR", parser=state_dir)
    ] = None,
    api_workers: Annotated[int | None, typer.Option(help="API processes beside the supervisor.")] = None,
) -> None:
    """Run Jobyard here, with every part that is not configured, until Ctrl-C."""
    try:
        settings = read_settings(os.environ, port=port, host=host, state_dir=state, api_workers=api_workers)
        made = make_state(settings.state_dir)
        with _log_of(settings.state_dir) as log:
            set_up_logging(settings.log_level, log)
            _name_strangers()
            collect_seldom()
            uvloop.run(_up(settings, log, made))
    except JobyardError as error:
        _say(f"jobyard: {error.message}", file=sys.stderr)
        raise typer.Exit(exits.of_error(error)) from None
    except (KeyboardInterrupt, asyncio.CancelledError):  # once it is ready, it ends in order
        _say(
            "Stopped before it was ready, and so is each part that it had started; containers that run "
            "go on, and the next `up` takes them over.",
            file=sys.stderr,
        )
        raise typer.Exit(exits.Exit.INTERRUPTED) from None


def _name_strangers() -> None:
    """Variables that look like settings and are none: whoever set them thinks that they have an effect."""
    for line in unknown_variables(os.environ):
        _log.warning("variable ignored", why=line)
        _say(f"jobyard: {line}", file=sys.stderr)


def _log_of(state: Path) -> AbstractContextManager[LogFile]:
    """The service's log: a file when a person looks at the terminal, else standard error."""
    return log_file.in_state(state / LOG_FILE) if sys.stderr.isatty() else log_file.on_stderr()


async def _up(settings: Settings, log: LogFile, made: Identity | None) -> None:
    """Raises `Misconfigured` when the state directory that was `made` is gone: what goes on would be kept in
    another one, and be lost from view once that is back."""
    stop, state = asyncio.Event(), settings.state_dir
    async with running(settings, log) as ready:
        stopping.listen(stop)
        _say(f"Jobyard is ready at {ready.url}   (API documentation: {ready.url}/docs)")
        _say(ready.ssh)
        for line in ready.beyond:
            _say(f"But {line}")
        for line in await first_look.troubles(ready.url):
            _say(line)
        _say(f"Token and addresses are in {settings.state_dir / UP_JSON}; Ctrl-C stops.")
        is_there = await _until_asked(stop, state, made)
        _say("Stopping; the containers of running jobs go on, and the next `up` takes them over.")
        _say("Open requests are still answered; Ctrl-C once more ends everything at once.")
    if not is_there:
        raise Misconfigured(f"the state directory {state} is not there any more: moved, removed, not mounted")


async def _until_asked(stop: asyncio.Event, state: Path, made: Identity | None) -> bool:
    """Whether the state directory is still there as this ends; it ends when it is not."""
    asked, gone = asyncio.create_task(stop.wait()), asyncio.create_task(until_gone(state, made))
    await asyncio.wait({asked, gone}, return_when=asyncio.FIRST_COMPLETED)
    is_there = not gone.done()
    for task in (asked, gone):
        await dropped(task)
    if not is_there:
        stop.set()  # one Ctrl-C more ends everything at once
        _log.error("state directory gone", path=str(state))
    return is_there


class Running:
    """A service that is ready."""

    def __init__(
        self, url: str, token: str, parts: Parts, ledger: Ledger, ssh: str, beyond: list[str]
    ) -> None:
        self.url = url
        self.ssh = ssh
        self.beyond = beyond
        self.token = token
        self.parts = parts
        self.ledger = ledger


@asynccontextmanager
async def running(settings: Settings, log: LogFile) -> AsyncIterator[Running]:
    """Everything, started in order and stopped in reverse. Ready means: the supervisor has the engine.
    `log`: for the processes of the API, too."""
    configured = first_run.configured_store(os.environ)
    async with AsyncExitStack() as stack:
        basics = _Basics(settings, stack, log)
        parts = await stack.enter_async_context(
            local_parts(
                settings.state_dir,
                database_url=os.environ.get("DATABASE_URL"),
                docker_host=os.environ.get("DOCKER_HOST") or None,  # empty is unset, as to `docker`
                store=configured is None,
                engine_stays_in_use=True,
                say=_say,
                first=basics.settle,
            )
        )
        path = settings.state_dir / UP_JSON
        path.unlink(missing_ok=True)  # of one that was killed: what it says is no longer so
        s3 = configured or parts.s3
        for name in ("JOBYARD_MIGRATION_URL", "DATABASE_URL"):
            if (url := os.environ.get(name)) is not None:
                await address.require(name, url)
        await migrate(os.environ.get("JOBYARD_MIGRATION_URL", parts.database_url))
        ledger = await stack.enter_async_context(Ledger.open(parts.database_url, basics.master))
        token = await first_run.prepare(ledger, settings, s3)
        duty = app.Duty()
        port: int = basics.listening.getsockname()[1]
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"  # noqa: S104
        settings = replace(settings, public_url=settings.public_url or url)
        settings = replace(settings, ssh_address=_ssh_address(settings, basics))
        await _serve(stack, settings, ledger, parts, basics, duty)
        supervising = app.supervision(settings, ledger, parts.docker_host, duty)
        supervisor = await stack.enter_async_context(supervising)
        await stack.enter_async_context(app.checkpoints(settings, ledger, basics.signing, duty))
        await _until_ready(supervisor.ready)
        first_run.write_private(
            path, first_run.up_json(url, token, parts.docker_host, parts.database_url, s3)
        )
        stack.callback(path.unlink, missing_ok=True)
        yield Running(url, token, parts, ledger, _ssh_said(settings, basics), await _beyond(duty, settings))


class _Basics:
    """What an operator most often gets wrong, settled before any part is started: the ports and the keys."""

    listening: socket.socket
    master: MasterKey
    signing: SigningKey
    #: Of SSH, when it is on: its socket and its host key.
    ssh: tuple[socket.socket, asyncssh.SSHKey] | None = None

    def __init__(self, settings: Settings, stack: AsyncExitStack, log: LogFile) -> None:
        self.log = log
        self._settings = settings
        self._stack = stack

    def settle(self) -> None:
        """Takes the ports, which nobody is answered on yet, and reads or makes the keys.

        Raises Misconfigured or Unavailable, in one line.
        """
        here = self._settings
        self.master = master_key(os.environ.get("JOBYARD_MASTER_KEY"), here.master_key_file)
        self.signing = signing_key(here.checkpoint_key or None, here.checkpoint_key_file)
        open_place(here.checkpoints, here.checkpoint_s3)
        self.listening = self._taken(here.host, here.port, "port", "give --port")
        if (at := here.ssh_listens) is not None:
            otherwise = "set JOBYARD_SSH_PORT to another, or to off"
            self.ssh = self._taken(*at, "SSH port", otherwise), host_key(here.ssh_key_file)

    def _taken(self, host: str, port: int, what: str, otherwise: str) -> socket.socket:
        try:
            if self._settings.api_workers > 1:
                return ports.shared(host, port, self._stack)
            made = app.listening_socket(host, port, shared=False)
        except OSError as error:
            raise Misconfigured(
                f"{what} {port} of {host} cannot be used: {error.strerror}; {otherwise}"
            ) from error
        self._stack.callback(made.close)
        return made


def _ssh_address(settings: Settings, basics: _Basics) -> str:
    """Where clients reach SSH: as it was configured, or at the API's public host. Empty when it is off."""
    if basics.ssh is None:
        return ""
    host = urlsplit(settings.public_url).hostname or settings.host
    port = basics.ssh[0].getsockname()[1]
    return settings.ssh_address or f"{f'[{host}]' if ':' in host else host}:{port}"


def _ssh_said(settings: Settings, basics: _Basics) -> str:
    if basics.ssh is None:
        return "SSH is off (JOBYARD_SSH_PORT)."
    socket, key = basics.ssh
    host, port = socket.getsockname()[:2]
    fingerprint = key.get_fingerprint()
    _log.info("ssh listens", host=host, port=port, address=settings.ssh_address, host_key=fingerprint)
    return f"SSH into jobs listens at {host} port {port}; its host key is {fingerprint}"


async def _serve(
    stack: AsyncExitStack,
    settings: Settings,
    ledger: Ledger,
    parts: Parts,
    basics: _Basics,
    duty: app.Duty,
) -> None:
    """The API and SSH, in this process or in several others."""
    engine, ssh = parts.docker_host, basics.ssh
    if settings.api_workers > 1:
        own = basics.listening.getsockname()[1], None if ssh is None else ssh[0].getsockname()[1]
        await stack.enter_async_context(workers(settings, parts.database_url, engine, *own, basics.log))
        return
    await stack.enter_async_context(app.api(settings, ledger, basics.listening, engine, duty))
    if ssh is not None:
        await stack.enter_async_context(app.ssh(ledger, ssh[0], engine, ssh[1]))


async def _until_ready(ready: asyncio.Event) -> None:
    """The lease of a supervisor that was killed on another host is waited for, and that is said."""
    try:
        async with asyncio.timeout(3):
            await ready.wait()
        return
    except TimeoutError:
        _say("Waiting for the engine: another supervisor held it until just now ...")
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S):
            await ready.wait()
    except TimeoutError:
        raise Misconfigured(
            "another supervisor holds this engine for the same ledger, or the engine does not answer"
        ) from None


async def _beyond(duty: app.Duty, settings: Settings) -> list[str]:
    """What is promised and not there. An engine that does not answer just now is told of by others."""
    try:
        return await duty.beyond(settings)
    except Unavailable as error:
        _log.warning("not compared with what the engine has", error=error.message)
        return []


def _say(text: str, file: TextIO | None = None) -> None:
    """Whoever read it may have gone, as `tee` has at Ctrl-C: then what is under way goes on, unsaid."""
    stream = file or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())  # or Python would complain of it at its end
    except OSError:
        pass  # a full disk, say: it may have room again for the next
