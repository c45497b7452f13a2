"""The files of a git repository, by the program git, as a tar archive.

The files as they are at the end of a branch or at a tag: no history, no submodules, no LFS contents (their
pointers come as they stand). There is never a checkout: a bare, shallow clone, and `git archive` of it. No
configuration but ours is read, no hook and no helper of others runs, and git talks https, without following
redirects, or ssh, to the one address that was checked (`reach`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from service.domain.weburls import read_git_url
from service.errors import FetchRefused, Invalid
from service.supervisor.data.git.cage import Cage
from service.supervisor.data.git.reach import LOCAL, Remote, bound
from service.supervisor.data.web import Web


async def git_archive(
    web: Web, url: str, folder: Path, *, max_bytes: int, on_bytes: Callable[[int], None]
) -> Path:
    """As `repository_archive`, of a public repository: `https://host/path[#ref]`."""
    try:
        found = read_git_url("url", url)
    except Invalid as error:
        raise FetchRefused(error.message) from None
    remote = Remote(url=found.plain, scheme="https", at=found.at, shown=found.at.shown, ref=found.ref)
    return await repository_archive(web, remote, folder, max_bytes=max_bytes, on_bytes=on_bytes)


async def repository_archive(
    web: Web,
    remote: Remote,
    folder: Path,
    *,
    max_bytes: int,
    on_bytes: Callable[[int], None],
    below: str = "",
) -> Path:
    """Clone `remote` into `folder`, and make a tar file of it, or of the folder `below` alone; its path.

    `folder` is empty and private. Clone and tar file may each have `max_bytes`; `on_bytes` is told how many
    bytes there are of both so far. Raises FetchRefused, Unavailable, Misconfigured (no git, no ssh) or
    OSError. A cancelled call leaves no process.
    """
    clone, tar = folder / "clone", folder / "files.tar"
    run = Cage(web, remote, folder, max_bytes, on_bytes)
    branch = [] if remote.ref is None else ["--branch", remote.ref]
    async with bound(web, remote, folder) as ways:
        await run(
            ways,
            *("clone", "--bare", "--depth", "1", "--single-branch", "--no-tags", "--template=", "--progress"),
            *(*branch, "--", remote.url, str(clone)),
        )
    only = ["--", f":(literal){below}"] if below else []
    await run(LOCAL, f"--git-dir={clone}", "archive", "--format=tar", f"--output={tar}", "HEAD", *only)
    return tar
