"""The id by which a dockerd of ours is known, in the ledger's leases too: one of its own for each folder.

Before version 23 it is of a key that all dockerds of a machine share: two of them were one engine to the
ledger, took it from each other, and each looked in vain for the containers of the other.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

#: Where dockerd keeps the machine's. Source: Docker Engine 20.10, `cmd/dockerd/options.go`.
_OF_THE_MACHINE = Path("/etc/docker/key.json")
#: From this version on the id is in the data-root.
_IN_DATA = 23


def configured(program: str, folder: Path) -> dict[str, str]:
    """What a dockerd is configured with for it, in its file: it takes no option of that name."""
    return {} if _major(program) >= _IN_DATA else {"deprecated-key-path": str(_key(folder))}


def keep(folder: Path) -> None:
    """Gives a folder from when the machine's key was used that one: its runs are known by it."""
    if (folder / "data").exists() and not _key(folder).exists() and _OF_THE_MACHINE.exists():
        shutil.copyfile(_OF_THE_MACHINE, _key(folder))
        _key(folder).chmod(0o600)


def forget(folder: Path) -> None:
    """Of a copy, which is another engine than the one that it was made of: the next start makes a new one."""
    for path in (_key(folder), folder / "data" / "engine-id"):
        path.unlink(missing_ok=True)


def _key(folder: Path) -> Path:
    return folder / "key.json"


@lru_cache
def _major(program: str) -> int:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)\.", said)
    return int(found[1]) if found else _IN_DATA
