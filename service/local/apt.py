"""Debian packages, installed only when they are missing and only as root. Standard library only."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from service.errors import Misconfigured

Say = Callable[[str], None]

_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT = "#!/bin/sh\n# Put here by jobyard while it installs a package; safe to remove.\nexit 101\n"


def install(packages: list[str], *, why: str, say: Say) -> None:
    """Installs Debian `packages`; `why` says in a few words what they are for.

    The package lists are fetched only if the first attempt fails: a fresh machine has none, others
    should not wait. Raises Misconfigured with the command to run when we may not or cannot.
    """
    command = f"apt-get install {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise Misconfigured(f"{why} needs {', '.join(packages)} (Debian's names): install what provides them")
    if os.geteuid() != 0:
        raise Misconfigured(f"{why} needs {', '.join(packages)}: as root, run: {command}")
    say(f"Installing {', '.join(packages)} with apt-get ({why})")
    with _no_service_started():
        if _apt("install", "--no-install-recommends", *packages).returncode == 0:
            return
        say("Fetching the package lists (apt-get update)")
        _apt("update")
        done = _apt("install", "--no-install-recommends", *packages)
    if done.returncode != 0:
        raise Misconfigured(f"{command} failed: {_reason(done.stdout)}")


def _apt(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("E:")]
    return (errors or lines or ["no output"])[-1]


@contextlib.contextmanager
def _no_service_started() -> Iterator[None]:
    """Without a service manager, a package's own start script would leave a daemon that nobody looks after.

    With one, or where somebody already set a policy, Debian's own way is right and nothing is done.
    """
    if _POLICY.exists() and _POLICY.read_text(errors="replace") == _POLICY_TEXT:
        _POLICY.unlink()  # left by a run that was killed here
    if Path("/run/systemd/system").exists() or _POLICY.exists():
        yield
        return
    _POLICY.write_text(_POLICY_TEXT)
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
