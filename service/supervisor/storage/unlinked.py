"""Files that a container's processes hold open although they have no name any more. Blocking.

No folder shows them, and programs use them on purpose (`tempfile.TemporaryFile`). They are found through
/proc, by root on the engine's host. One that is only mapped, or on its way through a socket, is not found.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from service.supervisor.storage.tree import Tally


def add_unlinked(tally: Tally, container_id: str, pid: int, mounts: Iterable[str]) -> None:
    """Add what the container's processes hold open without a name, in its root and in `mounts`.

    `pid` is its main process; `mounts` are the host's folders that it sees. Files in memory (`/dev/shm`,
    memfd) are on other file systems and count as memory. Raises `Stopped`.
    """
    devices = _devices(pid, mounts)
    for process in _processes(container_id):
        found = [each for each in _open_files(tally, process) if each.st_dev in devices]
        if found and _is_in(process, container_id):  # it was not another's all the while
            for each in found:
                tally.file(each)


def _devices(pid: int, mounts: Iterable[str]) -> set[int]:
    devices = set()
    for path in (f"/proc/{pid}/root/", *mounts):
        try:
            devices.add(os.stat(path).st_dev)  # noqa: PTH116 (the magic link is meant)
        except OSError:
            continue  # it ended, and so did all that it held open
    return devices


def _processes(container_id: str) -> Iterator[Path]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and _is_in(Path(entry.path), container_id):
            yield Path(entry.path)


def _is_in(process: Path, container_id: str) -> bool:
    try:
        return container_id in (process / "cgroup").read_text()
    except OSError:
        return False


def _open_files(tally: Tally, process: Path) -> Iterator[os.stat_result]:
    """Regular files without a name among the process's descriptors."""
    try:
        with os.scandir(process / "fd") as descriptors:
            for entry in descriptors:
                tally.look_up()
                try:
                    found = entry.stat()
                except OSError:
                    continue  # closed since
                if found.st_nlink == 0 and stat.S_ISREG(found.st_mode):
                    yield found
    except OSError:
        return  # it ended
