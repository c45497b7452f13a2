"""/v1/events: what there is and what comes, each event once, to those who may see it."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from service.api.call import SERVICE
from service.api.events.feed import Pace
from service.domain import commands as cmd
from service.domain.cloudevents import frame, source_of
from tests.api.streams import DEADLINE_S, Socket, ids, is_control, socket, sse
from tests.api.yard import ADMIN, READER, Supervision, Yard
from tests.support.waiting import until


async def shown(yard: Yard, **wanted: Any) -> list[dict[str, Any]]:
    """The project's events as a plain read of the ledger gives them, without those about tokens."""
    head = await yard.ledger.head()
    return [
        frame(event, source_of(head.ledger_id))
        for event in await yard.ledger.events(project="default")
        if not event.type.startswith("Token")
        and all(getattr(event, name) in values for name, values in wanted.items())
    ]


async def label(yard: Yard, job: str, name: str, value: str | None) -> None:
    await yard.ledger.submit(
        cmd.SetLabel(project="default", job=UUID(job), name=name, value=value), actor="test"
    )


async def test_catching_up_turns_into_live_without_a_gap(yard: Yard) -> None:
    job = await yard.submit()
    before = await shown(yard)
    async with socket(yard, "?after=0") as stream:
        assert await stream.events(len(before)) == before
        await label(yard, job["id"], "stage", "prod")
        await yard.call("PUT", f"/v1/job/{job['id']}/kill")
        assert await stream.events(2) == (await shown(yard))[-2:]
    hello = stream.controls[0]
    head = await yard.ledger.head()
    assert hello["type"] == "jobyard.hello" and hello["source"] == source_of(head.ledger_id)
    assert hello["data"] | {"head": 0} == {
        "position": 0,
        "head": 0,
        "live": False,
        "ledgerId": str(head.ledger_id),
        "epoch": 1,
    }
    assert any(each["data"]["live"] for each in stream.controls)


async def test_from_now_on_and_from_any_position(yard: Yard) -> None:
    job = await yard.submit()
    position = await yard.head()
    async with socket(yard, "?after=now") as now, socket(yard, f"?after={position - 1}") as later:
        assert await now.until_live() == []
        await label(yard, job["id"], "stage", "prod")
        assert ids(await now.events(1)) == [position + 1]
        assert ids(await later.events(2)) == [position, position + 1]


async def test_heartbeats_tell_how_far_a_narrow_filter_has_looked(yard: Yard) -> None:
    yard.app[SERVICE].feed.pace = Pace(beat_s=0.05)
    async with socket(yard, f"?job={uuid4()}") as quiet:
        assert await quiet.until_live() == []
        await yard.submit()
        head = await yard.head()
        async with asyncio.timeout(DEADLINE_S):
            while (beat := await quiet.frame()) and beat["data"]["position"] < head:
                assert is_control(beat)
    assert beat is not None
    assert beat["type"] == "jobyard.heartbeat"
    assert beat["data"]["position"] == beat["data"]["head"] == head


async def test_filters(yard: Yard, supervision: Supervision) -> None:
    one, two = await yard.submit(labels={"stage": "test"}), await yard.submit(labels={"stage": "prod"})
    await supervision.running(one["id"])
    await label(yard, one["id"], "stage", "prod")
    await supervision.ended(one["id"])
    events = await yard.ledger.events(project="default")
    of_one = [event.position for event in events if str(event.job) == one["id"]]
    types = {event.position: event.type for event in events}
    relabelled = next(position for position in of_one if types[position] == "LabelSet")
    wanted = {
        f"?job={one['id']}": of_one,
        f"?job={one['id']}&job={two['id']}": [event.position for event in events if event.job is not None],
        "?type=RunStarted&type=jobyard.LabelSet": [
            position for position in types if types[position] in ("RunStarted", "LabelSet")
        ],
        "?state=RUNNING&state=DONE": [
            position for position in types if types[position] in ("RunStarted", "RunFinalized")
        ],
        "?labelSelector=stage=prod&state=FINALIZING&state=QUEUED": [
            position
            for position in types
            if (types[position] == "RunExited" and position > relabelled)
            or (types[position] == "JobSubmitted" and position not in of_one)
        ],
        "?labelSelector=stage%20in%20(test)": [position for position in of_one if position < relabelled],
        f"?job={uuid4()}": [],
    }
    for query, positions in wanted.items():
        async with socket(yard, query) as stream:
            assert ids(await stream.until_live()) == positions, query
            page = (await yard.call("GET", f"/v1/events{query}", token=READER)).json
            assert ids(page["items"]) == positions, query
            assert page["position"] == page["head"] == await yard.head()


