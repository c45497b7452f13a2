"""Ending a command in a container together with what it began: its whole session, by the host's pids.

The engine makes each command the leader of a session of its own, so its children can be told from the job's
own processes, also those in groups of their own (a shell's jobs). One that makes itself a new session
(`setsid`) has chosen to stay, as with `docker exec`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

_ROUNDS, _PAUSE_S = 100, 0.01


def end_session(leader: int, container_id: str) -> bool:
    """Kill the leader and all of its session; blocks until none is left. False: it cannot be done from here
    (another host or pid namespace, no right to), or they come back faster than they are killed."""
    if not _is_in(leader, container_id):
        return False
    try:
        leads = os.getsid(leader) == leader
    except ProcessLookupError:
        leads = False
    if not leads:
        return _killed(leader, container_id)
    for _ in range(_ROUNDS):
        left = list(_session(leader, container_id))
        if not left:
            return True
        killed = [_killed(pid, container_id) for pid in left]
        if not any(killed) and _is_in(left[0], container_id):
            return False  # it lives, and is not ours to kill
        time.sleep(_PAUSE_S)
    return False


def signal_group(leader: int, container_id: str, number: int) -> bool:
    """Send a signal to the leader's process group, as a terminal would; False when nobody got it."""
    got = [
        _killed(pid, container_id, number)
        for pid in _session(leader, container_id)
        if _group(pid) == _group(leader)
    ]
    return any(got)


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def _session(leader: int, container_id: str) -> Iterator[int]:
    """The processes of a session that live, and that are the container's."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            # pid (name) state ppid pgrp session ...; the name may hold anything, spaces and brackets too.
            state, _, _, session, *_ = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue  # it ended meanwhile
        if int(session) == leader and state not in "ZX" and _is_in(int(entry.name), container_id):
            yield int(entry.name)


def _is_in(pid: int, container_id: str) -> bool:
    try:
        return container_id in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


def _killed(pid: int, container_id: str, number: int = signal.SIGKILL) -> bool:
    """Whether the process was the container's, and was sent the signal.

    It is held fast before its cgroup is compared, so that no other process of the same pid is ever hit.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not _is_in(pid, container_id):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
