"""/v1/audit: who did what and why, to those who may know it, and the proofs of it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from service.audit import exported, reading
from service.audit.bucket import open_place
from service.audit.reading import Wanted
from service.audit.signer import Signer
from service.domain.causes import step_of
from service.domain.checkpoint import read_key
from service.domain.events import encode_body
from service.vault import signing_key
from tests.api.yard import ADMIN, OPERATOR, READER, Answer, Supervision, Yard
from tests.ledger.tampering import by_force, recompute
from tests.support.weighed import Weighed

SIZE = 500


@pytest.fixture
async def signer(yard: Yard) -> AsyncIterator[Signer]:
    settings = yard.settings
    place = open_place(settings.checkpoints, "")
    key = signing_key(None, settings.checkpoint_key_file)
    yield Signer(yard.ledger, place, key, settings)


async def log(yard: Yard, query: str = "", token: str = ADMIN) -> list[Any]:
    answer = await yard.call("GET", f"/v1/audit?size={SIZE}{query}", token=token)
    assert answer.status == 200, answer.raw
    items: list[Any] = answer.json["items"]
    return items


def positions(entries: list[Any]) -> list[int]:
    return [each["position"] for each in entries]


async def test_who_did_what_when_from_where_and_why(yard: Yard, supervision: Supervision) -> None:
    answer = await yard.call(
        "POST", "/v1/job", {"image": "busybox", "resources": {"cpu": 1}}, headers={"X-Request-Id": "r-1"}
    )
    job = answer.json["id"]
    await supervision.running(job)
    killed = await yard.call("PUT", f"/v1/job/{job}/kill")
    await supervision.ended(job)
    entries = await log(yard, f"&job={job}")
    first, placed = entries[0], entries[1]
    assert first["type"] == "JobSubmitted" and "busybox" in first["what"]
    assert first["requestId"] == "r-1" and first["clientAddress"] == "127.0.0.1"
    assert first["actor"] == f"token:{first['tokenId']}" and first["tokenName"] == OPERATOR
    assert first["cause"] == {"position": None, "chain": [], "requestId": "r-1"}
    assert placed["actor"] == "supervisor" and "clientAddress" not in placed
    assert placed["cause"] == {
        "position": first["position"],
        "chain": [first["position"]],
        "requestId": "r-1",
    }
    order, *_, done = (each for each in entries if each["position"] > entries[3]["position"])
    assert order["requestId"] == killed.headers["X-Request-Id"]
    assert done["cause"]["requestId"] == order["requestId"]
    assert done["cause"]["chain"][0] == order["position"]


async def test_each_filter_narrows_it_down(yard: Yard, supervision: Supervision) -> None:
    jobs = [(await yard.submit())["id"] for _ in range(3)]
    await supervision.running(jobs[0])
    everything = await log(yard)
    for each in everything[:: max(1, len(everything) // 6)]:
        for field in ("actor", "type", "commandId", "requestId", "job"):
            if (value := each.get(field)) is not None:
                wanted = [found["position"] for found in everything if found.get(field) == value]
                assert positions(await log(yard, f"&{field}={value}")) == wanted, field
        at, position = each["recordedAt"], each["position"]
        later = [found["position"] for found in everything if found["recordedAt"] >= at]
        sooner = [found["position"] for found in everything if found["recordedAt"] <= at]
        assert positions(await log(yard, f"&from={at}")) == later
        assert positions(await log(yard, f"&to={at}")) == sooner
        assert positions(await log(yard, f"&from={position}&to={position}")) == [position]
    both = await log(yard, f"&job={jobs[0]}&type=RunPlaced&type=RunStarted")
    assert [each["type"] for each in both] == ["RunPlaced", "RunStarted"]
    assert await log(yard, "&requestId=of-nobody") == []


async def test_pages_go_on_in_either_order_without_a_gap(yard: Yard) -> None:
    await asyncio.gather(*(yard.submit() for _ in range(7)))
    everything = positions(await log(yard))
    for order, wanted in (("asc", everything), ("desc", everything[::-1])):
        found, path = [], f"/v1/audit?size=3&order={order}"
        while path:
            answer = (await yard.call("GET", path, token=ADMIN)).json
            assert len(answer["items"]) <= 3
            found += positions(answer["items"])
            path = answer["metadata"]["links"].get("next", "")
        assert found == wanted


@pytest.mark.parametrize("chars", ["x", "0123456789abcdef"])
async def test_a_page_of_large_events_is_shorter_and_the_next_goes_on(yard: Yard, chars: str) -> None:
    """Whoever asks for many must not have all that they are in the memory of the service at once."""
    chance = Random(3)
    for size in (100, 3_000, 3_000, 9_000, 100, 100, 3_000):
        await yard.submit(command=["".join(chance.choices(chars, k=size))])
    everything = await yard.ledger.events()
    for down in (False, True):
        wanted, found, sizes = Wanted(), list[int](), list[int]()
        more = True
        while more:
            events, more = await reading.page(yard.ledger.pool, wanted, 500, down=down, most_bytes=4_000)
            found += [event.position for event in events]
            sizes.append(sum(len(encode_body(event.body)) for event in events))
            last = found[-1]
            wanted = wanted._replace(upto=last - 1) if down else wanted._replace(after=last)
        assert sorted(found, reverse=down) == found
        assert sorted(found) == [event.position for event in everything]
        assert max(sizes) < 4_000 + 10_000
        assert len(sizes) >= 3


async def test_a_short_page_says_where_the_next_begins(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        await yard.submit(command=["x" * 3_000])
    everything = positions(await log(yard))
    monkeypatch.setattr(reading.page, "__kwdefaults__", {"down": False, "most_bytes": 2_000})
    for order, wanted in (("asc", everything), ("desc", everything[::-1])):
        found, path, pages = list[int](), f"/v1/audit?size=100&order={order}", 0
        while path:
            answer = (await yard.call("GET", path, token=ADMIN)).json
            found, pages = found + positions(answer["items"]), pages + 1
            path = answer["metadata"]["links"].get("next", "")
        assert found == wanted
        assert pages >= 3


async def test_what_led_to_events_is_read_without_what_they_hold(
    yard: Yard, supervision: Supervision
) -> None:
    """Of each job on a page its specification would be read again, however large."""
    job = (await yard.submit(command=["x" * 50_000]))["id"]
    await supervision.running(job)
    await yard.call("PUT", f"/v1/job/{job}/kill")
    await supervision.ended(job)
    events = [event for event in await yard.ledger.events() if str(event.job) == job]
    pool: Any = Weighed(yard.ledger.pool)
    steps = await reading.leading_to(pool, events)
    assert max(pool.brought) < 5_000
    whole = [step_of(each.position, each.job, type(each.body), each.request_id, each.body) for each in events]
    assert steps == whole


async def test_a_project_sees_its_own_and_who_looks_after_the_yard_all(yard: Yard) -> None:
    await yard.submit()
    own, other = await log(yard), await log(yard, token="other")
    assert {each["project"] for each in own} == {"default"}
    assert {each["project"] for each in other} == {"other"}
    everything = await log(yard, "&projects=all")
    assert positions(everything) == list(range(1, await yard.head() + 1))
    assert {each.get("project") for each in await log(yard, "&projects=none")} == {None}
    assert await log(yard, "&project=other") == other
    for name in ("othre", "Other", "x" * 99):
        unknown = await yard.call("GET", f"/v1/audit?project={name}", token=ADMIN)
        assert (unknown.status, unknown.json["message"]) == (
            404,
            f"project: there is no project {name[:64]!r}",
        )
    for query in ("&projects=all", "&projects=none", "&project=default"):
        assert (await yard.call("GET", f"/v1/audit?size=9{query}", token="other")).status == 403
    assert await log(yard, "&project=other", token="other") == other
    job = next(each["job"] for each in own if "job" in each)
    assert await log(yard, f"&job={job}", token="other") == []


async def test_a_token_with_a_selector_sees_its_jobs_alone(yard: Yard, signer: Signer) -> None:
    await yard.token("red", ADMIN, selector="team=red")
    mine = await yard.submit(labels={"team": "red"})
    other = await yard.submit(labels={"team": "blue"})
    assert {each["job"] for each in await log(yard, token="red")} == {mine["id"]}
    assert await log(yard, f"&job={other['id']}", token="red") == []
    assert await signer.run_once()
    at = {each["job"]: each["position"] for each in await log(yard) if "job" in each}
    assert (await yard.call("GET", f"/v1/audit/proof/{at[mine['id']]}", token="red")).status == 200
    assert (await yard.call("GET", f"/v1/audit/proof/{at[other['id']]}", token="red")).status == 404
    assert (await yard.call("GET", "/v1/audit/proof/1", token="red")).status == 404
    lines = (await yard.call("GET", "/v1/audit/export", token="red")).raw.splitlines()
    assert [json.loads(line)["event"]["job"] for line in lines[1:-1]] == [mine["id"]]


async def test_a_selector_goes_by_the_labels_of_then(yard: Yard, signer: Signer) -> None:
    """As streams do: what a job did before it was theirs, and after, is not for them to read."""
    await yard.token("red", ADMIN, selector="team=red")
    job = (await yard.submit(labels={"team": "blue"}))["id"]
    for value in ("red", "blue"):
        body = {"name": "team", "value": value}
        assert (await yard.call("PUT", f"/v1/job/{job}/label", body, token=ADMIN)).status < 300
    everything = [each["position"] for each in await log(yard, f"&job={job}")]
    changes = [each["position"] for each in await log(yard, f"&job={job}&type=LabelSet")]
    mine = [each for each in everything if changes[0] <= each < changes[1]]
    assert mine and positions(await log(yard, token="red")) == mine
    assert positions(await log(yard, "&order=desc", token="red")) == mine[::-1]
    assert await signer.run_once()
    lines = (await yard.call("GET", "/v1/audit/export", token="red")).raw.splitlines()
    assert [json.loads(line)["position"] for line in lines[1:-1]] == mine
    for at in everything:
        answer = await yard.call("GET", f"/v1/audit/proof/{at}", token="red")
        assert answer.status == (200 if at in mine else 404)


@pytest.mark.parametrize("token", [OPERATOR, READER])
async def test_only_administrators_read_the_trail(yard: Yard, signer: Signer, token: str) -> None:
    assert await signer.run_once()
    for path in ("", "/proof/3", "/export"):
        assert (await yard.call("GET", f"/v1/audit{path}", token=token)).status == 403
    for path in ("/key", "/checkpoint"):
        assert (await yard.call("GET", f"/v1/audit{path}", token=token)).status == 200


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("to=2026-01-01", "to"),
        ("to=2026-01-01T00:00:00", "to"),
        ("from=9999999999999999999999", "from"),
        ("from=0001-01-01T00:00:00%2B14:00", "from"),
        ("from=-3", "from"),
        ("type=JobTeleported", "type"),
        ("job=x", "job"),
        ("commandId=x", "commandId"),
        ("after=-1", "after"),
        ("after=99999999999999999999", "after"),
        ("size=0", "size"),
        ("size=501", "size"),
        ("order=up", "order"),
        ("projects=some", "projects"),
        ("projects=all&project=default", "projects"),
        ("actor=a%00b", "actor"),
        ("from=10&to=9", "to"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-02T00:59:59%2B01:00", "to"),
    ],
)
async def test_what_cannot_be_asked_for_is_named(yard: Yard, query: str, field: str) -> None:
    answer = await yard.call("GET", f"/v1/audit?{query}", token=ADMIN)
    assert (answer.status, answer.json["field"]) == (400, field), answer.raw


@pytest.mark.parametrize(
    ("path", "token"),
    [("/v1/audit?from={}", ADMIN), ("/v1/billing?asOf={}", None), ("/v1/job/{id}/log?since={}", None)],
)
@pytest.mark.parametrize(
    ("given", "whole"),
    [("2026-11-01", "2026-11-01T00:00:00Z"), ("2026-11-01T12:30:00", "2026-11-01T12:30:00Z")],
)
async def test_a_time_without_a_zone_is_told_that_it_lacks_one(
    yard: Yard, path: str, token: str | None, given: str, whole: str
) -> None:
    job = (await yard.submit())["id"]
    named = {} if token is None else {"token": token}
    answer = await yard.call("GET", path.replace("{id}", job).format(given), **named)
    assert answer.status == 400
    assert answer.json["message"].endswith(f"; say which zone it is in, such as {whole}"), answer.raw


async def test_the_end_of_time_is_a_time(yard: Yard) -> None:
    assert await log(yard, "&from=9999-12-31T23:59:59Z") == []
    assert await log(yard, "&to=0001-01-01T00:00:00Z") == []
    assert await log(yard, "&from=9999-12-31T23:59:59Z&to=1") == []
    assert len(await log(yard, "&from=1&to=1")) == 1
    assert await log(yard, f"&after={2**62}") == []
    assert len(await log(yard, "&to=999999999999999999")) == len(await log(yard))


# -- proofs -----------------------------------------------------------------------------------------


async def test_before_the_first_checkpoint_there_is_none(yard: Yard) -> None:
    for path in ("checkpoint", "export", "proof/3"):
        answer = await yard.call("GET", f"/v1/audit/{path}", token=ADMIN)
        assert answer.status == 503 and "no checkpoint" in answer.json["message"]


async def test_the_newest_checkpoint_is_told_and_signed_by_the_key_that_is(
    yard: Yard, signer: Signer
) -> None:
    made = await signer.run_once()
    assert made is not None
    found = (await yard.call("GET", "/v1/audit/checkpoint", token=READER)).json
    assert (found["size"], found["root"], found["hash"]) == (made.size, made.root.hex(), made.chain.hex())
    key = read_key((await yard.call("GET", "/v1/audit/key", token=READER)).json["key"])
    assert found["origin"] == key.name
    text, _, signature = found["note"].partition("\n\n")
    raw = base64.b64decode(signature.split(" ")[2])
    Ed25519PublicKey.from_public_bytes(key.key).verify(raw[4:], f"{text}\n".encode())


async def test_an_event_of_the_project_is_proved_and_no_other(yard: Yard, signer: Signer) -> None:
    await yard.submit()
    made = await signer.run_once()
    assert made is not None
    key = read_key((await yard.call("GET", "/v1/audit/key")).json["key"])
    others = positions(await log(yard, token="other"))
    for at in range(1, made.size + 1):
        answer = await yard.call("GET", f"/v1/audit/proof/{at}", token=ADMIN)
        assert independent(answer.raw, key.key)["position"] == at
        mine = await yard.call("GET", f"/v1/audit/proof/{at}", token="other")
        assert mine.status == (200 if at in others else 404)
    await yard.submit()
    later = await yard.call("GET", f"/v1/audit/proof/{made.size + 1}", token=ADMIN)
    assert later.status == 404 and "under no checkpoint yet" in later.json["message"]
    for odd in ("0", "-1", "x", "1.5", "9" * 30, str(made.size + 99), "%00"):
        assert (await yard.call("GET", f"/v1/audit/proof/{odd}", token=ADMIN)).status == 404


def independent(data: bytes, public: bytes) -> Any:
    """The README's words, and nothing of ours: the event that a proof proves."""
    proof = json.loads(data)
    event = json.dumps(proof["event"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    chain = hashlib.sha256(bytes.fromhex(proof["previous"]) + event).digest()
    assert chain.hex() == proof["hash"]
    text, _, signature = proof["checkpoint"].partition("\n\n")
    raw = base64.b64decode(signature.split(" ")[2])
    Ed25519PublicKey.from_public_bytes(public).verify(raw[4:], f"{text}\n".encode())
    _, size, root, *_ = text.split("\n")
    index, last = proof["position"] - 1, int(size) - 1
    found = hashlib.sha256(b"\0" + chain).digest()
    for sibling in map(bytes.fromhex, proof["proof"]):
        if index % 2 or index == last:
            found = hashlib.sha256(b"\1" + sibling + found).digest()
            while index % 2 == 0 and index:
                index, last = index // 2, last // 2
        else:
            found = hashlib.sha256(b"\1" + found + sibling).digest()
        index, last = index // 2, last // 2
    assert last == 0 and found == base64.b64decode(root)
    assert proof["event"]["position"] == proof["position"]
    return proof["event"]


def independent_export(data: bytes, public: bytes) -> list[Any]:
    """The README's words on exports, and nothing of ours: the events of one."""
    assert data.endswith(b"\n")
    first, *lines, last = (line + b"\n" for line in data[:-1].split(b"\n"))
    header, trailer = json.loads(first), json.loads(last)
    assert header["format"] == "jobyard-audit-export/1"
    before, hashed, found = 0, None, []
    for line in lines:
        read = json.loads(line)
        assert read.pop("after") == before and header["after"] < read["position"] <= header["upto"]
        if header["kind"] == "whole":
            assert read["position"] == (before or header["after"]) + 1
            assert hashed in (None, read["previous"])
        proof = read | {"checkpoint": header["checkpoint"]}
        found.append(independent(json.dumps(proof).encode(), public))
        before, hashed = read["position"], read["hash"]
    if header["kind"] == "whole":
        assert (before or header["after"]) == header["upto"]
    assert trailer == {
        "events": len(found),
        "first": found[0]["position"] if found else 0,
        "last": before,
        "header": hashlib.sha256(first).hexdigest(),
        "sha256": hashlib.sha256(first + b"".join(lines)).hexdigest(),
    }
    return found


async def exported_to(path: Path, answer: Answer) -> Path:
    assert answer.status == 200, answer.raw
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    path.write_bytes(answer.raw)
    return path


async def test_an_export_verifies_without_the_service(yard: Yard, signer: Signer, tmp_path: Path) -> None:
    job = (await yard.submit(envVars=[{"name": "PASSWORD", "value": "correct horse battery"}]))["id"]
    await yard.submit()
    assert await signer.run_once()
    await yard.submit()  # after the checkpoint: not in it
    key = read_key((await yard.call("GET", "/v1/audit/key")).json["key"])
    for query, token, kind in (
        ("", "other", "part"),
        ("", ADMIN, "part"),
        (f"?job={job}", ADMIN, "part"),
        ("?projects=all", ADMIN, "whole"),
        ("?projects=all&from=3&to=5", ADMIN, "whole"),
    ):
        answer = await yard.call("GET", f"/v1/audit/export{query}", token=token)
        file = await exported_to(tmp_path / "export", answer)
        found = await exported.check(file, key)
        assert (found.header.kind, found.events > 0) == (kind, True)
        assert b"horse" not in answer.raw
        events = independent_export(answer.raw, key.key)
        assert len(events) == found.events
        assert answer.raw == _rewritten(answer.raw), "JSON as the README says it"
    assert (await yard.call("GET", "/v1/audit/export?to=never", token=ADMIN)).status == 400


def _rewritten(data: bytes) -> bytes:
    lines = (json.loads(line) for line in data.splitlines())
    form: dict[str, Any] = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False}
    return b"".join(json.dumps(line, **form).encode() + b"\n" for line in lines)


async def test_tiles_that_are_gone_are_no_clients_fault(yard: Yard, signer: Signer) -> None:
    assert await signer.run_once()
    for file in Path(yard.settings.checkpoints).rglob("tile/**/*"):
        if file.is_file():
            file.unlink()
    for path in ("proof/3", "export"):
        assert (await yard.call("GET", f"/v1/audit/{path}", token=ADMIN)).status == 503


async def test_the_metrics_tell_that_the_ledger_was_rewritten(yard: Yard, signer: Signer) -> None:
    made = await signer.run_once()
    assert made is not None
    assert f"jobyard_audit_checkpoint_position {made.size:.1f}" in await metrics(yard)
    assert "jobyard_audit_checkpoint_holds 1.0" in await metrics(yard)
    admin = await asyncpg.connect(yard.database, server_settings={"search_path": "jobyard"})
    await by_force(admin, "UPDATE events SET actor = 'someone else' WHERE position = 2")
    await recompute(admin, 2, head=True)
    await admin.close()
    assert "jobyard_audit_checkpoint_holds 0.0" in await metrics(yard)


async def metrics(yard: Yard) -> str:
    return (await yard.call("GET", "/metrics", token=READER)).raw.decode()
