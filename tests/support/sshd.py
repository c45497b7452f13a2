"""Debian's sshd on loopback, run by hand with keys of its own, that serves git repositories alone."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from service.local.objectstore import free_port
from tests.support.waiting import until

#: What a login may run: git's own two words for reading and writing, of its own repositories.
_ONLY_GIT = """#!/bin/sh
case "$SSH_ORIGINAL_COMMAND" in
    git-upload-pack*)
        if [ -e {folder}/hold ]; then touch {folder}/held; fi
        while [ -e {folder}/hold ]; do sleep 0.05; done
        cd {repositories} && exec git-shell -c "$SSH_ORIGINAL_COMMAND" ;;
    *) echo "only git-upload-pack" >&2; exit 1 ;;
esac
"""


@dataclass(frozen=True)
class KeyPair:
    private: str
    public: str


def key_pair() -> KeyPair:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()).decode()
    public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode()
    return KeyPair(private, public)


@dataclass
class Sshd:
    """`user` logs in with `client`'s private key; `change_host_key` makes the server another one."""

    folder: Path
    repositories: Path
    port: int
    client: KeyPair
    host: KeyPair
    user: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"ssh://{self.user}@127.0.0.1:{self.port}{self.repositories}"

    def log(self) -> str:
        return (self.folder / "sshd.log").read_text(errors="replace")

    async def start(self) -> None:
        key = self.folder / "host_key"
        key.unlink(missing_ok=True)
        key.write_text(self.host.private)
        key.chmod(0o600)
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None
        log = self.folder / "sshd.log"
        log.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [program, "-D", "-f", str(self.folder / "sshd_config"), "-E", str(log)],
            stdin=subprocess.DEVNULL,
        )
        await until(self._listens, what="sshd listens")

    def _listens(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log()
        return "Server listening" in (self.log() if (self.folder / "sshd.log").exists() else "")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def hold(self) -> None:
        """Let them in from now on, and then say nothing."""
        (self.folder / "hold").touch()

    def is_held(self) -> bool:
        return (self.folder / "held").exists()

    def let_go(self) -> None:
        (self.folder / "hold").unlink(missing_ok=True)

    async def change_host_key(self) -> None:
        self.stop()
        self.host = key_pair()
        await self.start()


@asynccontextmanager
async def an_sshd(folder: Path, repositories: Path) -> AsyncIterator[Sshd]:
    """A server that lives until the block ends. `folder` is empty."""
    made = Sshd(folder, repositories, free_port(), key_pair(), key_pair(), getpass.getuser())
    command = folder / "only-git"
    command.write_text(_ONLY_GIT.format(repositories=repositories, folder=folder))
    command.chmod(0o755)
    (folder / "authorized_keys").write_text(f'restrict,command="{command}" {made.client.public}\n')
    settings = {
        "ListenAddress": f"127.0.0.1:{made.port}",
        "HostKey": folder / "host_key",
        "PidFile": folder / "sshd.pid",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "StrictModes": "no",  # the folder lies below one that everybody writes to
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "LogLevel": "VERBOSE",
    }
    (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it locks up its unprivileged half
    await made.start()
    try:
        yield made
    finally:
        made.stop()
