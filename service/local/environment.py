"""Makes `<repo>/.venv` from the lock files, so that a fresh clone needs git and Python and nothing else.

Standard library only: this runs before anything is installed. The stamp in the environment is written
last, so an environment without one is never trusted; `unfinished` marks one that was being changed when
its process died, which is made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.errors import Misconfigured
from service.local import apt

_OLDEST = (3, 11)
#: dev holds all that run does. pip itself is locked too: the one that a Python of some years ago brings
#: spends half of its time reading what other files there are of each package.
_LOCKS = {"pip": "requirements-pip.lock", "run": "requirements.lock", "dev": "requirements-dev.lock"}
_DROPPED = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIREMENT", "PYTHONHOME", "PYTHONPATH")


@dataclass(frozen=True)
class Environment:
    """The virtual environment of one clone. `root` is the clone's top folder."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / ".venv"

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def stamp(self) -> Path:
        return self.folder / "jobyard-stamp.json"

    @property
    def unfinished(self) -> Path:
        return self.root / ".jobyard" / "environment.unfinished"

    def lock_file(self, kind: str) -> Path:
        return self.root / "service" / _LOCKS[kind]

    def is_current_process(self) -> bool:
        return Path(sys.prefix).resolve() == self.folder.resolve()

    def expected(self, kind: str, python: str) -> dict[str, str]:
        """What the stamp holds once `kind` is installed for the Python version `python`."""
        digest = hashlib.sha256()
        for name in sorted(_LOCKS):
            digest.update(self.lock_file(name).read_bytes())
        return {"locks": digest.hexdigest(), "python": python, "set": kind, "root": str(self.root)}

    def read_stamp(self) -> dict[str, str] | None:
        """The stamp, or None if there is none that can be read."""
        try:
            found = json.loads(self.stamp.read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def is_ready(self, kind: str) -> bool:
        """Whether `kind` is installed as locked. From inside the environment, for this very Python too."""
        found = self.read_stamp()
        if found is None or not os.access(self.python, os.X_OK):
            return False
        python = platform.python_version() if self.is_current_process() else found.get("python", "")
        enough = {"run": ("run", "dev"), "dev": ("dev",)}[kind]
        return any(found == self.expected(installed, python) for installed in enough)


def clone_around(package: Path) -> Environment | None:
    """The environment of the clone that holds `package` (the service folder); None if it was installed."""
    root = package.resolve().parent
    is_clone = (root / "pyproject.toml").is_file() and (root / "service" / _LOCKS["run"]).is_file()
    return Environment(root) if is_clone else None


def ensure(environment: Environment, kind: str) -> bool:
    """Makes `kind` ("run" or "dev") ready, at once if it is. Safe in two processes at a time.

    Returns whether anything had to change: then a process that runs inside must start anew.
    Raises Misconfigured, in one line, when it cannot be done.
    """
    if sys.version_info < _OLDEST:
        raise Misconfigured(
            f"Jobyard needs Python {_OLDEST[0]}.{_OLDEST[1]} or newer; this is {platform.python_version()}"
        )
    if environment.is_ready(kind):
        return False
    with _alone(environment):
        if not environment.is_ready(kind):
            _Build(environment, kind).run()
    return True


@contextlib.contextmanager
def _alone(environment: Environment) -> Iterator[None]:
    folder = environment.unfinished.parent
    try:
        folder.mkdir(exist_ok=True)
        handle = (folder / "environment.lock").open("a")
    except OSError as error:
        raise Misconfigured(
            f"{environment.root} cannot be written ({error.strerror}): run from a clone of your own"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another process is making the environment; waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class _Build:
    """One making of the environment, with a line of progress for every step."""

    def __init__(self, environment: Environment, kind: str) -> None:
        self.environment = environment
        self.kind = kind
        self.began = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:5.1f} s] {text}", file=sys.stderr, flush=True)

    def run(self) -> None:
        here = self.environment
        reusable = self._is_reusable()
        here.unfinished.touch()
        here.stamp.unlink(missing_ok=True)
        if not reusable:
            self._make()
        count = here.lock_file(self.kind).read_text().count("==")
        self.say(f"Installing {count} locked packages, hashes checked ({self.kind})")
        for kind in ("pip", self.kind):
            self._pip("--require-hashes", "--requirement", str(here.lock_file(kind)))
        self.say("Installing Jobyard itself, editable")
        self._pip("--no-deps", "--no-build-isolation", "--editable", str(here.root))
        self._write_stamp()
        here.unfinished.unlink()
        self.say(f"Ready: {here.folder}")

    def _is_reusable(self) -> bool:
        """Whether what stands there can be brought up to date rather than made anew."""
        here = self.environment
        found = here.read_stamp()
        moved = found is not None and found.get("root") != str(here.root)
        if here.unfinished.exists() or moved or not os.access(here.python, os.X_OK):
            return False
        probe = "import pip, sys; raise SystemExit(sys.version_info < (3, 11))"
        return _run([str(here.python), "-I", "-c", probe]).returncode == 0

    def _make(self) -> None:
        here = self.environment
        if here.folder.is_symlink():
            here.folder.unlink()
        elif here.folder.exists():
            self.say(f"Removing {here.folder}: it is incomplete, moved or of another Python")
            shutil.rmtree(here.folder)
        # Asked of the interpreter below the environment, as the environment itself was just removed.
        base = getattr(sys, "_base_executable", None) or sys.executable
        if _run([base, "-c", "import ensurepip, venv"]).returncode != 0:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            apt.install([f"python{version}-venv"], why="making a virtual environment", say=self.say)
        self.say(f"Making {here.folder} with Python {platform.python_version()}")
        made = _run([base, "-m", "venv", str(here.folder)])
        if made.returncode != 0:
            raise Misconfigured(f"{base} -m venv failed: {_last_line(made.stdout)}")

    def _pip(self, *arguments: str) -> None:
        quiet = ("--quiet", "--no-input", "--disable-pip-version-check", "--no-warn-script-location")
        done = _run([str(self.environment.python), "-m", "pip", "install", *quiet, *arguments])
        if done.returncode != 0:
            # pip has undone its own work, so the environment is whole, only not up to date.
            self.environment.unfinished.unlink()
            print(done.stdout, file=sys.stderr, end="")
            raise Misconfigured(f"pip install failed: {_last_line(done.stdout)}")

    def _write_stamp(self) -> None:
        here = self.environment
        version = _run([str(here.python), "-I", "-c", "import platform; print(platform.python_version())"])
        partial = here.stamp.with_suffix(".partial")
        partial.write_text(json.dumps(here.expected(self.kind, version.stdout.strip()), indent=2) + "\n")
        partial.replace(here.stamp)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs with the caller's pip settings (a mirror, a proxy) but without those that would aim elsewhere."""
    environ = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    return subprocess.run(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("hint:", "note:", "╰─>"))]
    return telling[-1] if telling else "no output"
