"""Objects and the ledger through the real command line; the demo as users run it."""

from __future__ import annotations

import asyncio
import filecmp
import hashlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from service.cli.exits import Exit
from service.local.demo import checks, image, python_image
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.engine.protocol import ContainerSpec, Mount
from tests.acceptance import running
from tests.acceptance.running import Service, cli
from tests.images import BUSYBOX
from tests.support.sshd import key_pair
from tests.support.waiting import until

DEMO_DEADLINE_S = 240.0


async def test_files_go_up_through_a_job_and_come_back(service: Service, tmp_path: Path) -> None:
    source = tmp_path / "set"
    (source / "deep").mkdir(parents=True)
    (source / "a b").write_bytes(b"")
    (source / "deep" / "ü+%?#").write_bytes(os.urandom(100_000))
    up = await service.cli("bucket", "object", "upload", "way-in@local", str(source), "--prefix", "p/q")
    assert (up.code, up.out) == (Exit.DONE, "uploaded 2 objects, 100.0 kB\n")
    volumes = ("-v", "way-in@local/p/q/set/:/in:ro", "-v", "way-out@local/r/:/out:rw")
    script = "cp -r /in/. /out/; touch /in/x 2>/dev/null || echo read-only"
    job = await service.cli("job", "run", "-w", "-c", "1", *volumes, BUSYBOX, "--", "sh", "-c", script)
    assert (job.code, job.out) == (Exit.DONE, "read-only\n")
    assert "pulled 2 of 2 objects, 100.0 kB" in job.err
    assert "pushed 2 of 2 objects, 100.0 kB" in job.err
    listed = await service.cli("bucket", "object", "list", "way-out", "--prefix", "r/deep", "-o", "json")
    assert [(each["key"], each["size"]) for each in listed.json] == [("r/deep/ü+%?#", 100_000)]
    down = await service.cli(
        "bucket", "object", "download", "way-out@local", "--output", str(tmp_path / "back")
    )
    assert down.code == Exit.DONE
    match, mismatch, errors = filecmp.cmpfiles(
        source, tmp_path / "back" / "r", ["a b", "deep/ü+%?#"], shallow=False
    )
    assert (len(match), mismatch, errors) == (2, [], [])
    assert (await service.cli("bucket", "object", "delete", "way-out", "r/a b")).code == Exit.DONE
    missing = await service.cli("bucket", "object", "download", "way-out", "r/a b", "--output", str(tmp_path))
    assert missing.code == Exit.NOT_FOUND
    assert not list(tmp_path.rglob("*.partial"))
    assert (await service.cli("bucket", "object", "list", "way-out@nowhere")).code == Exit.NOT_FOUND


async def test_a_data_store_is_added_used_and_forgotten_and_its_secret_never_shown(service: Service) -> None:
    s3 = service.up["s3"]
    words = ("datastore", "add", "s3", "mine", s3["endpoint"], s3["region"], s3["accessKey"])
    added = await service.cli(*words, JOBYARD_S3_SECRET_KEY=s3["secretKey"])
    assert (added.code, added.out) == (Exit.DONE, "added mine\n")
    listed = await service.cli("datastore", "list")
    assert "mine" in listed.out
    assert s3["secretKey"] not in listed.out + (await service.cli("datastore", "list", "-o", "json")).out
    ambiguous = await service.cli("bucket", "object", "list", "anything")
    assert ambiguous.code == Exit.USAGE
    assert "local" in ambiguous.err and "mine" in ambiguous.err
    assert (await service.cli("datastore", "delete", "mine")).code == Exit.DONE
    assert (await service.cli("datastore", "delete", "mine")).code == Exit.NOT_FOUND


async def test_a_project_that_was_just_created_adds_its_first_store(service: Service, tmp_path: Path) -> None:
    """As the README says it."""
    made = (await service.cli("project", "create", "vision", "-o", "json")).json
    token = ("--token", made["token"]["status"]["value"])
    file = tmp_path / "train.csv"
    file.write_text("x,y\n1,2\n")
    upload = ("bucket", "object", "upload", "data@local", str(file), *token)
    assert (await service.cli("datastore", "list", *token, "-o", "json")).json == []
    assert (await service.cli(*upload)).err == "jobyard: there is no data store 'local'\n"
    s3 = service.up["s3"]
    words = (s3["endpoint"], s3["region"], s3["accessKey"], s3["secretKey"])
    added = await service.cli("datastore", "add", "s3", "local", *words, *token)
    assert (added.code, added.out) == (Exit.DONE, "added local\n")
    assert (await service.cli(*upload)).out == "uploaded 1 object, 8 B\n"


