"""`jobyard job …` as a process, against a real service: what it prints, and the status it leaves with."""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.cli.client import Client
from service.cli.exits import Exit
from service.cli.where import Where
from tests.acceptance.lossy import lossy
from tests.acceptance.running import ANSWER_DEADLINE_S, Service, cli
from tests.images import BUSYBOX

GOOD = ["QUEUED", "INITIALIZING", "PENDING", "RUNNING", "FINALIZING", "DONE"]


def states_told(text: str) -> list[str]:
    """The states in the order in which `--watch` told them."""
    return [word for line in text.splitlines() for word in line.split()[1:2] if word in {*GOOD, "FAILED"}]


async def test_a_watched_job_shows_its_states_and_its_log_and_ends_as_it_did(service: Service) -> None:
    said = await service.cli(
        *("job", "run", "--watch", "-c", "1", "-e", "WHO=you", "-e", "FROM_HERE", BUSYBOX, "--"),
        *("sh", "-c", "echo hello $WHO $FROM_HERE; echo --watch -o json"),
        FROM_HERE="and me",
    )
    assert said.code == Exit.DONE
    assert said.out == "hello you and me\n--watch -o json\n"
    assert states_told(said.err) == GOOD
    assert all(len(line.split()) > 2 for line in said.err.splitlines() if states_told(line)), "each in words"
    assert said.err.count("The job ended normally.") == 1, "at its end, and not before"


async def test_a_failed_job_is_told_by_the_exit_status(service: Service) -> None:
    said = await service.cli("job", "run", "-w", "-c", "1", BUSYBOX, "--", "sh", "-c", "exit 3")
    assert said.code == Exit.FAILED
    assert states_told(said.err) == [*GOOD[:5], "FAILED"]
    assert "The process ended with code 3." in said.err


async def test_a_job_that_no_node_can_hold_is_told_of_as_it_is_submitted(service: Service) -> None:
    """As by someone who forgets `-c` where there is no GPU."""
    never = "No node can hold the job, so it waits for ever as things are: local cannot: "
    said = await service.cli("job", "run", BUSYBOX, "--", "true")
    assert (said.code, len(said.out.split())) == (Exit.DONE, 1)
    lines = said.err.splitlines()
    assert lines[0] == f"{never}1 GPUs, and it has 0." and "-c 1 asks for a CPU" in lines[1]
    asked = await service.cli("job", "run", "-o", "json", "-g", "1", BUSYBOX, "--", "true")
    assert asked.err.startswith(never) and "-c 1" not in asked.err and asked.json["status"]["state"]
    async with service.start("job", "run", "--watch", "-g", "1", BUSYBOX, "--", "true") as watched:
        assert watched.stderr is not None
        _, line = [(await watched.stderr.readline()).decode() for _ in range(2)]
        assert line.startswith(never)
        watched.send_signal(signal.SIGINT)
        await watched.wait()
    would = await service.cli("job", "run", "--dry-run", "-g", "1", BUSYBOX)
    assert "would be taken, and the job would wait for ever as things are" in would.out
    small = await service.cli("job", "run", "--dry-run", "-c", "1", BUSYBOX)
    assert small.out.rstrip().endswith("would be taken")
    quiet = await service.cli("job", "run", "-c", "1", BUSYBOX, "--", "true")
    assert (quiet.code, quiet.err) == (Exit.DONE, "")
    queued = await service.cli("job", "list", "-s", "QUEUED", "-o", "json")
    for each in queued.json:
        assert (await service.cli("job", "delete", "--force", each["id"])).code == Exit.DONE


async def test_json_alone_is_on_stdout(service: Service) -> None:
    words = ("job", "run", "--watch", "-c", "1", BUSYBOX, "--", "echo", "hello")
    watched = await service.cli(*words[:3], "-o", "json", *words[3:])
    assert watched.json["status"]["state"] == "DONE"
    assert "hello\n" in watched.err
    shown = await service.cli("job", "get", watched.json["id"], "-o", "yaml")
    assert yaml.safe_load(shown.out) == watched.json
    listed = await service.cli("job", "list", "-o", "json")
    assert watched.json["id"] in [each["id"] for each in listed.json]


async def test_a_job_that_is_stopped_ends_the_wait_with_its_own_status(service: Service) -> None:
    job = (await service.cli("job", "run", "-c", "1", BUSYBOX, "--", "sleep", "600")).out.strip()
    waiting = asyncio.create_task(service.cli("job", "wait", job))
    assert (await service.cli("job", "stop", job)).code == Exit.DONE
    waited = await waiting
    assert (waited.code, waited.out) == (Exit.ENDED_OTHERWISE, "INTERRUPTED\n")
    refused = await service.cli("job", "stop", job)
    assert refused.code == Exit.REFUSED
    assert refused.err.startswith(f"jobyard: job {job} is INTERRUPTED")
    assert (await service.cli("job", "delete", job)).code == Exit.DONE
    assert (await service.cli("job", "get", job)).code == Exit.NOT_FOUND


