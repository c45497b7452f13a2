"""Where the data of an embedded Postgres lies: in the state directory, or where that says."""

from __future__ import annotations

from pathlib import Path

from service.errors import Misconfigured
from service.local import places

#: A file of the state directory that says where the data lies, if not in it.
_POINTER = "postgres.path"
#: A file beside such data that says which state directory it is of.
_OWNER = "state.path"


def lie_in(state: Path, home: Path) -> None:
    """Has the data of a state directory lie in `home`; to be said before the server's first start."""
    places.write_whole(state / _POINTER, f"{home}\n")


def told(state: Path) -> Path | None:
    """Where the data lies as the state directory says it; None if it says nothing, and the data lies in it.

    Raises `Misconfigured` for what is no absolute path: an empty file would be the directory that we happen
    to be started in, to lay a database in or to delete.
    """
    pointer = state / _POINTER
    if not pointer.exists():
        return None
    home = Path(pointer.read_text().strip())
    if not home.is_absolute():
        raise Misconfigured(
            f"{pointer} must hold the absolute path of the folder that the database lies in;"
            " if there is no such folder yet, remove the file"
        )
    return home


def is_of_another(state: Path, home: Path) -> bool:
    """Whether data outside of a state directory is another's, of which `state` is a copy: that one is there
    still, and says that its data lies in `home`."""
    owner = _owner(home)
    if owner is None or owner == state.resolve():
        return False
    try:
        return told(owner) == home
    except (Misconfigured, OSError):
        return False  # it is there, but not as the state directory of this data


def claim(state: Path, home: Path) -> None:
    """Says beside the data that it is of `state`. Raises `Misconfigured` if it is another's."""
    if is_of_another(state, home):
        raise Misconfigured(
            f"the database in {home} is of {_owner(home)}, of which {state} is a copy:"
            f" to begin with an empty database in {state}, remove {state / _POINTER}"
        )
    if _owner(home) != state.resolve():
        places.write_whole(home / _OWNER, f"{state.resolve()}\n")


def _owner(home: Path) -> Path | None:
    try:
        return Path((home / _OWNER).read_text().strip())
    except FileNotFoundError:
        return None
