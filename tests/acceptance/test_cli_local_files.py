"""What the files and the output of this machine refuse is one line and an exit status."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

from service.cli.exits import Exit
from tests.acceptance.running import ANSWER_DEADLINE_S, PROGRAM, Service, environment, started


@pytest.mark.parametrize("words", ["capabilities flavor list", "me -o json", "--help", "job list --help"])
async def test_an_output_that_is_full(service: Service, words: str) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    settings = {"stdin": DEVNULL, "stdout": full, "stderr": PIPE, "env": environment(service.state)}
    try:
        async with started(*words.split(), **settings) as process, asyncio.timeout(ANSWER_DEADLINE_S):
            _, err = await process.communicate()
    finally:
        os.close(full)
    assert (process.returncode, err) == (Exit.FAILED, b"jobyard: No space left on device\n")


async def test_a_folder_that_cannot_be_one(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x").write_text("x")
    assert (await service.cli("bucket", "create", "local", "files")).code == 0
    assert (await service.cli("bucket", "object", "upload", "files@local", str(tmp_path / "in"))).code == 0
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "in").write_text("kept")
    for folder in (file, file / "below", blocked, Path("/dev/null"), Path("/proc/x")):
        words = ("bucket", "object", "download", "files@local", "in/x", "-o", str(folder))
        said = await service.cli(*words)
        assert (said.code, said.out, said.err.count("\n")) == (Exit.FAILED, "", 1), (folder, said)
        assert said.err.startswith(f"jobyard: {folder}"), said
    assert (file.read_text(), (blocked / "in").read_text()) == ("kept", "kept")


async def test_an_object_that_there_is_no_room_for(service: Service, tmp_path: Path) -> None:
    """A file here that refuses is not taken for a service that does not answer."""
    file = tmp_path / "large"
    file.write_bytes(bytes(200_000))
    assert (await service.cli("bucket", "create", "local", "files")).code == 0
    assert (await service.cli("bucket", "object", "upload", "files@local", str(file))).code == 0
    words = ("bucket", "object", "download", "files@local", "large", "-o", str(tmp_path / "out"))
    settings = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE, "env": environment(service.state)}
    program = ("bash", "-c", 'trap "" XFSZ; ulimit -f 100; exec "$@"', "bash", *PROGRAM)
    async with started(*words, program=program, **settings) as process, asyncio.timeout(ANSWER_DEADLINE_S):
        _, err = await process.communicate()
    assert (process.returncode, err) == (Exit.FAILED, b"jobyard: File too large\n")
