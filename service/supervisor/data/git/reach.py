"""What binds git to one server: checked addresses, one protocol, no redirects, and the keys for it alone.

Keys are in memory only: in an anonymous file of this process, whose number the command line has and whose
bytes nobody but this user reads. They are in no argument, no environment and no file, and gone with us.

https: git asks our helper, which it knows for exactly this scheme, host and port. ssh: no configuration and
no agent but what stands here, no forwarding of anything, and the server's key must be the one that is known.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.domain.gitstores import BasicLogin, GitEndpoint, GitLogin, SshLogin
from service.domain.weburls import WebUrl
from service.errors import Unavailable
from service.supervisor.data import disk
from service.supervisor.data.web import Web

LEAST_BYTES_PER_S = 1000
CONNECT_S = 15.0
#: The name under which the server's keys are known: of one store each, in a file of its own.
HOST = "store"
KNOWN_HOSTS = "known_hosts"

_HELPER = '!f() { case "$1" in get) cat %s ;; esac; }; f'
_SSH = (
    *("ssh", "-F", "/dev/null"),
    *(
        word
        for setting in (
            "BatchMode=yes",
            "CheckHostIP=no",
            "ClearAllForwardings=yes",
            "ConnectionAttempts=1",
            f"ConnectTimeout={CONNECT_S:.0f}",
            "ControlMaster=no",
            "ControlPath=none",
            "EscapeChar=none",
            "ForwardAgent=no",
            "ForwardX11=no",
            "GSSAPIAuthentication=no",
            "GlobalKnownHostsFile=/dev/null",
            "HashKnownHosts=no",
            f"HostKeyAlias={HOST}",
            "HostbasedAuthentication=no",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "KbdInteractiveAuthentication=no",
            "PasswordAuthentication=no",
            "PermitLocalCommand=no",
            "PreferredAuthentications=publickey",
            "ProxyCommand=none",
            "RequestTTY=no",
            "ServerAliveCountMax=3",
            "ServerAliveInterval=20",
            "Tunnel=no",
            "UpdateHostKeys=no",
            "VerifyHostKeyDNS=no",
        )
        for word in ("-o", setting)
    ),
)


@dataclass(frozen=True)
class Remote:
    """One repository. `shown` names it in messages; `learns`: the first key that it shows is taken."""

    url: str
    scheme: Literal["https", "ssh"]
    at: WebUrl
    shown: str
    ref: str | None = None
    base: str = ""
    login: GitLogin | None = None
    learns: bool = False

    @classmethod
    def of_store(
        cls, endpoint: GitEndpoint, repository: str, ref: str | None, login: GitLogin | None
    ) -> Remote:
        """A repository of a data store."""
        shown = endpoint.shown(repository)
        url = endpoint.url(repository)
        return cls(url, endpoint.scheme, endpoint.at, shown, ref, endpoint.base, login)

    @property
    def denied(self) -> str:
        """What it means that the server lets nobody in."""
        match self.login:
            case BasicLogin():
                return "the user and this password were refused"
            case SshLogin():
                return "the user and this key were refused"
            case _ if self.base:
                return "it asks for a user and a password, and the data store has none"
            case _:
                return "it is not public"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may repeat, whatever the server says."""
        if not isinstance(self.login, BasicLogin):
            return ()
        pair = f"{self.login.username}:{self.login.password}".encode()
        return (self.login.password, b64encode(pair).decode())


@dataclass(frozen=True)
class Ways:
    """What one call of git is given: options, variables, and the descriptors that it inherits."""

    options: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()
    descriptors: tuple[int, ...] = ()


LOCAL = Ways()
"""Nowhere."""


@asynccontextmanager
async def bound(web: Web, remote: Remote, folder: Path) -> AsyncIterator[Ways]:
    """The ways to `remote` and nowhere else, while the context lasts. `folder` is private.

    Raises FetchRefused for addresses that must not be connected to, and Unavailable.
    """
    addresses = await web.addresses(remote.at)
    held = _held(remote.login)
    try:
        if remote.scheme == "https":
            yield await _https(web, remote, addresses, held, folder)
        else:
            yield await _ssh(remote, addresses, held, folder)
    finally:
        if held is not None:
            os.close(held)


