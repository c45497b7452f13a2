"""Who holds a lease: its name, and whether the kernel shows that it is gone.

A name is `<machine>:<view>/<pid>-<start>-<random>`. A pid says nothing where pids are counted otherwise: in
another pid namespace (another container, of the same image maybe), or after another boot. So the view is part
of the name, and only who has the same one asks the kernel. The start time tells a pid that was given out
again.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import select
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROCESS = re.compile(r"(?P<pid>[1-9][0-9]*)-(?P<start>[0-9]+)-[0-9a-f]+")


def holder_name() -> str:
    """A name that is ours alone. Without a /proc of ours it tells nobody whether we are gone."""
    host, pid, chance = _host(), os.getpid(), os.urandom(4).hex()
    start = _start(pid) if host is not None else None
    if host is None or start is None:
        return f"{_machine()}/{pid}-{chance}"
    return f"{host}/{pid}-{start}-{chance}"


def is_gone(holder: str) -> bool:
    """Whether the kernel shows that its process has ended. False where nobody can tell from here."""
    host, _, process = holder.rpartition("/")
    said = _PROCESS.fullmatch(process)
    if said is None or host != _host():
        return False
    pid = int(said["pid"])
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # an old kernel, or a sandbox that does not let us ask
    try:
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        # The handle is bound to whoever has the pid now: what is read of it is read of that one.
        return bool(ended.poll(0)) or _start(pid) not in (None, int(said["start"]))
    finally:
        os.close(handle)


def _host() -> str | None:
    """The machine, and whose pids and times ours are. None where /proc shows the processes of others."""
    try:
        if str(Path("/proc/self").readlink()) != str(os.getpid()):
            return None
        view = [_BOOT_ID.read_text().strip(), *(_namespace(kind) for kind in ("pid", "time"))]
    except OSError:
        return None
    return f"{_machine()}:{hashlib.sha256(' '.join(view).encode()).hexdigest()[:16]}"


def _namespace(kind: str) -> str:
    """Ours; empty for one that this kernel does not have. Start times are told by the clock of the second."""
    link = Path("/proc/self/ns") / kind
    return str(link.readlink()) if kind == "pid" or link.is_symlink() else ""


def _machine() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip() or platform.node()
    except OSError:
        return platform.node()


def _start(pid: int) -> int | None:
    """Field 22 of /proc/<pid>/stat: ticks since the boot. None where it is not to be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])  # the name in field 2 may hold spaces and parentheses
