"""A command at a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.acceptance.running import Service, environment, started


class Terminal:
    """`ours` is where a person would sit, `theirs` where the command is."""

    def __init__(self, rows: int, columns: int) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(rows, columns)
        os.set_blocking(self.ours, False)
        self.before = self.mode()
        self._shown = bytearray()

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def mode(self) -> list[Any]:
        """How it treats what is typed: with an echo, line by line, or not."""
        return termios.tcgetattr(self.theirs)

    def type(self, text: bytes) -> None:
        os.write(self.ours, text)

    def shows(self, text: bytes) -> bool:
        """Whether it has shown this so far."""
        try:
            while data := os.read(self.ours, 65536):
                self._shown.extend(data)
        except BlockingIOError:
            pass
        return text in self._shown


@asynccontextmanager
async def at_terminal(
    service: Service, *words: str, rows: int = 24, columns: int = 80, **environ: str
) -> AsyncIterator[tuple[Process, Terminal]]:
    """A command while the context lasts, and its terminal."""
    terminal = Terminal(rows, columns)
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), terminal.theirs)
    settings = environment(service.state, TERM="xterm", **environ)
    try:
        async with started(*words, **streams, env=settings) as process:
            yield process, terminal
    finally:
        os.close(terminal.ours)
        os.close(terminal.theirs)
