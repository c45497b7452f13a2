"""The containerd of a dockerd of ours, which holds its containers by their shims.

dockerd starts another ten seconds after one has died, and never hears of what ended meanwhile: such a
container runs for good to it.
"""

from __future__ import annotations

import os
from pathlib import Path

from service.local import processes
from service.local.processes import Process

#: dockerd starts its containerd first of all, and waits for it no longer than this before it gives up.
_STARTED_WITHIN_S = 15


def record(exec_root: Path) -> Path:
    """Where dockerd writes down which process its containerd is."""
    return exec_root / "containerd" / "containerd.pid"


def of(exec_root: Path) -> Process | None:
    """The one that a dockerd of ours has started; None where it uses the machine's, or none runs."""
    try:
        pid = int(record(exec_root).read_text())
    except (FileNotFoundError, ValueError):
        return None
    found = processes.running("containerd", pid)
    ours = found is not None and str(exec_root).encode() in processes.command_line(pid)
    return found if ours else None


def was_lost(exec_root: Path, dockerd: Process) -> bool:
    """Whether a dockerd that nobody watched has lost the containerd that it began with, and has none or
    another by now."""
    if not record(exec_root).exists():
        return False  # it uses the machine's
    found = of(exec_root)
    if found is None:
        return True
    return found.started - dockerd.started > _STARTED_WITHIN_S * os.sysconf("SC_CLK_TCK")
