"""Words of a command line that no command can take: they are refused before anything is sent."""

from __future__ import annotations

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

from service.cli.exits import Exit
from tests.acceptance.running import ANSWER_DEADLINE_S, Said, Service, environment, started

NOWHERE = {"JOBYARD_URL": "http://127.0.0.1:9", "JOBYARD_TOKEN": "x"}
ID = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"


@pytest.mark.parametrize(
    "words",
    [
        "job get \udcff",
        f"job exec {ID} -- echo caf\udce9/",
        "job list -l caf\udce9",
        "bucket object delete los@local --all -y -p caf\udce9/",
        "bucket object list los@local -p \udcff",
        "bucket object download los@local caf\udce9",
        "volume create \udcff@local",
    ],
)
async def test_a_word_that_is_not_utf8_is_sent_nowhere(words: str, tmp_path: Path) -> None:
    said = await nowhere(tmp_path, *words.split())
    bad = words.split()[-1].replace("\udce9", "\\xe9").replace("\udcff", "\\xff")
    assert said == Said(
        Exit.USAGE, "", f"jobyard: {bad}: not UTF-8, as every word is here; nothing was sent\n"
    )


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("job", "get", ""), "JOB"),
        (("job", "exec", "", "--", "true"), "JOB"),
        (("volume", "get", ""), "VOLUME"),
        (("bucket", "create", "local", ""), "CONTAINER"),
        (("bucket", "create", "", "x"), "ALIAS"),
        (("bucket", "object", "delete", "x@local", ""), "KEY"),
        (("job", "run", "--from", "", "-c", "1"), "NAME"),
    ],
)
async def test_an_empty_word_is_said_to_be_empty(tmp_path: Path, words: tuple[str, ...], name: str) -> None:
    said = await nowhere(tmp_path, *words)
    why = "'' is not allowed; it is empty; write what it stands for"
    assert said == Said(Exit.USAGE, "", f"jobyard: {name}: {why}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "IMAGE: it is missing; name the image to run, or give --from"),
        (("",), "IMAGE: '' is not allowed; it is empty; write what it stands for"),
        (("--image", " "), "--image: ' ' is not allowed; it is empty; give it a value, or leave it out"),
    ],
)
async def test_an_image_that_is_not_named_is_asked_for(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    told = await nowhere(tmp_path, "job", "run", "-c", "1", *words)
    assert told == Said(Exit.USAGE, "", f"jobyard: {said}\n")


async def test_a_job_runs_on_units_of_one_kind(tmp_path: Path) -> None:
    said = await nowhere(tmp_path, "job", "run", "-c", "1", "-g", "1", "image")
    assert (said.code, said.err.startswith("jobyard: --cpu: 1 ")) == (Exit.USAGE, True), said


async def test_a_device_is_no_file_to_upload(service: Service) -> None:
    said = await service.cli("bucket", "object", "upload", "words@local", "/dev/zero")
    assert (said.code, "neither a regular file nor a folder" in said.err) == (Exit.USAGE, True), said


async def test_a_file_whose_name_is_not_utf8_is_named(service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    Path(os.fsdecode(bytes(folder) + b"/caf\xe9")).write_text("x")
    said = await service.cli("bucket", "object", "upload", "words@local", str(folder))
    assert (said.code, "caf\\xe9" in said.err, said.out) == (Exit.USAGE, True, ""), said


@pytest.mark.parametrize("end", ["\r", "\n", " \r\n"])
async def test_a_token_from_a_file_may_end_with_its_line(service: Service, end: str) -> None:
    said = await service.cli("me", JOBYARD_TOKEN=service.up["token"] + end)
    assert (said.code, said.err) == (Exit.DONE, "")


@pytest.mark.parametrize("token", ["a\rb", "a\nb", "a b", "\x7fa", "caf\udce9", "défi"])
async def test_what_is_no_token_is_not_sent_and_not_shown(tmp_path: Path, token: str) -> None:
    said = await nowhere(tmp_path, "me", JOBYARD_TOKEN=token)
    assert said.code == Exit.USAGE
    assert (
        said.err == "jobyard: the token holds a character that no token has; give it as it was shown once\n"
    )


@pytest.mark.parametrize("key", ["a\nk", "", "é"])
async def test_what_is_no_idempotency_key_is_not_sent(tmp_path: Path, key: str) -> None:
    said = await nowhere(tmp_path, "job", "run", "-c", "1", "--idempotency-key", key, "image")
    assert (said.code, said.err.count("\n")) == (Exit.USAGE, 1), said
    assert said.err.startswith("jobyard: --idempotency-key:")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            "job list --watch --as-of 5",
            "--watch: '--as-of' is not allowed; what was does not change",
        ),
        ("quota --as-of yesterday", "--as-of: 'yesterday' is not allowed; write a position, a time such as"),
        ("job diff x --from 1.5", "--from: '1.5' is not allowed; write a position"),
        ("job diff x --from 1 --to 2026-11-28", "--to: '2026-11-28' is not allowed; say which zone it is in"),
    ],
)
async def test_what_is_no_moment_is_not_sent(tmp_path: Path, words: str, says: str) -> None:
    said = await nowhere(tmp_path, *words.split())
    assert (said.code, said.out, said.err.count("\n")) == (Exit.USAGE, "", 1), said
    assert said.err.startswith(f"jobyard: {says}")


async def nowhere(state: Path, *words: str, **environ: str) -> Said:
    """A command that would say 6 if it asked anybody for anything."""
    settings = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE}
    found = environment(state, **NOWHERE | environ)
    async with started(*words, **settings, env=found) as process, asyncio.timeout(ANSWER_DEADLINE_S):
        out, err = await process.communicate()
    return Said(process.returncode or 0, out.decode(), err.decode())
