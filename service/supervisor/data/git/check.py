"""Asking a git server whether it takes a login, when a data store is added.

An endpoint has no repository to ask for, so a name that hardly any has is asked for below it. What can be
told: that the server answers at addresses which may be used; with https, that its certificate is good, and
that a login is wrong, if it asks for one before it says that there is nothing; with ssh, always whether the
key is taken, and which key is the server's. What cannot: that there is any repository which may be read.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from service.domain.gitstores import GitEndpoint, GitLogin
from service.errors import FetchDenied, FetchMissing, FetchRefused, Misconfigured, Unavailable
from service.supervisor.data import disk
from service.supervisor.data.git.cage import Cage
from service.supervisor.data.git.reach import HOST, KNOWN_HOSTS, Remote, bound
from service.supervisor.data.web import Web

CHECK_S = 30.0
MOST_BYTES = 16 * 1024**2
NOBODYS = "jobyard-asks-whether-it-may"
#: What ssh says once it is in, whatever the server makes of the repository's name.
_LET_IN = "Authenticated to "


async def check(web: Web, endpoint: GitEndpoint, login: GitLogin | None) -> tuple[str, ...]:
    """Returns when nothing speaks against the login; with ssh, the server's keys (`TYPE BASE64`).

    Raises FetchDenied, HostKeyRefused, FetchRefused (addresses, certificate) or Unavailable.
    """
    folder = Path(await disk.run(tempfile.mkdtemp, prefix="jobyard-git-"))
    asked = Remote.of_store(endpoint, NOBODYS, None, login)
    remote = replace(asked, shown=endpoint.at.shown.rstrip("/"), learns=endpoint.scheme == "ssh")
    try:
        async with asyncio.timeout(CHECK_S):
            await _ask(web, remote, folder)
        return await disk.run(_learned, folder / KNOWN_HOSTS)
    except TimeoutError:
        raise Unavailable(f"{endpoint.at.shown} did not answer within {CHECK_S:.0f} s") from None
    except Misconfigured as error:
        raise Unavailable(f"{endpoint.at.shown} cannot be asked: {error.message}") from error
    finally:
        await disk.run(shutil.rmtree, folder)


async def _ask(web: Web, remote: Remote, folder: Path) -> None:
    run = Cage(web, remote, folder, MOST_BYTES, lambda size: None)
    async with bound(web, remote, folder) as ways:
        try:
            await run(ways, "ls-remote", "--heads", "--", remote.url)
        except (FetchRefused, Unavailable) as error:
            if not _tells_nothing(error, remote, run.said):
                raise


def _tells_nothing(error: FetchRefused | Unavailable, remote: Remote, said: str) -> bool:
    """Whether it went as far as it could go without a repository."""
    if remote.scheme == "ssh":
        return _LET_IN in said
    asks = isinstance(error, FetchDenied) and remote.login is None
    return isinstance(error, FetchMissing) or asks


def _learned(known: Path) -> tuple[str, ...]:
    if not known.exists():
        return ()
    words = [line.split() for line in known.read_text().splitlines()]
    return tuple(f"{each[1]} {each[2]}" for each in words if len(each) >= 3 and each[0] == HOST)
