"""Completion in a real bash, by the script that `jobyard` itself gives out."""

from __future__ import annotations

import asyncio
import json
import shlex
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from pathlib import Path

import pytest

from tests.acceptance.running import Service, environment, started
from tests.images import BUSYBOX
from tests.support.waiting import until

JOBYARD = str(Path(sys.executable).with_name("jobyard"))
DEADLINE_S = 60.0


async def offered(state: Path, *lines: tuple[str, ...], **environ: str) -> list[list[str]]:
    """What a bash offers for the last word of each line; it must say nothing else and end well."""
    script = [
        f'eval "$({JOBYARD} --show-completion)"',
        "function=$(complete -p jobyard | sed 's/.*-F \\([^ ]*\\) .*/\\1/')",
    ]
    for line in lines:
        script += [
            f"COMP_WORDS=({shlex.join((JOBYARD, *line))}) COMP_CWORD={len(line)}",
            f"$function {JOBYARD} || exit",
            'printf "%s\\n" "${COMPREPLY[@]}" .',
        ]
    streams = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE, "env": environment(state, **environ)}
    bash = ("bash", "--norc", "-c")
    async with started("\n".join(script), program=bash, **streams) as process, asyncio.timeout(DEADLINE_S):
        out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    return [each.split() for each in out.decode().split(".\n")[:-1]]


async def test_words_and_options(service: Service) -> None:
    lines = (("",), ("bucket", "object", "d"), ("job", "run", "--ssh"))
    first, nouns, options = await offered(service.state, *lines)
    assert {"job", "bucket", "volume", "up", "me"} <= set(first)
    assert nouns == ["download", "delete"]
    assert "--ssh-public-keys" in options


async def test_what_the_service_knows(service: Service) -> None:
    made = ("-o", "json")
    done = (await service.cli("job", "run", "-w", "-c", "1", *made, BUSYBOX, "true")).json["id"]
    live = (await service.cli("job", "run", "-c", "1", *made, BUSYBOX, "sleep", "600")).json["id"]
    token = (await service.cli("token", "create", "completes", *made)).json["id"]
    add = ("registry", "add", "https://completes.example", "ann", "--no-check", *made)
    registry = (await service.cli(*add, JOBYARD_REGISTRY_PASSWORD="x")).json["id"]
    volume = (await service.cli("volume", "create", "standalone", *made)).json["id"]
    expected = {
        ("job", "stop", live[:8]): [live],
        ("job", "stop", done[:8]): [],
        ("job", "start", live[:8]): [],
        ("job", "run", "--from", done[:8]): [done],
        ("job", "run", "-f", ""): ["ai1-1-cpu"],
        ("datastore", "get", "lo"): ["local"],
        ("token", "renew", token[:8]): [token],
        ("registry", "get", registry[:8]): [registry],
        ("volume", "delete", volume[:8]): [volume],
    }
    found: dict[tuple[str, ...], list[str]] = {}

    async def all_are_offered() -> bool:
        """A shell waits for an answer no longer than somebody at a prompt would, who then asks again."""
        left = [line for line in expected if found.get(line) != expected[line]]
        found.update(zip(left, await offered(service.state, *left), strict=True))
        return found == expected

    with suppress(AssertionError):
        await until(all_are_offered, DEADLINE_S)
    assert found == expected
    for words in (("registry", "delete", registry), ("job", "delete", "--force", live)):
        assert (await service.cli(*words)).code == 0


@pytest.mark.parametrize("answers", ["nothing listens", "nothing is said", "no service is here", "nonsense"])
async def test_a_service_that_cannot_be_asked_offers_nothing_and_holds_nobody_up(
    tmp_path: Path, answers: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = (
            "http://127.0.0.1:9"
            if answers == "nothing listens"
            else f"http://127.0.0.1:{silent.getsockname()[1]}"
        )
        where = (
            {}
            if answers in ("no service is here", "nonsense")
            else {"JOBYARD_URL": url, "JOBYARD_TOKEN": "x"}
        )
        if answers == "nonsense":
            (tmp_path / "up.json").write_text(json.dumps({"url": 3}))
        assert await offered(tmp_path, ("job", "get", ""), **where) == [[]]