async def test_nobody_sees_what_is_not_theirs(yard: Yard) -> None:
    await yard.token("prod", READER, selector="stage=prod")
    mine, theirs = await yard.submit(labels={"stage": "prod"}), await yard.submit(labels={"stage": "test"})
    await label(yard, theirs["id"], "stage", "prod")
    await label(yard, mine["id"], "stage", "test")
    types = [event.type for event in await yard.ledger.events(project="default")]
    async with (
        socket(yard, token="prod") as scoped,
        socket(yard, token=READER) as reader,
        socket(yard, token=ADMIN) as admin,
        socket(yard, token="other") as other,
    ):
        seen = await scoped.until_live()
        assert [(each["type"], each["job"]) for each in seen] == [
            ("jobyard.JobSubmitted", mine["id"]),
            ("jobyard.LabelSet", theirs["id"]),
        ]
        assert not [each for each in await reader.until_live() if "Token" in each["type"]]
        all_of_it = await admin.until_live()
        assert [each["type"].removeprefix("jobyard.") for each in all_of_it] == types
        assert "sha256" not in json.dumps(all_of_it)
        assert {each["project"] for each in await other.until_live()} == {"other"}
        await yard.submit(labels={"stage": "prod"})
        await yard.submit(labels={"stage": "test"})
        assert (await scoped.events(1))[0]["data"]["spec"]["labels"]["stage"] == "prod"
        await label(yard, theirs["id"], "x", "y")
        assert (await scoped.events(1))[0]["type"] == "jobyard.LabelSet"


async def test_secrets_are_not_shown(yard: Yard) -> None:
    await yard.submit(envVars=[{"name": "KEY", "value": "a very secret value"}])
    async with socket(yard, "?type=JobSubmitted") as stream:
        (event,) = await stream.events(1)
    assert "very secret" not in json.dumps(event)
    assert '{"sealed": "' in json.dumps(event)


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ("after=99999", "after", "the ledger ends at"),
        ("after=-1", "after", "a whole number from 0"),
        ("after=soon", "after", "or now"),
        ("after=1.5", "after", "a whole number"),
        ("after=", "after", "a whole number"),
        ("after=99999999999999999999999999", "after", "a whole number"),
        ("after=%D9%A1", "after", "a whole number"),
        ("after=1&after=2", "after", "it may stand once in the query, not 2 times"),
        ("type=RunStrated", "type", "did you mean RunStarted?"),
        ("type=x", "type", "the types are"),
        ("state=BUSY", "state", "one of QUEUED"),
        ("job=me", "job", "UUID"),
        ("labelSelector=%3D%3D", "labelSelector", "the forms are"),
        ("limit=0", "limit", "from 1 to 1000"),
        ("&".join(["job=6f9619ff-8b86-4d01-b42d-00cf4fc964ff"] * 101), "job", ""),
    ],
)
async def test_what_is_wrong_is_told_before_anything_begins(
    yard: Yard, query: str, field: str, said: str
) -> None:
    for accept in ("application/json", "text/event-stream"):
        answer = await yard.call("GET", f"/v1/events?{query}", headers={"Accept": accept})
        assert (answer.status, answer.json["field"]) == (400, field)
        assert said in answer.json["message"]
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with socket(yard, f"?{query}"):
            pass
    assert refused.value.status == 400
    assert not yard.app[SERVICE].feed.streams


async def test_a_page_says_where_the_next_begins(yard: Yard) -> None:
    for _ in range(3):
        await yard.submit()
    wanted = await shown(yard)
    found, after = [], 0
    while True:
        page = (await yard.call("GET", f"/v1/events?after={after}&limit=2", token=READER)).json
        found += page["items"]
        after = page["position"]
        if after == page["head"]:
            break
    assert found == wanted
    assert (await yard.call("GET", "/v1/events?after=now")).json["items"] == []


async def test_a_revoked_or_renewed_token_ends_its_streams_with_a_code(yard: Yard) -> None:
    for how in ("DELETE", "POST"):
        token_id = await yard.token(f"mine-{how}", READER)
        async with socket(yard, token=f"mine-{how}") as stream, sse(yard, token=f"mine-{how}") as events:
            await stream.until_live()
            path = f"/v1/token/{token_id}" + ("" if how == "DELETE" else "/renew")
            assert (await yard.call(how, path, token=ADMIN)).status in (200, 204)
            assert await stream.end() == 4401
            records = []
            while (record := await events.record()) is not None:
                records.append(record)
            assert records[-1]["event"] == "end"
            assert json.loads(records[-1]["data"])["code"] == 4401
    async with socket(yard, token=READER) as other:
        await other.until_live()