def _held(login: GitLogin | None) -> int | None:
    """A descriptor of the keys, in memory."""
    match login:
        case BasicLogin():
            data = f"username={login.username}\npassword={login.password}\n".encode()
        case SshLogin():
            data = login.private_key.encode()
        case None:
            return None
    held = os.memfd_create("keys")
    os.fchmod(held, 0o600)  # ssh takes no key that others could read
    os.write(held, data)
    return held


async def _https(web: Web, remote: Remote, addresses: list[str], held: int | None, folder: Path) -> Ways:
    listed = ",".join(f"[{each}]" if ":" in each else each for each in addresses)
    settings = [
        f"http.curloptResolve={remote.at.host}:{remote.at.port}:{listed}",
        "http.followRedirects=false",
        "http.proxy=",
        "http.sslVerify=true",
        f"http.lowSpeedLimit={LEAST_BYTES_PER_S}",
        f"http.lowSpeedTime={max(1, int(web.stall_s))}",
        "protocol.allow=never",
        "protocol.https.allow=always",
    ]
    if web.ca is not None:
        bundle = await disk.run(_bundle, web.ca, folder / "ca.pem")
        settings.append(f"http.sslCAInfo={bundle}")
    if held is not None:
        settings.append(f"credential.{remote.base}.helper={_HELPER % f'/dev/fd/{held}'}")
    return Ways(_options(settings), (("GIT_ALLOW_PROTOCOL", "https"),), (held,) if held is not None else ())


def _bundle(extra: Path, to: Path) -> Path:
    """The system's authorities and ours in one file: git's option replaces the system's."""
    system = ssl.get_default_verify_paths().cafile
    parts = [Path(system).read_bytes()] if system and Path(system).exists() else []
    to.write_bytes(b"\n".join([*parts, extra.read_bytes()]))
    return to


async def _ssh(remote: Remote, addresses: list[str], held: int | None, folder: Path) -> Ways:
    """The key is read through our own /proc: ssh closes what it inherits."""
    known = folder / KNOWN_HOSTS
    keys = remote.login.host_keys if isinstance(remote.login, SshLogin) else ()
    await disk.run(known.write_text, "".join(f"{HOST} {key}\n" for key in keys))
    learns = remote.learns and not keys
    settings = (
        f"HostName={await _answering(remote.at, addresses)}",
        f"UserKnownHostsFile={known}",
        f"StrictHostKeyChecking={'accept-new' if learns else 'yes'}",
        f"LogLevel={'VERBOSE' if remote.learns else 'ERROR'}",
        f"IdentityFile=/proc/{os.getpid()}/fd/{held}",
    )
    command = shlex.join([*_SSH, *(word for setting in settings for word in ("-o", setting))])
    variables = (
        ("GIT_ALLOW_PROTOCOL", "ssh"),
        ("GIT_SSH_COMMAND", command),
        ("GIT_SSH_VARIANT", "ssh"),
    )
    return Ways(_options(["protocol.allow=never", "protocol.ssh.allow=always"]), variables)


async def _answering(at: WebUrl, addresses: list[str]) -> str:
    """The first of several addresses that lets us connect: ssh takes one. Raises Unavailable."""
    if len(addresses) == 1:
        return addresses[0]
    for address in addresses:
        try:
            async with asyncio.timeout(CONNECT_S):
                _, writer = await asyncio.open_connection(address, at.port)
        except OSError:  # TimeoutError too
            continue
        writer.transport.abort()
        return address
    raise Unavailable(f"{at.shown}: none of its {len(addresses)} addresses can be connected to")


def _options(settings: list[str]) -> tuple[str, ...]:
    return tuple(word for setting in settings for word in ("-c", setting))