async def test_a_store_of_repositories_is_added_shown_and_used(service: Service, tmp_path: Path) -> None:
    add = ("datastore", "add", "git")
    assert "--ssh-private-key" in (await service.cli(*add, "--help")).out
    refused = await service.cli(*add, "hub", "https://127.0.0.1/team")
    assert refused.code == Exit.USAGE and "not a public one" in refused.err, refused.err
    login = ("--username", "ada", "--no-check")
    added = await service.cli(*add, "hub", "https://127.0.0.1/team", *login, JOBYARD_GIT_PASSWORD="s3cret")
    assert (added.code, added.out) == (Exit.DONE, "added hub\n"), added.err
    pair = key_pair()
    (tmp_path / "key").write_text(pair.private)
    way = ("--ssh-private-key", str(tmp_path / "key"), "--no-check")
    unknown = await service.cli(*add, "deep", "git@hub.invalid:team", *way)
    assert unknown.code == Exit.USAGE and "hostKeys" in unknown.err
    host = key_pair().public
    deep = await service.cli(*add, "deep", "git@hub.invalid:team", *way, "--ssh-host-key", host)
    assert deep.code == Exit.DONE, deep.err
    listed = await service.cli("datastore", "list")
    shown = await service.cli("datastore", "get", "deep")
    assert [line.split()[:3] for line in listed.out.splitlines() if " git " in line] == [
        ["deep", "git", "git@hub.invalid:team"],
        ["hub", "git", "https://127.0.0.1/team"],
    ]
    assert pair.public in shown.out and host in shown.out
    everything = listed.out + shown.out + (await service.cli("datastore", "list", "-o", "json")).out
    assert "s3cret" not in everything and pair.private.splitlines()[2] not in everything
    objects = await service.cli("bucket", "object", "list", "abc@hub")
    assert objects.code == Exit.USAGE and "only stores of type s3" in objects.err
    only = await service.cli("bucket", "object", "list", f"none-{os.getpid()}")  # the one store of objects
    assert only.code == Exit.NOT_FOUND and "write CONTAINER@ALIAS" not in only.err
    job = await service.cli("job", "run", "-w", "-c", "1", "-v", "r.git#v1@hub/src/:/d", BUSYBOX)
    assert job.code == Exit.FAILED and "r.git#v1@hub: 127.0.0.1 has the address" in job.err, job.err
    for alias in ("hub", "deep"):
        assert (await service.cli("datastore", "delete", alias)).code == Exit.DONE


async def test_projections_are_verified_and_a_changed_row_is_shown_and_mended(service: Service) -> None:
    job = (await service.cli("job", "run", "-w", "-c", "1", "-o", "json", BUSYBOX, "--", "true")).json["id"]
    equal = await service.cli("projections", "verify", "-o", "json")
    assert equal.code == Exit.DONE
    assert {each["projection"] for each in equal.json} >= {"status", "quota", "billing"}
    assert all(each["equal"] and each["position"] > 0 for each in equal.json)
    connection = await asyncpg.connect(service.up["databaseUrl"])
    try:
        changed = await connection.execute(
            "UPDATE jobyard.folds SET row = jsonb_set(row, '{amount}', '\"9.99\"')"
            " WHERE fold = 'billing' AND key = $1",
            f"{job}/1",
        )
    finally:
        await connection.close()
    assert changed == "UPDATE 1"
    different = await service.cli("projections", "verify", "billing")
    assert different.code == Exit.FAILED
    assert "DIFFERENT: 1 row" in different.out
    assert f"billing {job}/1" in different.err and "9.99" in different.err
    assert (await service.cli("projections", "rebuild", "billing")).code == Exit.FAILED
    assert (await service.cli("projections", "verify")).code == Exit.DONE
    unknown = await service.cli("projections", "verify", "nothing")
    assert unknown.code == Exit.USAGE


async def test_the_audit_trail_holds_and_says_so(service: Service) -> None:
    said = await service.cli("audit", "verify", "-o", "json")
    assert said.code == Exit.DONE
    assert said.json["verified"] is True
    assert said.json["events"] > 0
    elsewhere = await service.cli("audit", "verify", "--database-url", _without_ledger(service))
    assert elsewhere.code == Exit.USAGE


