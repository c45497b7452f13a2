"""What became of what was asked is told, and not only that it was asked."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE

from service.cli.exits import Exit
from tests.acceptance.running import ANSWER_DEADLINE_S, Service, environment, started
from tests.images import BUSYBOX
from tests.support.waiting import until

_WAITS = ("sh", "-c", "echo here; trap 'exit 0' TERM; while :; do sleep 0.1; done")


async def test_a_log_that_ends_with_its_token_is_no_success(service: Service) -> None:
    made = await service.cli("job", "run", "-c", "1", "-o", "json", BUSYBOX, "--", *_WAITS)
    token = (await service.cli("token", "create", "follows", "-o", "json")).json
    settings = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE}
    env = environment(service.state, JOBYARD_TOKEN=token["status"]["value"])

    async def writes() -> bool:
        return (await service.cli("job", "logs", made.json["id"])).out == "here\n"

    await until(writes, ANSWER_DEADLINE_S)  # each look is a process of its own
    words = ("job", "logs", "-f", made.json["id"])
    async with started(*words, **settings, env=env) as process, asyncio.timeout(ANSWER_DEADLINE_S):
        assert process.stdout is not None
        assert await process.stdout.readline() == b"here\n"
        assert (await service.cli("token", "renew", token["id"])).code == 0
        _, err = await process.communicate()
    assert (process.returncode, err) == (Exit.REFUSED, b"jobyard: the token is unknown or was revoked\n")
    assert (await service.cli("job", "delete", "--force", made.json["id"])).code == 0


async def test_a_pull_that_is_refused_is_no_success(service: Service) -> None:
    assert (await service.cli("bucket", "create", "local", "pulled")).code == 0
    words = ("job", "run", "-c", "1", "-o", "json", "-v", "pulled@local:/in:ro:cache", BUSYBOX, "--", *_WAITS)
    job_id = (await service.cli(*words)).json["id"]

    async def runs() -> bool:
        shown = await service.cli("job", "get", job_id, "-o", "json")
        return bool(shown.json["status"]["state"] == "RUNNING")

    await until(runs, ANSWER_DEADLINE_S)
    said = await service.cli("job", "pull-data", job_id)
    assert (said.code, said.out.startswith(f"pull of {job_id} failed: ")) == (Exit.FAILED, True), said
    assert said.out.count("\n") == 1
    ordered = await service.cli("job", "pull-data", "--no-wait", job_id)
    assert (ordered.code, "jobyard job get" in ordered.out) == (Exit.DONE, True), ordered
    assert (await service.cli("job", "delete", "--force", job_id)).code == 0


async def test_a_store_that_does_not_answer_is_not_the_service(service: Service) -> None:
    words = ("datastore", "add", "s3", "gone", "http://127.0.0.1:9", "here", "key", "secret")
    said = await service.cli(*words)
    assert (said.code, "127.0.0.1:9" in said.err or "gone" in said.err) == (Exit.NOT_NOW, True), said
    again = await service.cli("datastore", "add", "s3", "local", *words[4:], "--no-check")
    assert (again.code, "`jobyard datastore update`" in again.err) == (Exit.REFUSED, True), again
    s3 = service.up["s3"]
    denied = await service.cli("datastore", "add", "s3", "denied", s3["endpoint"], s3["region"], "key", "no")
    assert (denied.code, "--no-check takes it" in denied.err) == (Exit.USAGE, True), denied
    nobody = await service.cli("me", JOBYARD_URL="http://127.0.0.1:9", JOBYARD_TOKEN="x")
    assert (nobody.code, "does not answer" in nobody.err) == (Exit.UNREACHABLE, True)
