"""`jobyard registry` against a real registry: what is typed, what is piped, what is never shown."""

from __future__ import annotations

import json
from asyncio.subprocess import PIPE
from uuid import uuid4

from service.cli.exits import Exit
from tests.acceptance import running
from tests.acceptance.running import Service
from tests.images import remove_image
from tests.support.registry import the_registry

SECRET = "JOBYARD_REGISTRY_PASSWORD"


async def test_a_registry_is_attached_used_changed_and_detached(service: Service) -> None:
    private = the_registry()
    name = f"team/c{uuid4().hex[:8]}"
    digest = await private.push(name, "1")
    wrong = await service.cli("registry", "add", private.url, private.user, **{SECRET: "hunter2hunter2"})
    assert wrong.code == Exit.USAGE, wrong.err
    assert "password:" in wrong.err and "refused" in wrong.err and "hunter2" not in wrong.err
    added = await service.cli(
        "registry", "add", private.url, private.user, "-o", "json", **{SECRET: private.password}
    )
    assert added.code == Exit.DONE, added.err
    registry = added.json["id"]
    job = await service.cli(
        "job", "run", "-w", "-c", "1", "-o", "json", f"{private.address}/{name}:1", "--", "true"
    )
    assert job.code == Exit.DONE, job.err
    assert job.json["status"]["imageDigest"] == digest
    remove_image(f"{private.address}/{name}:1")
    listed = await service.cli("registry", "list")
    shown = await service.cli("registry", "get", registry)
    assert registry in listed.out and private.url in listed.out and private.user in shown.out
    assert private.password not in added.out + listed.out + shown.out
    nothing = await service.cli("registry", "update", registry)
    assert nothing.code == Exit.USAGE
    refused = await service.cli("registry", "update", registry, "--username", "nobody")
    assert refused.code == Exit.USAGE and "password:" in refused.err
    changed = await service.cli(
        "registry", "update", registry, "--username", "nobody", "--no-check", "-o", "json"
    )
    assert changed.json["username"] == "nobody"
    assert (await service.cli("registry", "delete", registry)).code == Exit.DONE
    assert (await service.cli("registry", "get", registry)).code == Exit.NOT_FOUND


async def test_a_password_from_stdin(service: Service) -> None:
    private = the_registry()
    words = ("registry", "add", private.url, private.user, "--password-stdin", "-o", "json")
    streams = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE, "env": running.environment(service.state)}
    async with running.started(*words, **streams) as process:
        out, err = await process.communicate(private.password.encode() + b"\n")
    assert process.returncode == Exit.DONE, err
    registry = json.loads(out)["id"]
    assert (await service.cli("registry", "delete", registry)).code == Exit.DONE
    async with running.started(*words, **streams) as empty:
        _, err = await empty.communicate(b"\n")
    assert empty.returncode == Exit.USAGE
    assert b"--password-stdin" in err
