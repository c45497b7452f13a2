"""Names that a project gives and nobody answers for: the other projects' are looked up all the same."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from service.api.call import SERVICE
from service.domain.webhooks import read_webhook_url
from service.outward import names
from service.outward.addresses import OWN_NETWORKS
from service.webhooks.send import Sender
from tests.api.yard import ADMIN, OPERATOR, Answer, Yard
from tests.support.waiting import DEADLINE_S, until

MANY = 3 * names.EACH


class Servers:
    """The system's resolver, which blocks for `*.slow.test`."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.slow: list[str] = []
        self.quick: list[str] = []

    def getaddrinfo(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if not host.endswith(".slow.test"):
            self.quick.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        self.slow.append(host)
        self.free.wait(DEADLINE_S)
        raise socket.gaierror(socket.EAI_AGAIN, "nobody answers")


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    made = Servers()
    monkeypatch.setattr(names, "_names", names.Names())
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    yield made
    made.free.set()


def registry(host: str) -> tuple[str, dict[str, Any]]:
    return "/v1/registry", {"url": f"http://{host}:1", "username": "a", "password": "b"}


def store(host: str) -> tuple[str, dict[str, Any]]:
    keys = {"s3": {"accessKey": "a", "secretKey": "b"}}
    made = {"alias": host.partition(".")[0], "type": "s3", "credentials": keys}
    return "/v1/datastore", made | {"endpoint": f"http://{host}:1"}


async def test_slow_names_of_one_project_stop_no_other(
    yard: Yard, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    by_the_loop: list[Any] = []
    theirs = loop.getaddrinfo

    async def watched(host: Any, *args: Any, **kwargs: Any) -> Any:
        by_the_loop.append(host)
        return await theirs(host, *args, **kwargs)

    monkeypatch.setattr(loop, "getaddrinfo", watched)
    await yard.token("theirs", OPERATOR, project="other")
    made = [(registry if n % 2 else store)(f"h{n}.d{n}.slow.test") for n in range(MANY)]
    asking = [asyncio.create_task(yard.call("POST", path, body)) for path, body in made]
    try:
        await until(lambda: len(servers.slow) == names.EACH)
        for path, body in (registry("quick.test"), store("quick.test")):
            answer: Answer = await yard.call("POST", path, body, token="theirs")
            assert "reached" in answer.json["message"], answer.raw
        with names.asked_by("third"):
            url = read_webhook_url("url", "https://quick.test/")
            assert await Sender(OWN_NETWORKS).addresses(url) == ["127.0.0.1"]
        assert set(servers.quick) == {"quick.test"}
        assert len(servers.slow) == names.EACH
        assert not {host for host in by_the_loop if str(host).endswith(".test")}
    finally:
        servers.free.set()
        await asyncio.gather(*asking)


async def test_a_webhooks_host_is_looked_up_for_its_project(yard: Yard) -> None:
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> list[str]:
        asked.append(names._asker.get())
        return ["127.0.0.1"]

    hooks = yard.app[SERVICE].parts.hooks
    object.__setattr__(hooks, "sender", Sender(OWN_NETWORKS, resolve=resolve))
    made = await yard.call("POST", "/v1/webhook", {"url": "https://hook.test:1/"}, token=ADMIN)
    assert made.status == 200, made.raw
    assert asked == ["default"]
    tried = await yard.call("POST", f"/v1/webhook/{made.json['id']}/test", token=ADMIN)
    assert tried.status == 200, tried.raw
    assert asked == ["default"] * 2
