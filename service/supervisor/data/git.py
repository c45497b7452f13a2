"""The files of a public git repository, by the program git, as a tar archive.

The files as they are at the end of a branch or at a tag: no history, no submodules, no LFS contents (their
pointers come as they stand). There is never a checkout: a bare, shallow clone, and `git archive` of it. No
configuration but ours is read, no hook and no helper runs, and git talks https to the one address that was
checked, without following redirects.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import cast

from service.domain.weburls import GitUrl, read_git_url
from service.errors import FetchRefused, Invalid, Misconfigured, Unavailable
from service.supervisor.data import disk
from service.supervisor.data.keys import shown
from service.supervisor.data.web import Web

WATCH_S = 0.5
MAX_MEMORY_KIB = 4 * 1024**2
LEAST_BYTES_PER_S = 1000
_SAID_BYTES = 8192

#: Bounds of one file (512 bytes each) and of memory (KiB), then the program, which ends with us.
_LIMITED = (
    'ulimit -c 0 && ulimit -f "$1" && ulimit -v "$2" && shift 2 &&'
    ' exec setpriv --no-new-privs --pdeathsig KILL -- "$@"'
)
_PASSING = re.compile(
    r"Could not resolve|Failed to connect|Couldn't connect|[Tt]imed out|[Tt]imeout|early EOF|hung up|"
    r"RPC failed|returned error: (?:5\d\d|408|425|429)|Connection (?:reset|refused|was reset|closed)|"
    r"unexpected disconnect|too slow|Recv failure|Empty reply|unable to fork|Out of memory"
)
_MEANINGS = (
    (re.compile(r"Remote branch .* not found"), "it has no such branch or tag"),
    (re.compile(r"could not read Username|Authentication failed|error: 40[13]"), "it is not public"),
    (re.compile(r"not found|error: 404"), "there is no such repository"),
    (re.compile(r"error: 30\d|unable to update url base"), "it has moved elsewhere: name the URL it is at"),
    (re.compile(r"[Cc]ertificate|SSL"), "the server's certificate is not valid for it"),
    (re.compile(r"File too large|file size limit|File size limit"), "it is larger than the volume may be"),
    (re.compile(r"dumb http|not valid: is this a git repository"), "no git server answers there"),
)
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


async def git_archive(
    web: Web, url: str, folder: Path, *, max_bytes: int, on_bytes: Callable[[int], None]
) -> Path:
    """Clone `url` (`https://host/path[#ref]`) into `folder`, and make a tar file of it; its path.

    `folder` is empty and private. `on_bytes` is told how many bytes there are of the clone so far. Raises
    FetchRefused, Unavailable, Misconfigured (no git) or OSError. A cancelled call leaves no process.
    """
    try:
        found = read_git_url("url", url)
    except Invalid as error:
        raise FetchRefused(error.message) from None
    addresses = await web.addresses(found.at)
    clone, tar = folder / "clone", folder / "files.tar"
    run = _Git(web, folder, found, max_bytes, on_bytes)
    options = await run.options(addresses)
    branch = [] if found.ref is None else ["--branch", found.ref]
    await run(
        *options,
        *("clone", "--bare", "--depth", "1", "--single-branch", "--no-tags", "--template=", "--progress"),
        *(*branch, "--", found.plain, str(clone)),
    )
    await run(*_FIXED, f"--git-dir={clone}", "archive", "--format=tar", f"--output={tar}", "HEAD")
    return tar


_FIXED = tuple(
    word
    for setting in (
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "core.attributesFile=/dev/null",
        "core.bigFileThreshold=16m",
        "core.packedGitWindowSize=32m",
        "core.packedGitLimit=256m",
        "credential.helper=",
        "fetch.recurseSubmodules=false",
        "gc.auto=0",
        "maintenance.auto=false",
        "pack.threads=1",
        "submodule.recurse=false",
        "transfer.bundleURI=false",
    )
    for word in ("-c", setting)
)


class _Git:
    """The program in its cage: environment, bounds, a watch over size and silence, and what it says."""

    def __init__(
        self, web: Web, folder: Path, url: GitUrl, max_bytes: int, on_bytes: Callable[[int], None]
    ) -> None:
        self._web = web
        self._folder = folder
        self._url = url
        self._max_bytes = max_bytes
        self._on_bytes = on_bytes
        self._said = b""
        self._size = 0
        self._alive_at = 0.0

    async def options(self, addresses: list[str]) -> tuple[str, ...]:
        """What binds git to the checked addresses."""
        at = self._url.at
        listed = ",".join(f"[{each}]" if ":" in each else each for each in addresses)
        settings = [
            f"http.curloptResolve={at.host}:{at.port}:{listed}",
            "http.followRedirects=false",
            "http.proxy=",
            "http.sslVerify=true",
            f"http.lowSpeedLimit={LEAST_BYTES_PER_S}",
            f"http.lowSpeedTime={max(1, int(self._web.stall_s))}",
            "protocol.allow=never",
            "protocol.https.allow=always",
        ]
        if self._web.ca is not None:
            bundle = await disk.run(_bundle, self._web.ca, self._folder / "ca.pem")
            settings.append(f"http.sslCAInfo={bundle}")
        return (*_FIXED, *(word for setting in settings for word in ("-c", setting)))

    async def __call__(self, *arguments: str) -> None:
        """Run git to its end. Raises as `git_archive`."""
        self._said = b""
        bounds = (str(self._max_bytes // 512 + 1), str(MAX_MEMORY_KIB))
        try:
            process = await asyncio.create_subprocess_exec(
                *("sh", "-c", _LIMITED, "sh", *bounds, "git", *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=self._environment(),
                cwd=self._folder,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise Misconfigured("there is no shell to run git with") from error
        stderr = cast(asyncio.StreamReader, process.stderr)
        listening = asyncio.create_task(self._listen(stderr))
        try:
            await self._watch(process)
            await listening
        finally:
            _kill(process)
            await process.wait()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
        if process.returncode:
            raise self._failure(process.returncode)

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._folder),
            "XDG_CONFIG_HOME": str(self._folder),
            "LC_ALL": "C",
            "GIT_ALLOW_PROTOCOL": "https",
            "GIT_ASKPASS": "/bin/false",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Until it ends: bounded size, bounded silence."""
        loop = asyncio.get_running_loop()
        self._alive_at = loop.time()
        while True:
            try:
                async with asyncio.timeout(WATCH_S):
                    await process.wait()
            except TimeoutError:
                pass
            size = await disk.run(_size, self._folder)
            if size != self._size:
                self._size, self._alive_at = size, loop.time()
                self._on_bytes(size)
            if size > self._max_bytes:
                raise FetchRefused(f"{self._url.at.shown}: it has more than {self._max_bytes} bytes")
            if process.returncode is not None:
                return
            if loop.time() - self._alive_at > self._web.stall_s:
                raise Unavailable(f"{self._url.at.shown}: nothing came for {self._web.stall_s:.0f} s")

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        """Keep the last of what it says; saying something is a sign of life."""
        while said := await stderr.read(4096):
            self._alive_at = asyncio.get_running_loop().time()
            self._said = (self._said + said)[-_SAID_BYTES:]

    def _failure(self, code: int) -> FetchRefused | Unavailable | Misconfigured:
        text = self._said.decode("utf-8", "replace")
        if code == 127:
            return Misconfigured("the program git (or setpriv) is missing on the node")
        where = self._url.at.shown
        if "not a valid object name: HEAD" in text or "not a tree object" in text:
            return FetchRefused(f"{where}: the repository is empty")
        if code in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ):
            return FetchRefused(f"{where}: it is larger than the volume may be")
        if _PASSING.search(text):
            return Unavailable(f"{where}: {self._cleaned(text)}")
        for pattern, meaning in _MEANINGS:
            if pattern.search(text):
                return FetchRefused(f"{where}: {meaning} ({self._cleaned(text)})")
        return FetchRefused(f"{where}: {self._cleaned(text)}")

    def _cleaned(self, text: str) -> str:
        """The line that tells most, without our paths and control characters."""
        lines = [line.strip() for line in re.split(r"[\r\n]", _ANSI.sub("", text)) if line.strip()]
        telling = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines or ["git failed"]
        return shown(telling[-1].replace(str(self._folder), "…"))


def _kill(process: asyncio.subprocess.Process) -> None:
    """End it and its children: they are a session of their own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # all of it has ended


def _size(folder: Path) -> int:
    """Bytes below a folder that a program is changing at this moment."""
    total = 0
    for above, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(above, name)).st_size  # noqa: PTH118 (many, and in a loop)
            except FileNotFoundError:
                continue
    return total


def _bundle(extra: Path, to: Path) -> Path:
    """The system's authorities and ours in one file: git's option replaces the system's."""
    system = ssl.get_default_verify_paths().cafile
    parts = [Path(system).read_bytes()] if system and Path(system).exists() else []
    to.write_bytes(b"\n".join([*parts, extra.read_bytes()]))
    return to
