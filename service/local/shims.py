"""The processes that hold containers (containerd's shims), which outlive a dockerd that is killed.

dockerd writes down that a container runs once it does. Killed in front of that, it does not know of what its
containerd had begun: the next dockerd takes the container for one that was never started, cannot start it, as
its task "already exists", and would begin its program a second time once that has ended. So before the next
dockerd starts, what had not begun is ended, and what had begun is written down in dockerd's stead.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from service.local import processes
from service.local.processes import Process

_NAME, _RUNTIME, _WAITING = b"containerd-shim", b"runc", b"init"
#: What dockerd says of a container that was never started.
_NEVER = "0001-01-01T00:00:00Z"
#: What a shim was busy with as its containerd died is called off within this time.
_PATIENCE_S = 5.0
#: In the folder in which a shim works: the number of the process that it made.
_MADE = "init.pid"
#: Below the exec-root, a folder for each shim to work in, by namespace and container.
_TASKS = "containerd/daemon/io.containerd.runtime.v2.task"
#: What a shim writes there first of all as it begins to make a container.
_BEGUN = "runtime"

_log = structlog.get_logger()


def of(exec_root: Path) -> list[int]:
    """The shims of the dockerd whose exec-root it is, whether or not they hold anything."""
    mine = str(exec_root).encode() + b"/"
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        words = _words(int(folder.name))
        if _NAME in words[0].rpartition(b"/")[2] and any(word.startswith(mine) for word in words):
            found.append(int(folder.name))
    return sorted(found)


def held_by(shim: int) -> list[int]:
    """The processes that a shim holds or is just busy with: its children."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{shim}/task").iterdir():
            found += [int(pid) for pid in (thread / "children").read_text().split()]
    return found


async def settle(exec_root: Path, data_root: Path) -> list[str]:
    """Bring shims and dockerd's records together again; answers in words what was done.

    To be called while neither dockerd nor its containerd run.
    """
    done = []
    for pid in of(exec_root):
        shim = processes.running("containerd-shim", pid)
        container = _container(pid)
        if shim is not None and container and (told := await _settled(shim, container, data_root)):
            _log.warning("shim settled", container=container[:12], done=told)
            done.append(f"Container {container[:12]}: {told}")
    return done + await asyncio.to_thread(_clear_unmade, exec_root)


def _clear_unmade(exec_root: Path) -> list[str]:
    """Remove the folders of containers that a shim was to make and had not begun to; in words which.

    containerd asks the runtime to delete what is left of a shim that is gone, and the runtime fails where the
    folder does not say which runtime it was: then the folder stays for good, and its container can never be
    started ("file exists"). Nothing is mounted in such a folder yet, and no process belongs to it.
    """
    held = {_container(pid) for pid in of(exec_root)}
    done = []
    for folder in sorted((exec_root / _TASKS).glob("*/*")):
        if folder.name in held or (folder / _BEGUN).exists() or os.path.ismount(folder / "rootfs"):
            continue
        shutil.rmtree(folder)
        _log.warning("task folder removed", container=folder.name[:12])
        done.append(f"Container {folder.name[:12]}: its start had not begun; it can be started")
    return done


async def _settled(shim: Process, container: str, data_root: Path) -> str | None:
    record = data_root / "containers" / container / "config.v2.json"
    known = _read(record)
    if known is not None and (known["State"]["Running"] or known["State"]["StartedAt"] != _NEVER):
        return None  # dockerd knows it, and finds out by itself what became of it
    await _called_off(shim)
    # Stopped, a shim can do no more of what it was told last: what has not begun by now never will.
    if not shim.send(signal.SIGSTOP):
        return None
    begun = [pid for pid in held_by(shim.pid) if not _is_runtime(pid)]
    if known is None:
        await _end(shim)
        return "it was removed, and what was left of it is ended"
    over = None if begun else _over(shim.pid)
    if not begun and over is None:
        await _end(shim)
        return "its start was cut off before it began; it can be started anew"
    pid, at = over or (begun[0], _started_at(begun[0]))
    known["State"] |= {"Running": True, "Pid": pid, "StartedAt": at}
    _write(record, known)
    shim.send(signal.SIGCONT)
    if over is not None:
        return "its start was cut off after it had begun, and it has ended; its shim knows how"
    return "its start was cut off after it had begun; it goes on"


def _over(shim: int) -> tuple[int, str] | None:
    """The process that a shim had made, where it is gone, and when it was made.

    The shim writes its number down as it is made; from then on it waits to be begun, and the shim holds it
    until it has ended.
    """
    made = Path(f"/proc/{shim}/cwd") / _MADE
    try:
        pid, at_s = int(made.read_text()), made.stat().st_mtime
    except (OSError, ValueError):
        return None
    if pid in held_by(shim):
        return None
    return pid, _as_dockerd_writes(at_s)


async def _called_off(shim: Process) -> None:
    """Wait while the shim still starts or makes something."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if not any(_is_runtime(pid) and _words(pid)[1:2] != [_WAITING] for pid in held_by(shim.pid)):
            return
        await asyncio.sleep(0.02)


async def _end(shim: Process) -> None:
    """The shim, and all that it has made so far."""
    left = [process for pid in _below(shim.pid) if (process := processes.running("runc", pid)) is not None]
    for process in (shim, *left):
        process.send(signal.SIGKILL)
        await process.ended(_PATIENCE_S)


def _below(pid: int) -> Iterator[int]:
    for child in held_by(pid):
        yield child
        yield from _below(child)


def _container(shim: int) -> str:
    """The id of the container that a shim is for; empty when the shim is gone."""
    words = _words(shim)
    return words[words.index(b"-id") + 1].decode() if b"-id" in words[:-1] else ""


def _is_runtime(pid: int) -> bool:
    """Whether it is the runtime that makes a container, and not yet the container's own program.

    A process that has ended and was not fetched yet has no words: it is no program that runs.
    """
    program = _words(pid)[0].rpartition(b"/")[2]
    return program in (_RUNTIME, b"")


def _words(pid: int) -> list[bytes]:
    return processes.command_line(pid).split(b"\0")


def _started_at(pid: int) -> str:
    """When a process began, as dockerd writes it; now, if it has ended meanwhile."""
    ticks = processes.start_time(pid)
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    at = time.time() if ticks is None else boot + ticks / os.sysconf("SC_CLK_TCK")
    return _as_dockerd_writes(at)


def _as_dockerd_writes(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


def _read(record: Path) -> Any:
    """What dockerd wrote down of a container; None when it does not know it."""
    try:
        return json.loads(record.read_bytes())
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def _write(record: Path, known: Any) -> None:
    """Whole or not at all."""
    draft = record.with_name(f".{record.name}.jobyard")
    with draft.open("w") as file:
        os.fchmod(file.fileno(), record.stat().st_mode & 0o777)
        json.dump(known, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(record)
