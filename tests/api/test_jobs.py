"""Jobs over HTTP: the wire contract, from a submit to the end."""

from __future__ import annotations

import shlex
from itertools import pairwise
from typing import Any
from uuid import uuid4

from tests.api.yard import OPERATOR, READER, SPEC, Supervision, Yard


async def test_a_submitted_job_is_answered_whole(yard: Yard) -> None:
    job = await yard.submit(
        name="train",
        command=["sh", "-c", "true"],
        envVars=[{"name": "KEY", "value": "s3cret"}],
        labels={"team": "vision"},
    )
    assert job["status"]["state"] == "QUEUED"
    assert [visit["state"] for visit in job["status"]["history"]] == ["QUEUED"]
    assert job["user"] == OPERATOR
    assert job["createdAt"].endswith("Z")
    assert job["spec"]["image"] == "busybox:latest"
    assert job["spec"]["envVars"] == [{"name": "KEY", "value": "s3cret"}]
    assert job["spec"]["labels"] == {"team": "vision", "ovh/id": job["id"], "ovh/type": "job"}
    assert job["spec"]["resources"]["memory"] == 4 * 1024**3
    assert job["status"]["duration"] == 0
    assert job["status"]["infoUrl"] == f"http://yard.test/v1/job/{job['id']}"
    assert (await yard.call("GET", f"/v1/job/{job['id']}")).json == job


async def test_a_specification_that_was_read_back_can_be_sent_again(yard: Yard) -> None:
    first = await yard.submit(
        envVars=[{"name": "A", "value": "1"}],
        command=["true"],
        shutdown="Fast",
        grpcPort=9000,
        volumes=[{"mountPath": "/scratch", "permission": "RW", "standalone": {}}],
        resources={"gpu": 1},
    )
    again = await yard.call("POST", "/v1/job", first["spec"])
    assert again.status == 200, again.raw
    own = {"ovh/id": again.json["id"], "ovh/type": "job"}
    assert again.json["spec"] == first["spec"] | {"labels": own}


async def test_readers_see_no_values_of_variables(yard: Yard) -> None:
    job = await yard.submit(envVars=[{"name": "KEY", "value": "s3cret"}])
    for path in (f"/v1/job/{job['id']}", "/v1/job"):
        answer = await yard.call("GET", path, token=READER)
        assert b"s3cret" not in answer.raw
        assert b'{"name":"KEY","value":""}' in answer.raw


async def test_the_whole_life_of_a_job(yard: Yard, supervision: Supervision) -> None:
    job = await yard.submit(defaultHttpPort=9090, grpcPort=7)
    path = f"/v1/job/{job['id']}"
    await supervision.running(job["id"])
    status = (await yard.call("GET", path)).json["status"]
    assert (status["state"], status["ip"], status["url"]) == (
        "RUNNING",
        "172.18.0.2",
        f"http://yard.test/job/{job['id']}/",
    )
    assert status["grpcAddress"] == "172.18.0.2:7"
    assert (await yard.call("DELETE", path)).status == 400
    assert (await yard.call("PUT", f"{path}/start")).status == 400
    await supervision.ended(job["id"], code=3)
    status = (await yard.call("GET", path)).json["status"]
    assert (status["state"], status["exitCode"], status["info"]["code"]) == ("FAILED", 3, "exit-code")
    assert status["info"]["arguments"] == {"exitCode": 3}
    assert status["url"] == f"http://yard.test/job/{job['id']}/"
    assert status["finalizedAt"] >= status["stoppedAt"] >= status["startedAt"] >= status["initializingAt"]
    assert (await yard.call("PUT", f"{path}/kill")).status == 400
    assert (await yard.call("PUT", f"{path}/start")).status == 204
    assert (await yard.call("GET", path)).json["status"]["run"] == 2
    assert (await yard.call("PUT", f"{path}/kill")).status == 204
    assert (await yard.call("GET", path)).json["status"]["state"] == "INTERRUPTED"
    assert (await yard.call("DELETE", path)).status == 204
    for method, rest in (("GET", ""), ("DELETE", ""), ("PUT", "/kill"), ("GET", "/log")):
        assert (await yard.call(method, path + rest)).status == 404


async def test_a_live_job_is_deleted_by_force_alone(yard: Yard) -> None:
    job = await yard.submit()
    refused = await yard.call("DELETE", f"/v1/job/{job['id']}")
    assert (refused.status, refused.json["code"]) == (400, "wrong-state")
    assert (await yard.call("DELETE", f"/v1/job/{job['id']}?force=true")).status == 204
    assert (await yard.call("GET", f"/v1/job/{job['id']}")).status == 404


