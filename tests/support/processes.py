"""Writer processes that begin together, so that they meet."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any


async def write_together(url: str, *writers: tuple[str, int, int]) -> list[list[Any]]:
    """Run one process per (what, count, concurrency), all at once; the answers of each."""
    started = [await _start(url, *writer) for writer in writers]
    try:
        for process in started:
            assert process.stdout is not None
            assert (await process.stdout.readline()).strip() == b"ready"
        said = await asyncio.gather(*(process.communicate(b"go\n") for process in started))
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert [process.returncode for process in started] == [0] * len(started)
    return [json.loads(output) for output, _ in said]


async def _start(url: str, what: str, count: int, concurrency: int) -> Process:
    arguments = ["-m", "tests.support.writer_process", url, what, str(count), str(concurrency)]
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=PIPE, stdout=PIPE, limit=2**24
    )