async def test_a_service_that_closes_says_so(yard: Yard) -> None:
    async with socket(yard) as stream, sse(yard) as events:
        await stream.until_live()
        yard.app[SERVICE].watch.stop()
        assert await stream.end() == 1012
        last: dict[str, str] = {}
        while (record := await events.record()) is not None:
            last = record
        assert json.loads(last["data"])["code"] == 1012


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://[", "http://]:1/", ""])
async def test_a_page_of_another_site_opens_nothing(yard: Yard, origin: str) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with socket(yard, headers={"Origin": origin}):
            pass
    assert refused.value.status == 403


async def test_a_browsers_token_travels_in_a_sub_protocol(yard: Yard) -> None:
    def carried(value: str) -> str:
        text = base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")
        return f"base64url.bearer.authorization.k8s.io.{text}"

    mine = carried(yard.tokens[READER])
    url = f"{yard.url}/v1/events"
    async with yard.http.ws_connect(url, protocols=(mine, "cloudevents.json")) as opened:
        assert opened.protocol == "cloudevents.json"
        await Socket(opened).until_live()
    for protocols, status in (
        ((carried("jy_wrong"), "cloudevents.json"), 401),
        (("base64url.bearer.authorization.k8s.io.é§", "cloudevents.json"), 401),
        ((mine, "soap"), 400),
        (("cloudevents.json",), 401),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await yard.http.ws_connect(url, protocols=protocols)
        assert refused.value.status == status, protocols
    answer = await yard.call("GET", "/v1/me", token=None, headers={"Sec-WebSocket-Protocol": mine})
    assert answer.status == 401, "only a websocket may carry it so"


async def test_what_a_client_says_is_not_looked_at_unless_it_is_too_much(yard: Yard) -> None:
    async with socket(yard) as stream:
        await stream.until_live()
        await stream.socket.send_str("hello?")
        await stream.socket.send_bytes(b"\0")
        await stream.socket.ping()
        await yard.submit()
        await stream.events(1)
        await stream.socket.send_bytes(b"x" * 5000)
        assert await stream.end() == 1009


async def test_server_sent_events_resume_where_a_browser_was(yard: Yard) -> None:
    await yard.submit()
    wanted = await shown(yard)
    async with sse(yard, "?after=0") as stream:
        assert stream.response.content_type == "text/event-stream"
        assert await stream.record() == {"retry": "2000"}
        hello = await stream.record()
        assert hello is not None and (hello["event"], hello["id"]) == ("hello", "0")
        records = await stream.events(len(wanted))
        assert [json.loads(each["data"]) for each in records] == wanted
        assert [each["id"] for each in records] == [each["id"] for each in wanted]
    async with sse(yard, "?after=0", **{"Last-Event-ID": records[-2]["id"]}) as again:
        assert json.loads((await again.events(1))[0]["data"]) == wanted[-1]
    answer = await yard.call(
        "GET", "/v1/events", headers={"Accept": "text/event-stream", "Last-Event-ID": "x"}
    )
    assert (answer.status, answer.json["field"]) == (400, "Last-Event-ID")


async def test_head_and_metrics(yard: Yard) -> None:
    answer = await yard.call("HEAD", "/v1/events", headers={"Accept": "text/event-stream"})
    assert (answer.status, answer.raw) == (200, b"")
    assert (await yard.call("HEAD", "/v1/events")).status == 200
    await yard.submit()
    async with socket(yard, "?type=JobSubmitted") as stream, sse(yard) as events:
        await stream.until_live()
        await events.events(2)
        await until(lambda: not yard.app[SERVICE].feed.behind)
        assert (await yard.call("GET", "/metrics")).status == 200
        text = (await yard.call("GET", "/metrics")).raw.decode()
        assert 'jobyard_event_streams{kind="websocket"} 1.0' in text
        assert 'jobyard_event_streams{kind="sse"} 1.0' in text
        assert "jobyard_event_streams_behind 0.0" in text
        assert "jobyard_event_frames_total 0.0" not in text
    await until(lambda: not yard.app[SERVICE].feed.streams, what="streams that were left end")


async def test_a_client_that_leaves_before_its_websocket_is_open_is_no_failure(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, came = web.WebSocketResponse.prepare, asyncio.Event()

    async def late(self: web.WebSocketResponse, request: web.BaseRequest) -> Any:
        came.set()
        await until(lambda: request.transport is None, what="the client has left")
        return await prepare(self, request)

    monkeypatch.setattr(web.WebSocketResponse, "prepare", late)
    host, _, port = yard.url.removeprefix("http://").partition(":")
    head = (
        f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {yard.tokens[READER]}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with capture_logs() as lines:
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode())
        await writer.drain()
        await came.wait()
        writer.transport.abort()
        await until(lambda: any(line["event"] == "request" for line in lines))
    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["cut"], line["status"]) == ("client", 499), lines
