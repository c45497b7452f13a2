"""An image made of this machine's own Python, for where no registry can be reached.

Interpreter, standard library and the shared libraries they need go below /usr/local of an otherwise empty
file system. Python finds its library from where its program lies, so the move does not disturb it.
Standard library only.
"""

from __future__ import annotations

import io
import platform
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from service.errors import Misconfigured

#: Raised when the contents change, so that an image of an older recipe is not taken for this one.
RECIPE = 1
NAME = f"jobyard-demo/python:{platform.python_version()}-{RECIPE}"

_TOP = "usr/local"
_LIBRARIES = f"{_TOP}/lib/shared"

#: For `docker import`: what a Dockerfile would say.
CHANGES = (
    "ENV PATH=/usr/local/bin",
    f"ENV LD_LIBRARY_PATH=/{_LIBRARIES}",
    "ENV PYTHONDONTWRITEBYTECODE=1",
    "ENV LANG=C.UTF-8",
    'CMD ["python3"]',
)

_LEFT_OUT_FOLDERS = frozenset(
    {"__pycache__", "test", "tests", "idlelib", "ensurepip", "lib2to3", "tkinter", "turtledemo"}
    | {"site-packages", "dist-packages", "pydoc_data"}
)
_LEFT_OUT_FILES = re.compile(r".*\.(pyc|a|o|exe)|(_test|_xx|xx|_ctypes_test|_tkinter).*\.so")
_PASSWD = b"root:x:0:0:root:/root:/sbin/nologin\njob:x:42420:42420:job:/tmp:/sbin/nologin\n"
_GROUP = b"root:x:0:\njob:x:42420:\n"
_NEEDED = re.compile(r"^\s*(?:(?P<name>\S+) => )?(?P<path>/\S+) \(0x[0-9a-f]+\)$")
_MISSING = re.compile(r"^\s*\S+ => not found$")


def write(into: IO[bytes]) -> None:
    """Writes the image's file system as a tar; every file in it is readable by everybody.

    Raises `Misconfigured` when this Python's parts cannot be found.
    """
    program, library = _program(), Path(sysconfig.get_path("stdlib"))
    if not (library / "os.py").is_file():
        raise Misconfigured(
            f"this Python's standard library is not in {library}; the demo cannot make an image"
        )
    found = sorted(_library_files(library))
    needed = _needed([program, *(file for file in found if file.suffix == ".so")])
    loadable = [file for file in found if file.suffix != ".so" or file in needed]
    with tarfile.open(fileobj=into, mode="w") as tar:
        image = _Image(tar)
        image.folder("tmp", 0o1777)
        image.text("etc/passwd", _PASSWD)
        image.text("etc/group", _GROUP)
        image.file(f"{_TOP}/bin/{program.name}", program, 0o755)
        for name in {"python", "python3"} - {program.name}:
            image.link(f"{_TOP}/bin/{name}", program.name)
        for file in loadable:
            image.file(f"{_TOP}/{sys.platlibdir}/{library.name}/{file.relative_to(library)}", file)
        for name, path in sorted({pair for pairs in needed.values() for pair in pairs}):
            image.file(name if name.startswith("/") else f"{_LIBRARIES}/{name}", path, 0o755)


def _program() -> Path:
    """The interpreter itself; in a virtual environment, the one that it was made from."""
    base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [Path(getattr(sys, "_base_executable", None) or sys.executable).resolve(), base.resolve()]
    for candidate in candidates:
        if candidate.is_file() and candidate.read_bytes()[:4] == b"\x7fELF":
            return candidate
    raise Misconfigured(f"no program of this Python was found at {base}; the demo cannot make an image")


def _library_files(folder: Path) -> Iterator[Path]:
    for each in folder.iterdir():
        if each.is_dir():
            if each.name not in _LEFT_OUT_FOLDERS and not each.name.startswith("config-"):
                yield from _library_files(each)
        elif each.is_file() and not _LEFT_OUT_FILES.fullmatch(each.name):
            yield each


def _needed(programs: Iterable[Path]) -> dict[Path, set[tuple[str, Path]]]:
    """For each program that can be loaded here: its shared libraries, by the name they are asked for.

    The loader is asked for by its whole path. A module whose library is not installed is left out.
    """
    found: dict[Path, set[tuple[str, Path]]] = {}
    for program in programs:
        asked = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
        lines = asked.stdout.splitlines()
        if any(map(_MISSING.match, lines)):
            continue
        matches = [match for match in map(_NEEDED.match, lines) if match]
        found[program] = {(match["name"] or match["path"], Path(match["path"])) for match in matches}
    return found


class _Image:
    """A tar that is being filled; folders appear before what they hold, everything belongs to root."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._folders: set[str] = set()

    def folder(self, name: str, mode: int = 0o755) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self._tar.addfile(entry)
        self._folders.add(name)

    def text(self, name: str, raw: bytes, mode: int = 0o644) -> None:
        self._parents(name)
        entry = tarfile.TarInfo(name)
        entry.mode, entry.size = mode, len(raw)
        self._tar.addfile(entry, io.BytesIO(raw))

    def file(self, name: str, source: Path, mode: int = 0o644) -> None:
        self.text(name.lstrip("/"), source.read_bytes(), mode)

    def link(self, name: str, to: str) -> None:
        self._parents(name)
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, to, 0o777
        self._tar.addfile(entry)

    def _parents(self, name: str) -> None:
        for parent in reversed(Path(name).parents[:-1]):
            if str(parent) not in self._folders:
                self.folder(str(parent))