async def test_ctrl_c_stops_looking_and_not_the_job(service: Service) -> None:
    words = ("job", "run", "-w", "-c", "1", BUSYBOX, "--", "sh", "-c", "echo here; sleep 600")
    async with service.start(*words) as process, asyncio.timeout(ANSWER_DEADLINE_S):
        assert process.stdout is not None
        assert await process.stdout.readline() == b"here\n"
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    job = err.decode().split()[1]
    assert err.decode().endswith(f"the job goes on; follow it again with: jobyard job logs --follow {job}\n")
    assert (await service.cli("job", "get", job, "-o", "json")).json["status"]["state"] == "RUNNING"
    assert (await service.cli("job", "delete", "--force", job)).code == Exit.DONE


async def test_logs_in_parts_and_followed(service: Service) -> None:
    script = "for i in 1 2 3 4 5; do echo line $i; done"
    job = (await service.cli("job", "run", "-c", "1", BUSYBOX, "--", "sh", "-c", script)).out.strip()
    followed = await service.cli("job", "logs", "--follow", job)
    assert followed.out == "".join(f"line {number}\n" for number in range(1, 6))
    assert (await service.cli("job", "logs", "--tail", "2", job)).out == "line 4\nline 5\n"
    assert (await service.cli("job", "logs", "--since", "1h", job)).out == followed.out
    assert (await service.cli("job", "logs", "--since", "2999-01-01T00:00:00Z", job)).out == ""
    assert (await service.cli("job", "logs", "--since", "yesterday", job)).code == Exit.USAGE


async def test_a_job_begun_from_another_takes_over_what_is_not_given(service: Service) -> None:
    first = await service.cli(
        *("job", "run", "-c", "2", "-e", "A=1", "-l", "team=a", "-t", "90m", "-n", "first", "-o", "json"),
        *("-v", "standalone:/scratch:rw", BUSYBOX, "--", "true"),
    )
    second = await service.cli(
        "job", "run", "--from", first.json["id"], "-e", "B=2", "-o", "json", "--", "false"
    )
    old, new = first.json["spec"], second.json["spec"]
    assert new["command"] == ["false"]
    assert new["envVars"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    assert new["name"] != old["name"]
    assert new["labels"]["ovh/id"] == second.json["id"]
    same = ("image", "resources", "timeout", "volumes")
    assert [new[name] for name in same] == [old[name] for name in same]
    assert (new["timeout"], new["resources"]["cpu"], new["labels"]["team"]) == (5400, 2, "a")


async def test_the_command_line_that_the_api_writes_makes_the_same_job(service: Service) -> None:
    words = (
        *("job", "run", "--cpu", "1", "--env", "A=x y", "--name", "words", "--label", "a=b"),
        *("--volume", "words-data@local/in/:/in:ro:cache", "--timeout", "1h", "--unsecure-http"),
        *("-p", "9000", BUSYBOX, "--", "sh", "-c", "echo 'a b'"),
    )
    first = (await _json_of(service, words)).json
    asked = {name: value for name, value in first["spec"].items() if name != "labels"} | {
        "labels": {"a": "b"}
    }
    command = await _command_of(service, asked)
    second = (await _json_of(service, tuple(shlex.split(command)[1:]))).json
    for spec in (first["spec"], second["spec"]):
        del spec["labels"]["ovh/id"]
    assert second["spec"] == first["spec"]


async def _json_of(service: Service, words: tuple[str, ...]) -> Any:
    at = words.index("run") + 1
    return await service.cli(*words[:at], "-o", "json", *words[at:])


async def _command_of(service: Service, spec: dict[str, Any]) -> str:
    async with Client(Where(service.up["url"], service.up["token"])) as client:
        answer = await client.post("/job/command", spec)
    return str(answer["command"])


async def test_one_job_although_the_answers_to_its_submission_are_lost(service: Service) -> None:
    before = {each["id"] for each in (await service.cli("job", "list", "-o", "json")).json}
    async with lossy(service.up["url"], lose=2) as way:
        said = await service.cli(
            *("job", "run", "--url", way.url, "--token", service.up["token"]),
            *("-c", "1", BUSYBOX, "--", "true"),
        )
    after = {each["id"] for each in (await service.cli("job", "list", "-o", "json")).json}
    assert (said.code, way.lost) == (Exit.DONE, 2)
    assert after - before == {said.out.strip()}


async def test_the_same_key_makes_one_job(service: Service) -> None:
    words = ("job", "run", "-c", "1", "--idempotency-key", "only-once", BUSYBOX, "--", "true")
    assert (await service.cli(*words)).out == (await service.cli(*words)).out
    other = await service.cli(*words, "or", "not")
    assert other.code == Exit.REFUSED


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("job", "run", "-v", "nowhere", BUSYBOX), Exit.USAGE, "--volume"),
        (("job", "run", "-t", "soon", BUSYBOX), Exit.USAGE, "--timeout"),
        (("job", "run", "-e", "NOT_SET_ANYWHERE", BUSYBOX), Exit.USAGE, "--env"),
        (("job", "run", "-l", "alone", BUSYBOX), Exit.USAGE, "--label"),
        (("job", "run", "-c", "1"), Exit.USAGE, "IMAGE"),
        (("job", "run", "-c", "1", BUSYBOX, "ls", "--long"), Exit.USAGE, "--long"),
        (("job", "run", "-c", "1", BUSYBOX, "--image", BUSYBOX), Exit.USAGE, "--image"),
        (("job", "run", "-c", "1", "-s", "/no/such/file.pub", BUSYBOX), Exit.USAGE, "--ssh-public-keys"),
        (("job", "run", "-c", "1", "--push-to", "a@local:/x", BUSYBOX), Exit.USAGE, "--push-to"),
        (("job", "list", "--updated-after", "soon"), Exit.USAGE, "--updated-after"),
        (("bucket", "list", "nowhere"), Exit.NOT_FOUND, "nowhere"),
        (("bucket", "create", "local", "b"), Exit.USAGE, "container"),
        (("bucket", "object", "delete", "data@local"), Exit.USAGE, "--all"),
        (("bucket", "object", "delete", "data@local", "--all", "k"), Exit.USAGE, "--all"),
        (("volume", "create", "nothing"), Exit.USAGE, "SOURCE"),
        (("registry", "add", "https://ghcr.io", "ann"), Exit.USAGE, "--password-stdin"),
        (("datastore", "add", "s3", "x", "http://x", "r", "k"), Exit.USAGE, "JOBYARD_S3_SECRET_KEY"),
        (("job", "run", "-c", "13", BUSYBOX), Exit.USAGE, "resources.cpu"),
        (("job", "run", "-f", "none", BUSYBOX), Exit.USAGE, "resources.flavor"),
        (("job", "run", "-v", "data@unknown:/x", "-c", "1", BUSYBOX), Exit.USAGE, "unknown"),
        (("job", "get", "00000000-0000-4000-8000-000000000000"), Exit.NOT_FOUND, "there is no job"),
        (("job", "list", "--token", "made-up"), Exit.REFUSED, "token"),
        (("job", "frobnicate"), Exit.USAGE, "frobnicate"),
    ],
)
async def test_what_is_wrong_is_named_in_one_line(
    service: Service, words: tuple[str, ...], code: Exit, told: str
) -> None:
    said = await service.cli(*words)
    assert (said.code, said.out) == (code, "")
    assert told in said.err


