"""Debian's openssh-client, as users run it."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from tests.support.waiting import DEADLINE_S


@dataclass(frozen=True)
class Key:
    """A user's key: the private half in a file, the public one in text."""

    file: Path
    public: str

    @classmethod
    def made(cls, file: Path, kind: str = "ssh-ed25519", **how: Any) -> Key:
        key = asyncssh.generate_private_key(kind, comment=file.name, **how)
        file.write_bytes(key.export_private_key())
        file.chmod(0o600)
        return cls(file, key.export_public_key().decode().strip())


@dataclass(frozen=True)
class Said:
    code: int
    out: bytes
    err: bytes


@dataclass(frozen=True)
class Client:
    """Somebody with a key who knows the host. `user` is the job's id."""

    port: int
    user: str
    key: Key
    home: Path
    host_key: asyncssh.SSHKey
    log_level: str = "ERROR"

    def __post_init__(self) -> None:
        public = self.host_key.export_public_key().decode()
        self._known_hosts.write_text(f"[127.0.0.1]:{self.port} {public}")

    @property
    def _known_hosts(self) -> Path:
        return self.home / "known_hosts"

    @property
    def options(self) -> tuple[str, ...]:
        """For `ssh`, `scp` and `sftp` alike."""
        chosen = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityFile": str(self.key.file),
            "IdentityAgent": "none",
            "UserKnownHostsFile": str(self._known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": "20",
            "LogLevel": self.log_level,
            "Port": str(self.port),
        }
        return ("-F", "none", *(word for name, value in chosen.items() for word in ("-o", f"{name}={value}")))

    @property
    def at(self) -> str:
        return f"{self.user}@127.0.0.1"

    async def start(self, program: str, *words: str, stdin: int = PIPE, **environ: str) -> Process:
        """Start a client that goes on."""
        return await asyncio.create_subprocess_exec(
            program,
            *self.options,
            *words,
            stdin=stdin,
            stdout=PIPE,
            stderr=PIPE,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.home)} | environ,
        )

    async def run(self, program: str, *words: str, stdin: bytes = b"", **environ: str) -> Said:
        process = await self.start(program, *words, stdin=PIPE if stdin else DEVNULL, **environ)
        return await finished(process, stdin)

    async def ssh(
        self, *words: str, options: tuple[str, ...] = (), stdin: bytes = b"", **environ: str
    ) -> Said:
        """`ssh [options] JOB@host words`."""
        return await self.run("ssh", *options, self.at, *words, stdin=stdin, **environ)


async def finished(process: Process, stdin: bytes = b"") -> Said:
    try:
        async with asyncio.timeout(DEADLINE_S):
            out, err = await process.communicate(stdin if process.stdin is not None else None)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Said(process.returncode or 0, out, err)
