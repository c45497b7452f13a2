"""The program git in its cage: bounds of size, memory and silence, an environment of ours, and what it means.

It runs in a session of its own, which ends with us and with the call. Nothing of the machine's or the user's
configuration is read; where it may go is `reach`'s to say.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

from service.domain.shown import shown
from service.errors import (
    FetchDenied,
    FetchMissing,
    FetchRefused,
    HostKeyRefused,
    Misconfigured,
    Unavailable,
)
from service.supervisor.data import disk
from service.supervisor.data.git.reach import Remote, Ways
from service.supervisor.data.model import JOBS_LIMIT
from service.supervisor.data.web import Web

WATCH_S = 0.5
MAX_MEMORY_KIB = 4 * 1024**2
_SAID_BYTES = 8192

#: Bounds of one file (512 bytes each) and of memory (KiB), then the program, which ends with us. A write past
#: the first fails and says so: the signal would kill a part of git without a word.
_LIMITED = (
    'trap "" XFSZ && ulimit -c 0 && ulimit -f "$1" && ulimit -v "$2" && shift 2 &&'
    ' exec setpriv --no-new-privs --pdeathsig KILL -- "$@"'
)
_HOST_KEY = re.compile(r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED")
_HOST_KEY_MEANING = (
    "the server shows a host key that is not known: if it changed on purpose, replace the data store"
)
_DENIED = re.compile(
    r"could not read Username|Authentication failed|error: 40[13]|Permission denied \(|"
    r"Too many authentication"
)
_PASSING = re.compile(
    r"Could not resolve|Failed to connect|Couldn't connect|[Tt]imed out|[Tt]imeout|early EOF|hung up|"
    r"RPC failed|returned error: (?:5\d\d|408|425|429)|Connection (?:reset|refused|was reset|closed)|"
    r"unexpected disconnect|too slow|Recv failure|Empty reply|unable to fork|Out of memory|"
    r"No route to host|Network is unreachable|kex_exchange_identification"
)
_Meaning = tuple[re.Pattern[str], type[FetchRefused], str]
#: What stays wrong even where the server hangs up then.
_CERTAIN: tuple[_Meaning, ...] = (
    (re.compile(r"Remote branch .* not found"), FetchMissing, "it has no such branch or tag"),
    (re.compile(r"pathspec .* did not match"), FetchMissing, "it has no such folder"),
    (re.compile(r"not appear to be a git repository"), FetchMissing, "there is no such repository"),
    (
        re.compile(r"File too large|[Ff]ile size limit"),
        FetchRefused,
        "it is larger than the volume may be",
    ),
)
_MEANINGS: tuple[_Meaning, ...] = (
    (
        re.compile(r"not found|error: 404|could not be found|annot find repo"),
        FetchMissing,
        "there is no such repository",
    ),
    (
        re.compile(r"error: 30\d|unable to update url base"),
        FetchMissing,
        "it has moved elsewhere: name the URL it is at",
    ),
    (re.compile(r"[Cc]ertificate|SSL"), FetchRefused, "the server's certificate is not valid for it"),
    (
        re.compile(r"dumb http|not valid: is this a git repository"),
        FetchMissing,
        "no git server answers there",
    ),
)
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TELLING = re.compile(r"(?:fatal|error|ERROR|ssh): |.*: Permission denied \(")
#: What git says whatever has happened.
_EMPTY_WORDS = re.compile(
    r"fatal: (?:Could not read from remote repository|the remote end hung up)|Please make sure you have|"
    r"and the repository exists"
)

FIXED = tuple(
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


class Cage:
    """The program in its cage: environment, bounds, a watch over size and silence, and what it says."""

    def __init__(
        self, web: Web, remote: Remote, folder: Path, max_bytes: int, on_bytes: Callable[[int], None]
    ) -> None:
        self._web = web
        self._folder = folder
        self._remote = remote
        self._max_bytes = max_bytes
        self._on_bytes = on_bytes
        self._said = b""
        self._size = 0
        self._alive_at = 0.0

    async def __call__(self, ways: Ways, *arguments: str) -> None:
        """Run git to its end. Raises as `repository_archive`."""
        self._said = b""
        bounds = (str(self._max_bytes // 512 + 1), str(MAX_MEMORY_KIB))
        try:
            process = await asyncio.create_subprocess_exec(
                *("sh", "-c", _LIMITED, "sh", *bounds, "git", *FIXED, *ways.options, *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=self._environment() | dict(ways.variables),
                pass_fds=ways.descriptors,
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
            "GIT_ALLOW_PROTOCOL": "none",
            "GIT_ASKPASS": "/bin/false",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_TERMINAL_PROMPT": "0",
        }

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Until it ends: bounded size, bounded silence.

        The size is what this call adds: what one before it left is within its own bound.
        """
        loop = asyncio.get_running_loop()
        self._alive_at = loop.time()
        before = self._size
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
            if size - before > self._max_bytes:
                raise FetchRefused(
                    f"{self._remote.shown}: it has more than {self._max_bytes} bytes{JOBS_LIMIT}"
                )
            if process.returncode is not None:
                return
            if loop.time() - self._alive_at > self._web.stall_s:
                raise Unavailable(f"{self._remote.shown}: nothing came for {self._web.stall_s:.0f} s")

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        """Keep the last of what it says; saying something is a sign of life."""
        while said := await stderr.read(4096):
            self._alive_at = asyncio.get_running_loop().time()
            self._said = (self._said + said)[-_SAID_BYTES:]

    def _failure(self, code: int) -> FetchRefused | Unavailable | Misconfigured:
        text = self.said
        if code == 127:
            return Misconfigured("the program git (or setpriv) is missing on the node")
        if "cannot run ssh" in text or "ssh: not found" in text:
            return Misconfigured("the program ssh is missing on the node")
        where = self._remote.shown
        if "not a valid object name: HEAD" in text or "not a tree object" in text:
            return FetchMissing(f"{where}: the repository is empty")
        if code in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ):
            return FetchRefused(f"{where}: it is larger than the volume may be")
        if _HOST_KEY.search(text):
            return HostKeyRefused(f"{where}: {_HOST_KEY_MEANING}")
        if _DENIED.search(text):
            return FetchDenied(f"{where}: {self._remote.denied} ({self._cleaned(text)})")
        passing = _PASSING.search(text) is not None
        for pattern, kind, meaning in _CERTAIN if passing else _CERTAIN + _MEANINGS:
            if pattern.search(text):
                return kind(f"{where}: {meaning} ({self._cleaned(text)})")
        message = f"{where}: {self._cleaned(text)}"
        return Unavailable(message) if passing else FetchRefused(message)

    @property
    def said(self) -> str:
        """The end of what it said last, without secrets."""
        text = self._said.decode("utf-8", "replace")
        for secret in self._remote.secrets:
            text = text.replace(secret, "…")
        return text

    def _cleaned(self, text: str) -> str:
        """The line that tells most, without our paths and control characters."""
        lines = [line.strip() for line in re.split(r"[\r\n]", _ANSI.sub("", text)) if line.strip()]
        lines = [line for line in lines if not _EMPTY_WORDS.match(line)] or lines
        telling = [line for line in lines if _TELLING.match(line)] or lines or ["git failed"]
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