async def test_an_audit_log_of_nothing_says_so(service: Service) -> None:
    none = ("audit", "log", "--request", "of-nobody")
    for asked in (none, (*none, "--tree")):
        said = await service.cli(*asked)
        assert said.code == Exit.DONE and said.err == "no event is like that\n", said
    assert (await service.cli(*none, "-o", "json")).json == []
    for words, why in (
        (("--from", "10", "--to", "5"), "to: '5' is not allowed; it must not be before from, which is 10"),
        (("--from", "2026-01-31T12:00:00"), "--from: '2026-01-31T12:00:00' is not allowed; say which zone"),
        (("--project", "nowhere"), "project: there is no project 'nowhere'"),
    ):
        refused = await service.cli("audit", "log", *words)
        assert refused.code in (Exit.USAGE, Exit.NOT_FOUND) and refused.out == "", refused
        assert why in refused.err and refused.err.count("\n") == 1, refused.err


async def test_the_bill_of_a_job_under_every_policy(service: Service) -> None:
    # Long enough that the engine cannot say that it ended before it began, which `true` has been seen to do.
    run = ("job", "run", "-w", "-c", "2", "-o", "json", BUSYBOX, "--", "sleep", "0.3")
    job = (await service.cli(*run)).json["id"]
    for policy in ("2021-05", "2023-12", "2026-01"):
        bill = (await service.cli("billing", "--job", job, "--policy", policy, "-o", "json")).json
        assert [(line["minutes"], line["amount"], line["policy"]) for line in bill["items"]] == [
            (1, "0.001000", policy)
        ]
    shown = await service.cli("billing", "--job", job)
    assert "total 0.001000 EUR" in shown.out
    assert (await service.cli("billing", "--job", job, "--policy", "2020-01")).code == Exit.USAGE


async def test_an_image_of_this_python_runs_as_a_job_does(service: Service, tmp_path: Path) -> None:
    host = service.up["dockerHost"]
    name = await image.make(host)
    assert name == python_image.NAME
    tmp_path.chmod(0o755)
    code = "import ssl, sqlite3, ctypes, json, os, sys; print(os.getuid(), sys.version_info[:3], sys.prefix)"
    engine = DockerEngine(host)
    spec = ContainerSpec(
        name=f"image-{os.getpid()}",
        image=name,
        command=("python", "-c", code),
        network="none",
        mounts=(Mount(str(tmp_path), "/in", read_only=True),),
    )
    container = await engine.create(spec)
    try:
        await engine.start(container)

        async def has_ended() -> bool:
            found = await engine.find(container)
            return found is not None and found.exit_code is not None

        await until(has_ended, 60)
        printed = b"".join([chunk.payload async for batch in engine.logs(container) for chunk in batch])
    finally:
        await engine.remove(container, force=True)
        await engine.close()
    assert printed.decode() == f"42420 {sys.version_info[:3]} /usr/local\n"


async def test_the_demo_beside_a_running_service(service: Service) -> None:
    said = await cli("demo", "--json", "--state", str(service.state), state=service.state)
    assert said.code == Exit.DONE, said.err
    found = said.json
    assert said.out.count("\n") == 1
    assert checks.states(found["states"]) == []
    assert found["accuracy"] >= 0.95
    assert (found["billedMinutes"], found["amount"], found["auditVerified"]) == (1, "0.000500", True)
    for artifact in found["artifacts"]:
        assert hashlib.sha256(Path(artifact["file"]).read_bytes()).hexdigest() == artifact["sha256"]
    assert {Path(artifact["file"]).name for artifact in found["artifacts"]} == {"model.json", "metrics.json"}
    assert "epoch 10 of 10" in said.err
    job = (await service.cli("job", "get", found["jobId"], "-o", "json")).json
    assert job["status"]["state"] == "DONE"
    assert (service.state / "up.json").exists()


async def test_the_demo_starts_a_service_of_its_own_and_ctrl_c_leaves_nothing() -> None:
    state = running.new_state()
    streams = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE}
    service_pid = 0
    async with (
        running.started("demo", "--state", str(state), **streams) as process,
        asyncio.timeout(DEMO_DEADLINE_S),
    ):
        assert process.stdout is not None
        while b"epoch" not in (line := await process.stdout.readline()):
            assert line, "the demo ended before its job ran"
            if (state / "up.json").exists():
                service_pid = json.loads((state / "up.json").read_text())["pid"]
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    assert b"INTERRUPTED" in out
    assert b"Traceback" not in err
    assert not (state / "up.json").exists()
    assert service_pid and not Path(f"/proc/{service_pid}").exists()
    running.remove(state)


def _without_ledger(service: Service) -> str:
    """Another database of the same server."""
    parts = urlsplit(str(service.up["databaseUrl"]))
    return urlunsplit(parts._replace(path="/postgres"))