async def test_units_beyond_the_quota_are_refused_with_a_status_of_their_own(service: Service) -> None:
    made = (await service.cli("project", "create", "small", "--cpu", "1", "--gpu", "0", "-o", "json")).json
    token = made["token"]["status"]["value"]
    said = await service.cli("job", "run", "--token", token, "-c", "2", BUSYBOX, "--", "true")
    assert said.code == Exit.REFUSED
    assert "quota" in said.err
    assert (await service.cli("project", "quota", "small", "--cpu", "2")).code == Exit.DONE
    assert (await service.cli("quota", "--token", token, "-o", "json")).json["cpu"] == 2


async def test_a_token_can_do_what_its_role_allows_and_nothing_once_it_is_gone(service: Service) -> None:
    made = (await service.cli("token", "create", "reader", "-r", "ai_training_read", "-o", "json")).json
    value = made["status"]["value"]
    assert (await service.cli("me", "--token", value, "-o", "json")).json["role"] == "ai_training_read"
    refused = await service.cli("job", "run", "--token", value, "-c", "1", BUSYBOX, "--", "true")
    assert refused.code == Exit.REFUSED
    assert value not in refused.err
    assert value not in (await service.cli("token", "list")).out
    assert (await service.cli("token", "delete", made["id"])).code == Exit.DONE
    assert (await service.cli("me", "--token", value)).code == Exit.REFUSED


async def test_nothing_runs_here(tmp_path: Path) -> None:
    said = await cli("job", "list", state=tmp_path)
    assert said.code == Exit.UNREACHABLE
    assert said.err == (
        "jobyard: no Jobyard is running here; start one with `python3 -m service up`,"
        " or give --url and --token\n"
    )
    (tmp_path / "up.json").write_text(
        json.dumps({"url": "http://127.0.0.1:9", "token": "x", "pid": 2**22 + 1})
    )
    assert (await cli("job", "list", state=tmp_path)).code == Exit.UNREACHABLE
    gone = await cli("job", "list", "--url", "http://127.0.0.1:9", "--token", "x", state=tmp_path)
    assert gone.code == Exit.UNREACHABLE
    assert "http://127.0.0.1:9 does not answer" in gone.err


async def test_the_token_of_the_service_here_is_not_sent_elsewhere(service: Service) -> None:
    said = await service.cli("me", "--url", "http://127.0.0.1:9")
    assert said.code == Exit.USAGE
    assert "--token" in said.err
