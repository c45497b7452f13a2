"""Child processes that outlive us on purpose, and that are only ever signalled if they are still ours.

A part (dockerd, Postgres, rclone) runs in its own session. If Jobyard is killed, the part lives on and
the next run finds it by its pidfile. A pid alone proves nothing, as the kernel gives pids out again: the
pidfile also holds the boot and the start time, and signals go through a pidfd, which cannot be reused.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from service.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LOG_LIMIT_BYTES = 16 * 1024 * 1024

# The child writes its own pidfile (open as its standard input) and only then becomes the program, so it
# never runs unrecorded, wherever we are killed; exec keeps the pid and the start time.
_RECORD_THEN_EXEC = """
read -r boot < /proc/sys/kernel/random/boot_id
read -r stat < /proc/$$/stat
printf '%s\\n%s\\n' "$boot" "$stat" >&0 || exit 1
exec "$@" < /dev/null
"""


@dataclass(frozen=True)
class User:
    """Whom a part runs as. `uid` and `gid` are numbers of this machine."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Process:
    """A process that we started, in this run or in an earlier one that was killed.

    `started` is field 22 of /proc/<pid>/stat: clock ticks since the boot.
    """

    name: str
    pid: int
    started: int

    def is_alive(self) -> bool:
        _reap(self.pid)
        return start_time(self.pid) == self.started

    def send(self, number: signal.Signals) -> bool:
        """Sends `number` to this very process; False if it is gone (its pid may be another's by now)."""
        with contextlib.suppress(ProcessLookupError), _pidfd(self.pid) as handle:
            # The handle is bound to whoever holds the pid now; the check tells whether that is ours.
            if start_time(self.pid) == self.started:
                signal.pidfd_send_signal(handle, number)
                return True
        return False

    async def stop(self, number: signal.Signals = signal.SIGTERM, *, grace_s: float = 10) -> None:
        """Asks with `number`, and kills after `grace_s`. Returns when it is gone.

        Raises Unavailable if even SIGKILL does not end it (it hangs in the kernel).
        """
        if not self.send(number) or await self.ended(grace_s):
            return
        self.send(signal.SIGKILL)
        if not await self.ended(10):
            raise Unavailable(f"{self.name} (process {self.pid}) does not end, not even by SIGKILL")

    async def ended(self, timeout_s: float) -> bool:
        """Waits until it has ended; False if it still lives after `timeout_s`."""
        if not self.is_alive():
            return True
        gone = asyncio.Event()
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ProcessLookupError), _pidfd(self.pid) as handle:
            loop.add_reader(handle, gone.set)  # a pidfd becomes readable at the end of its process
            try:
                async with asyncio.timeout(timeout_s):
                    await gone.wait()
            except TimeoutError:
                return not self.is_alive()
            finally:
                loop.remove_reader(handle)
        return not self.is_alive()


def start(
    name: str,
    command: Sequence[str],
    *,
    pidfile: Path,
    log: Path,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: User | None = None,
) -> Process:
    """Starts `command` in its own session, output appended to `log`. `user`: as another user (root only)."""
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    with pidfile.open("w") as record, log.open("ab") as output, _hung_up_on():
        child = subprocess.Popen(
            ["/bin/sh", "-c", _RECORD_THEN_EXEC, "sh", *command],
            stdin=record,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(os.environ if environ is None else environ),
            cwd=cwd,
            start_new_session=True,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
    started = start_time(child.pid, even_a_zombie=True)
    child.returncode = 0  # it is ours to reap, in is_alive; Popen must not warn that it still runs
    if started is None:
        raise Unavailable(f"{name} could not be started")
    return Process(name, child.pid, started)


def log_size(log: Path) -> int:
    """To be kept before a start, for `said_since`."""
    return log.stat().st_size if log.exists() else 0


def said_since(log: Path, byte: int) -> str:
    """What was written to a log since it had so many bytes: all, if `start` has set the old one aside."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(byte if byte <= log.stat().st_size else 0)
        return file.read().decode(errors="replace")


@contextlib.contextmanager
def _hung_up_on() -> Iterator[None]:
    """What is started within does not ignore SIGHUP because we do, as under nohup.

    It would be handed on to all containers of a dockerd, whose programs could not even ask for it. What has
    a handler has the default again in a program that is started; only a main thread may set one.
    """
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    if not ignored or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGHUP, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As asyncio.to_thread, but when cancelled it waits for the thread before it raises.

    Otherwise the thread would still be making what the caller is already cleaning up.
    """
    working = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise


def search_path() -> str:
    """PATH with the sbin folders, which a root shell made by su does not search."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"


def which(program: str) -> str | None:
    """Where `program` is on search_path(), or None."""
    return shutil.which(program, path=search_path())


def adopt(name: str, pidfile: Path, *, works_in: Path | None = None) -> Process | None:
    """The process that `pidfile` records, if it is alive and the very one; else None.

    With `works_in` only one that works for that folder: in a copy of a state directory, a pidfile names the
    original's process.
    """
    try:
        boot, stat, *_ = pidfile.read_text().splitlines()
        process = Process(name, int(stat.split()[0]), _field_22(stat))
    except (FileNotFoundError, ValueError, IndexError):
        return None  # none was started, or we were killed while it was being written
    same_boot = boot.strip() == _BOOT_ID.read_text().strip()
    if not same_boot or not process.is_alive():
        return None
    return process if works_in is None or works_for(process.pid, works_in) else None


async def adopt_unless_moved(
    name: str, pidfile: Path, folder: Path, *, named: Path, number: signal.Signals = signal.SIGTERM
) -> Process | None:
    """As `adopt`, of one that works in `folder`; None once it is stopped by `number`, if it was given another
    path for `named`: the folder was moved while it ran, and it no longer finds what is in it."""
    found = adopt(name, pidfile, works_in=folder)
    if found is None or names(found.pid, named):
        return found
    await found.stop(number, grace_s=30)
    return None


def works_for(pid: int, folder: Path) -> bool:
    """Whether a process works in `folder`, or has it among its arguments."""
    try:
        if Path(f"/proc/{pid}/cwd").resolve(strict=True) == folder.resolve():
            return True
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:  # somebody else's; root in a container may not look at all of them either
        pass
    return names(pid, folder)


def names(pid: int, path: Path) -> bool:
    """Whether a process has `path` among its arguments."""
    return os.fsencode(path) in command_line(pid).split(b"\0")


def running(name: str, pid: int) -> Process | None:
    """The process that holds `pid` now, for a caller that has made sure that it is ours."""
    started = start_time(pid)
    return None if started is None else Process(name, pid, started)


def start_time(pid: int, *, even_a_zombie: bool = False) -> int | None:
    """Field 22 of /proc/<pid>/stat, or None if no such process runs.

    A zombie has ended, so None as well; but not one whose other threads still run, and hold its ports.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    has_ended = fields[0] == "X" or (fields[0] == "Z" and int(fields[17]) <= 1)  # field 20: threads
    return None if has_ended and not even_a_zombie else _field_22(stat)


def command_line(pid: int) -> bytes:
    """The arguments of `pid`, each ended by a NUL; empty if no such process runs."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _field_22(stat: str) -> int:
    # The name in field 2 may hold spaces and parentheses: count from its last closing one.
    return int(stat.rpartition(")")[2].split()[19])


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # not our child: an adopted one
        os.waitpid(pid, os.WNOHANG)


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        os.close(handle)