async def test_lists_are_paged_sorted_and_filtered(yard: Yard) -> None:
    made = [await yard.submit(name=name, labels={"n": name}) for name in ("b", "c", "a", "e", "d")]
    ids = [job["id"] for job in made]
    await yard.call("PUT", f"/v1/job/{ids[0]}/kill")

    async def found(query: str) -> list[str]:
        return [job["id"] for job in (await yard.call("GET", f"/v1/job{query}")).json["items"]]

    assert await found("") == ids[::-1]
    assert await found("?order=asc") == ids
    assert await found("?sort=spec.name&order=asc") == [ids[i] for i in (2, 0, 1, 4, 3)]
    assert await found("?sort=updatedAt") == [ids[i] for i in (0, 4, 3, 2, 1)]
    assert await found("?sort=status.state&order=asc") == ids
    assert await found("?statusState=INTERRUPTED") == [ids[0]]
    assert await found("?statusState=INTERRUPTED&statusState=QUEUED&order=asc") == ids
    assert await found("?name=c") == [ids[1]]
    assert await found("?labelSelector=n=d") == [ids[4]]
    assert await found("?labelSelector=n=d,n=e") == []
    assert await found("?labelSelector=n%20in%20(d,e),n!=d") == [ids[3]]
    assert await found("?unknown=1&size=1&page=6") == []
    pages: list[str] = []
    following = "/v1/job?size=2&sort=createdAt&statusState=QUEUED&statusState=INTERRUPTED"
    while following:
        page = (await yard.call("GET", following)).json
        pages += [job["id"] for job in page["items"]]
        assert (page["metadata"]["pageCount"], page["metadata"]["total"]) == (3, 5)
        following = page["metadata"]["links"].get("next")
    assert pages == ids[::-1]


async def test_a_kept_push_is_ordered_again_once(yard: Yard, supervision: Supervision) -> None:
    job = await yard.submit()
    path = f"/v1/job/{job['id']}/datasync"
    refused = await yard.call("POST", path, {"direction": "push"})
    assert refused.status == 400
    assert "ask while it is RUNNING" in refused.json["message"]
    await supervision.running(job["id"])
    await supervision.ended(job["id"], kept=True)
    assert (await yard.call("POST", path, {"direction": "pull"})).status == 400
    key = {"Idempotency-Key": "push-1"}
    first = await yard.call("POST", path, {"direction": "push"}, headers=key)
    assert first.status == 200
    assert first.json["status"]["state"] == "QUEUED"
    assert first.json["spec"] == {"direction": "push", "jobId": job["id"], "manual": True, "volume": None}
    found = (await yard.call("GET", f"/v1/job/{job['id']}")).json["status"]["dataSync"]
    assert found == [first.json], "it is there before it begins"
    again = await yard.call("POST", path, {"direction": "push"}, headers=key)
    assert again.json == first.json
    assert (await yard.call("POST", path, {"direction": "push"})).status == 400
    assert (await yard.call("DELETE", f"/v1/job/{job['id']}", params={"force": "true"})).status == 204
    assert (await yard.call("POST", path, {"direction": "push"}, headers=key)).json == first.json
    assert (await yard.call("POST", path, {"direction": "push"})).status == 404


async def test_the_command_line_of_a_job_makes_the_same_job(yard: Yard) -> None:
    from service.cli.parse import duration_s, env_vars, labels, volume

    spec: dict[str, Any] = SPEC | {
        "command": ["sh", "-c", "echo 'it is'; ls \"$HOME\"", "--", "-x"],
        "envVars": [{"name": "Q", "value": "a 'b' $c\nd"}],
        "volumes": [
            {
                "mountPath": "/in",
                "permission": "R",
                "dataStore": {"alias": "s", "container": "abc", "prefix": "p/"},
            },
            {"mountPath": "/out", "permission": "RWD", "standalone": {}, "cache": False},
        ],
        "name": "n1",
        "labels": {"a": "b"},
        "timeout": 90,
        "unsecureHttp": True,
        "timeoutAutoRestart": True,
    }
    before = await yard.head()
    line = (await yard.call("POST", "/v1/job/command", spec)).json["command"]
    assert await yard.head() == before
    words = shlex.split(line)
    assert words[:3] == ["jobyard", "job", "run"]
    at = words.index("--")
    assert words[at + 1 :] == spec["command"]
    assert words[at - 1] == "busybox"
    given = dict(pairwise(words[3:at]))
    volumes = [volume(words[i + 1]) for i, word in enumerate(words[:at]) if word == "--volume"]
    assert env_vars([given["--env"]], {}) == spec["envVars"]
    assert labels([given["--label"]]) == spec["labels"]
    assert duration_s("--timeout", given["--timeout"]) == spec["timeout"]
    assert volumes[0]["dataStore"] == spec["volumes"][0]["dataStore"]
    assert (volumes[1]["permission"], volumes[1]["cache"], volumes[1]["standalone"]) == ("RWD", False, {})
    assert {"--unsecure-http", "--timeout-auto-restart"} <= set(words)
    refused = await yard.call("POST", "/v1/job/command", SPEC | {"grpcPort": 0})
    assert (refused.status, refused.json["field"]) == (400, "grpcPort")


PATHS: list[str] = ["", "/log", "/kill", "/start", "/datasync"]  # fmt: skip


async def test_jobs_of_another_project_are_not_there(yard: Yard) -> None:
    for path in PATHS:
        job = await yard.submit()
        method = {"": "GET", "/log": "GET", "/datasync": "POST"}.get(path, "PUT")
        body = {"direction": "push"} if method == "POST" else None
        theirs = await yard.call(method, f"/v1/job/{job['id']}{path}", body, token="other")
        nobodys = await yard.call(method, f"/v1/job/{uuid4()}{path}", body, token="other")
        assert (theirs.status, nobodys.status) == (404, 404)
        assert theirs.json["code"] == nobodys.json["code"] == "not-found"
        assert (await yard.call("GET", "/v1/job", token="other")).json["items"] == []


async def test_a_jobs_id_is_random_without_a_key(yard: Yard) -> None:
    assert (await yard.submit())["id"] != (await yard.submit())["id"]
