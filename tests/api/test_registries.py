"""Registries: attached, tried, changed, detached; against a real one and any answer there can be."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from service.domain import commands as cmd
from tests.api.token_registry import PASSWORD, TOKEN, USER, TokenRegistry
from tests.api.yard import ADMIN, READER, SPEC, Answer, Yard
from tests.support.registry import PrivateRegistry, the_registry

WRONG = "hunter2hunter2"


@pytest.fixture
def private(parts: None) -> PrivateRegistry:
    return the_registry()


@pytest.fixture
async def tokens() -> AsyncIterator[TokenRegistry]:
    async with TokenRegistry() as made:
        yield made


def body(private: PrivateRegistry, **changed: Any) -> dict[str, Any]:
    return {"url": private.url, "username": private.user, "password": private.password} | changed


async def attach(yard: Yard, asked: dict[str, Any], *, check: bool = True, **more: Any) -> Answer:
    return await yard.call("POST", "/v1/registry" + ("" if check else "?check=false"), asked, **more)


async def unchecked(yard: Yard, url: str = "registry.example.org") -> Any:
    answer = await attach(yard, {"url": url, "username": "ann", "password": WRONG}, check=False)
    assert answer.status == 200, answer.raw
    return answer.json


async def test_one_is_attached_shown_changed_and_detached(yard: Yard, private: PrivateRegistry) -> None:
    with capture_logs() as lines:
        made = await attach(yard, body(private))
    assert made.status == 200, made.raw
    assert made.json.keys() == {"id", "url", "username", "user", "createdAt", "updatedAt"}
    assert (made.json["url"], made.json["username"]) == (private.url, private.user)
    path = f"/v1/registry/{made.json['id']}"
    shown = await yard.call("GET", path, token=READER)
    assert shown.json == made.json
    again = await attach(yard, body(private))
    assert (again.status, again.json["field"]) == (400, "url")
    assert f"attached already as registry {made.json['id']}" in again.json["message"]
    assert (await yard.call("PUT", path, {"password": private.password})).status == 204
    assert (await yard.call("PUT", path, {"url": private.address + "/"})).json["field"] == "password"
    changed = (await yard.call("GET", path)).json
    assert changed["createdAt"] == made.json["createdAt"] < changed["updatedAt"]
    for answer in (made, shown, await yard.call("GET", "/v1/registry")):
        assert private.password not in answer.raw.decode()
    assert private.password not in str(lines)
    assert (await yard.call("DELETE", path)).status == 204
    for method, sent in (("GET", None), ("PUT", {"username": "x"}), ("DELETE", None)):
        assert (await yard.call(method, path, sent)).status == 404
    async with yard.ledger.pool.acquire() as connection:
        for table in ("events", "folds", "commands"):
            query = f"SELECT count(*) FROM {table} t WHERE t::text LIKE '%' || $1 || '%'"
            assert await connection.fetchval(query, private.password) == 0
    assert (await attach(yard, body(private))).status == 200


async def test_a_registry_that_was_read_can_be_sent_again(yard: Yard, private: PrivateRegistry) -> None:
    made = (await attach(yard, body(private))).json
    assert (await yard.call("DELETE", f"/v1/registry/{made['id']}")).status == 204
    again = await attach(yard, made | {"password": private.password})
    assert again.status == 200, again.raw
    assert again.json["id"] != made["id"]


async def test_wrong_credentials_are_told_at_once(yard: Yard, private: PrivateRegistry) -> None:
    before = await yard.head()
    for changed in ({"password": WRONG}, {"username": "nobody"}):
        answer = await attach(yard, body(private, **changed))
        assert (answer.status, answer.json["field"]) == (400, "password"), answer.raw
        assert f"{private.address.partition(':')[0]} refused the user" in answer.json["message"]
        assert WRONG not in answer.raw.decode() and private.password not in answer.raw.decode()
    assert await yard.head() == before
    made = await attach(yard, body(private, password=WRONG), check=False)
    path = f"/v1/registry/{made.json['id']}"
    assert (await yard.call("PUT", path, {"username": "bob"})).json["field"] == "password"
    assert (await yard.call("PUT", path, {"password": WRONG + "!"})).status == 400
    assert (await yard.call("PUT", path + "?check=false", {"username": "bob"})).status == 204
    right = {"username": private.user, "password": private.password}
    assert (await yard.call("PUT", path, right)).status == 204
    # What was sealed opens again: the known password is tried with the new name.
    assert (await yard.call("PUT", path, {"username": private.user})).status == 204


async def test_a_repeat_is_answered_as_the_first(yard: Yard, private: PrivateRegistry) -> None:
    headers = {"Idempotency-Key": "one"}
    first, second = [await attach(yard, body(private), headers=headers) for _ in range(2)]
    assert (first.status, first.json) == (200, second.json)
    assert (await attach(yard, body(private, username="x"), headers=headers)).status == 409


BAD: list[tuple[dict[str, Any], str]] = [
    ({"url": None}, "url"), ({"url": 3}, "url"), ({"url": ""}, "url"),
    ({"url": "ftp://a.example.org"}, "url"),
    ({"url": "https://a.example.org/team"}, "url"), ({"url": "https://ann:hunter2@a.example.org"}, "url"),
    ({"url": "https://a.example.org\0"}, "url"), ({"url": "a" * 5000}, "url"), ({"url": "plain"}, "url"),
    ({"username": ""}, "username"), ({"username": ["x"]}, "username"), ({"username": "a:b"}, "username"),
    ({"password": None}, "password"), ({"password": ""}, "password"), ({"password": 22222222}, "password"),
    ({"password": ["hunter2"]}, "password"), ({"password": "hunter2\0"}, "password"),
    ({"password": "hunter2" * 5000}, "password"), ({"passwrd": "x"}, "passwrd"), ({"id": 3}, "id"),
]  # fmt: skip


async def test_bad_registries_are_named(yard: Yard) -> None:
    made = await unchecked(yard)
    good = {"url": "b.example.org", "username": "ann", "password": "x"}
    before = await yard.head()
    for changed, field in BAD:
        for method, path in (("POST", "/v1/registry"), ("PUT", f"/v1/registry/{made['id']}")):
            if method == "PUT" and (field == "id" or None in changed.values()):
                continue
            answer = await yard.call(method, path + "?check=false", good | changed)
            assert (answer.status, answer.json["field"]) == (400, field), (method, changed, answer.raw)
            assert b"hunter2" not in answer.raw and b"22222222" not in answer.raw
    for field in good:
        lacking = {name: value for name, value in good.items() if name != field}
        answer = await yard.call("POST", "/v1/registry?check=false", lacking)
        assert (answer.status, answer.json["field"]) == (400, field)
        assert "it is missing" in answer.json["message"]
    path = f"/v1/registry/{made['id']}"
    assert (await yard.call("PUT", path, {})).json["field"] == "url"
    assert (await yard.call("PUT", path, {"user": "x"})).json["field"] == "user"
    for query in ("check=maybe", "check=1.5"):
        assert (await yard.call("POST", f"/v1/registry?{query}", good)).json["field"] == "check"
    assert await yard.head() == before


async def test_what_is_somebody_elses_is_not_there(yard: Yard) -> None:
    made = await unchecked(yard)
    before = await yard.head()
    for registry_id in (made["id"], str(uuid4()), "x", "%00"):
        for method, sent in (("GET", None), ("PUT", {"username": "x"}), ("DELETE", None)):
            answer = await yard.call(method, f"/v1/registry/{registry_id}", sent, token="other")
            assert (answer.status, answer.json["code"]) == (404, "not-found"), (method, answer.raw)
    assert (await yard.call("GET", "/v1/registry", token="other")).json["items"] == []
    assert await yard.head() == before
    mine = {"url": made["url"], "username": "x", "password": "y"}
    assert (await attach(yard, mine, check=False, token="other")).status == 200


async def test_readers_read_and_no_more(yard: Yard) -> None:
    path = f"/v1/registry/{(await unchecked(yard))['id']}"
    for method, place, sent in (
        ("POST", "/v1/registry", {}), ("PUT", path, {"username": "x"}), ("DELETE", path, None),
    ):  # fmt: skip
        assert (await yard.call(method, place, sent, token=READER)).status == 403
        assert (await yard.call(method, place, sent, token=None)).status == 401
    assert (await yard.call("GET", path, token=READER)).status == 200
    assert (await yard.call("GET", path, token=None)).status == 401


async def test_registries_come_in_pages(yard: Yard) -> None:
    urls = [f"r{number}.example.org" for number in range(5)]
    for url in urls:
        await unchecked(yard, url)
    seen: list[str] = []
    following = "/v1/registry?size=2"
    while following:
        page = (await yard.call("GET", following)).json
        assert (page["metadata"]["pageCount"], page["metadata"]["total"]) == (3, 5)
        seen += [each["url"] for each in page["items"]]
        following = page["metadata"]["links"].get("next")
    assert seen == urls
    for query in ("page=0", "size=0", "size=501", "page=x"):
        answer = await yard.call("GET", f"/v1/registry?{query}")
        assert (answer.status, answer.json["field"]) == (400, query.partition("=")[0])
    assert (await yard.call("GET", "/v1/registry?page=9")).json["items"] == []


# -- what a registry can answer -----------------------------------------------------------------------


def of(tokens: TokenRegistry, **changed: Any) -> dict[str, Any]:
    return {"url": f"http://{tokens.address}", "username": USER, "password": PASSWORD} | changed


async def test_a_token_is_fetched_where_the_registry_says(yard: Yard, tokens: TokenRegistry) -> None:
    made = await attach(yard, of(tokens))
    assert made.status == 200, made.raw
    assert [given and given.partition(" ")[0] for _, given in tokens.seen] == [None, "Basic", "Bearer"]
    assert tokens.seen[-1] == ("/v2/", f"Bearer {TOKEN}")
    assert (await yard.call("DELETE", f"/v1/registry/{made.json['id']}")).status == 204
    refused = await attach(yard, of(tokens, password=WRONG))
    assert (refused.status, refused.json["field"]) == (400, "password")


async def test_the_password_goes_to_no_other_server_in_clear(yard: Yard, tokens: TokenRegistry) -> None:
    async with TokenRegistry() as elsewhere:
        for realm in (f"http://{elsewhere.address}/token", "file:///etc/passwd", "token", "http://", "//x"):
            tokens.realm = realm
            refused = await attach(yard, of(tokens))
            assert (refused.status, refused.json["field"]) == (400, "url"), refused.raw
            assert "neither https nor itself" in refused.json["message"]
        assert elsewhere.seen == []
        tokens.answers = web.Response(status=307, headers={"Location": f"http://{elsewhere.address}/v2/"})
        refused = await attach(yard, of(tokens))
        assert "leads elsewhere" in refused.json["message"]
        assert elsewhere.seen == []
    assert {given for _, given in tokens.seen} == {None}


LONG = "a" * 8000
STRANGE: list[tuple[dict[str, Any], str]] = [
    ({"text": "<html>hello</html>"}, "is not a registry (status 200)"),
    ({"text": "no", "status": 404}, "is not a registry (status 404)"),
    ({"text": "no", "status": 401, "headers": {"WWW-Authenticate": 'Basic realm="x"'}}, "is not a registry"),
    ({"text": "{}", "status": 401, "headers": {"WWW-Authenticate": "Negotiate"}}, "of a kind that no"),
    ({"text": "{}", "status": 401, "headers": {"WWW-Authenticate": "Bearer " + LONG}}, "more than 1024"),
    ({"text": "{}", "status": 503}, "answered 503"),
    ({"text": "x" * 100_000}, "answers more than a registry does"),
]  # fmt: skip


async def test_what_is_no_registry_is_told(yard: Yard, tokens: TokenRegistry) -> None:
    for strange, says in STRANGE:
        tokens.answers = web.Response(**strange)
        refused = await attach(yard, of(tokens))
        assert (refused.status, refused.json["field"]) == (400, "url"), refused.raw
        assert says in refused.json["message"], refused.json
    assert {given for _, given in tokens.seen} == {None}


async def test_a_registry_that_does_not_answer_is_told(
    yard: Yard, tokens: TokenRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_tls = await attach(yard, of(tokens, url=f"https://{tokens.address}"))
    assert (no_tls.status, no_tls.json["field"]) == (400, "url"), no_tls.raw
    gone = await attach(yard, of(tokens, url="http://127.0.0.1:1"))
    assert "127.0.0.1:1 cannot be reached" in gone.json["message"]
    monkeypatch.setattr("service.api.registry_check.CHECK_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        refused = await attach(yard, of(tokens, url=f"http://127.0.0.1:{silent.getsockname()[1]}"))
    assert (refused.status, refused.json["field"]) == (400, "url")
    assert "did not answer within" in refused.json["message"]


@pytest.mark.parametrize("address", ["169.254.169.254", "100.100.100.200", "0.0.0.0", "224.0.0.1"])
async def test_nobody_is_asked_where_no_registry_can_be(
    yard: Yard, tokens: TokenRegistry, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """A cloud's metadata, by its address, by a name that leads there, or as somebody's token server."""
    connected: list[str] = []
    connect = asyncio.get_running_loop().sock_connect

    def found(host: str, port: int, *_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    async def watched(sock: socket.socket, to: Any) -> None:
        connected.append(to[0])
        await connect(sock, to)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", watched)
    for url in (f"http://{address}:80", "https://registry.example.org"):
        refused = await attach(yard, of(tokens, url=url))
        assert (refused.status, refused.json["field"]) == (400, "url")
        assert "at an address that no registry has" in refused.json["message"]
    assert set(connected) <= {"127.0.0.1"}, "the client of this test alone"
    realm = f'Bearer realm="https://{address}/token",service="x"'
    tokens.answers = web.Response(status=401, headers={"WWW-Authenticate": realm})
    refused = await attach(yard, of(tokens))
    assert "at an address that no registry has" in refused.json["message"], refused.json
    assert set(connected) <= {"127.0.0.1"}


# -- the shared registry ------------------------------------------------------------------------------


@pytest.fixture
async def sharing(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """The yard, whose operator shares a registry."""
    from msgspec.structs import replace

    from service.api.call import SERVICE
    from service.vault import Secret

    parts = yard.app[SERVICE].parts
    settings = replace(
        parts.settings,
        shared_registry="https://shared.example.org",
        shared_registry_username="robot",
        shared_registry_password=Secret(WRONG),
    )
    object.__setattr__(parts, "settings", settings)
    return yard


async def test_the_shared_registry_is_used_by_the_project_it_is_for(sharing: Yard) -> None:
    mine = await sharing.submit(image="shared.example.org/default/net:1")
    assert mine["status"]["imageDigest"] is None
    before = await sharing.head()
    for image in ("shared.example.org/other/net:1", "SHARED.example.org/other/net", "shared.example.org/net"):
        for path in ("/v1/job", "/v1/job/command"):
            answer = await sharing.call("POST", path, SPEC | {"image": image})
            assert (answer.status, answer.json["field"]) == (400, "image"), answer.raw
            assert "may use shared.example.org/default/... only" in answer.json["message"]
    asked = {"url": "shared.example.org", "username": "x", "password": "y"}
    answer = await attach(sharing, asked, check=False)
    assert (answer.status, answer.json["field"]) == (400, "url")
    assert "needs nothing attached" in answer.json["message"]
    assert await sharing.head() == before


async def test_an_id_of_an_image_is_refused(yard: Yard) -> None:
    for image in ("sha256:" + "0a" * 32, "sha256:0a0a0a0a0a0a", "0a" * 32):
        answer = await yard.call("POST", "/v1/job", SPEC | {"image": image})
        assert (answer.status, answer.json["field"]) == (400, "image")


async def test_many_at_once_attach_one(yard: Yard) -> None:
    """Deciding is what keeps it one a host: each of them saw none before."""
    from tests.api.yard import gathered

    key = await yard.ledger.keys.of("default")

    async def order(_: int) -> bool:
        command = cmd.SetRegistry(
            project="default",
            registry_id=str(uuid4()),
            user=ADMIN,
            url="registry.example.org",
            username="ann",
            password=key.seal("x"),
        )
        try:
            await yard.ledger.submit(command, actor="test")
        except Exception as error:  # noqa: BLE001
            assert "is attached already" in str(error)
            return False
        return True

    assert sum(await gathered(10, order)) == 1
