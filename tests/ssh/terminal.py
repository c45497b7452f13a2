"""A person at a terminal, for programs that look at theirs."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import termios
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.ssh.client import Client
from tests.support.waiting import DEADLINE_S


class Terminal:
    """`ssh` with a terminal of ours as its own."""

    def __init__(self, process: Process, master: int) -> None:
        self._process = process
        self._master = master
        self._heard = ""

    @classmethod
    @asynccontextmanager
    async def of(cls, client: Client, *words: str, columns: int, rows: int) -> AsyncIterator[Terminal]:
        master, slave = pty.openpty()
        os.set_blocking(master, False)
        _resize(slave, columns, rows)
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(client.home), "TERM": "xterm-ours"}
        environment |= {"LANG": "C.UTF-8", "LC_TIME": "C", "SECRET": "s3cret"}
        sent = ("-o", "SendEnv=LANG LC_* SECRET")
        process = await asyncio.create_subprocess_exec(
            *("ssh", *client.options, "-tt", *sent, client.at, *words),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        try:
            yield cls(process, master)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            os.close(master)

    async def say(self, text: str) -> None:
        os.write(self._master, text.encode())

    def resize(self, *, columns: int, rows: int) -> None:
        _resize(self._master, columns, rows)

    async def hear(self, text: str) -> None:
        """Wait until this was printed, after what was heard before."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(DEADLINE_S):
            while text not in self._heard:
                readable = asyncio.Event()
                loop.add_reader(self._master, readable.set)
                try:
                    await readable.wait()
                finally:
                    loop.remove_reader(self._master)
                self._heard += os.read(self._master, 65536).decode()
        self._heard = self._heard.partition(text)[2]

    async def end(self) -> int:
        async with asyncio.timeout(DEADLINE_S):
            return await self._process.wait()


def _resize(descriptor: int, columns: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
