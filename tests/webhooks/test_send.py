"""One request: only to addresses that may be, whatever the name says meanwhile; bounded in time and size."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from service.domain.webhooks import WebhookUrl, read_webhook_url
from service.errors import FetchRefused
from service.outward import names
from service.webhooks.deliverer import PROJECT_CONCURRENCY
from service.webhooks.send import MOST_BODY_BYTES, Sender
from tests.support.https import NAME, certify
from tests.support.waiting import DEADLINE_S
from tests.webhooks.receiver import Receiver, a_receiver

LOOPBACK = (ip_network("127.0.0.1/32"),)
HEADERS = {"webhook-id": "m"}


class Names:
    """A resolver that answers one thing after the other, and the last one for ever."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def url(text: str) -> WebhookUrl:
    return read_webhook_url("url", text, http=True)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "192.0.0.192", "168.63.129.16", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
        *("::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1", "2002:7f00:1::"),
    ],
)
async def test_no_address_that_is_not_public_is_connected_to(address: str) -> None:
    literal = f"https://{f'[{address}]' if ':' in address else address}/"
    with pytest.raises(FetchRefused):
        await Sender().addresses(url(literal))
    answer = await Sender(resolve=Names(["8.8.8.8", address])).post(url("https://a.test/"), HEADERS, b"{}")
    assert (answer.status, answer.error) == (None, "its host is at an address that is not a public one")


async def test_a_name_that_moves_to_a_private_address_is_refused_at_the_next_attempt(
    receiver: Receiver,
) -> None:
    """The one that was checked is connected to: there is no second look-up in between."""
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    sender = Sender(LOOPBACK, resolve=names)
    to = url(receiver.url.replace("127.0.0.1", "a.test"))
    assert (await sender.post(to, HEADERS, b"{}")).status == 204
    assert names.asked == 1
    assert (await sender.post(to, HEADERS, b"{}")).error == (
        "its host is at an address that is not a public one"
    )
    assert len(receiver.got) == 1


async def test_plain_http_goes_to_own_networks_alone(receiver: Receiver) -> None:
    assert (await Sender(LOOPBACK).post(url(receiver.url), HEADERS, b"{}")).delivered
    sender = Sender(LOOPBACK, resolve=Names(["8.8.8.8"]))
    assert (await sender.post(url("http://a.test/"), HEADERS, b"{}")).error == (
        "its host is at an address that is not a public one"
    )
    assert not Sender().takes_http


async def test_tls_is_verified_with_the_hosts_name(tmp_path: Path) -> None:
    ca, certificate = certify(tmp_path)
    async with a_receiver(certificate) as receiver:
        at = receiver.url.replace("127.0.0.1", NAME)
        here = Names(["127.0.0.1"])
        trusting = Sender(LOOPBACK, ca, resolve=here)
        assert (await trusting.post(url(at), HEADERS, b"{}")).status == 204
        other = url(receiver.url.replace("127.0.0.1", "other.test"))
        wrong = "its certificate is not valid for its host"
        assert (await trusting.post(other, HEADERS, b"{}")).error == wrong
        assert (await Sender(LOOPBACK, resolve=here).post(url(at), HEADERS, b"{}")).error == wrong
        plain = await trusting.post(url(at.replace("https", "http")), HEADERS, b"{}")
        assert not plain.delivered
        assert len(receiver.got) == 1


async def test_redirects_are_not_followed_and_the_environments_proxy_is_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    receiver.judge = lambda _got: web.Response(status=307, headers={"Location": receiver.url + "/there"})
    answer = await Sender(LOOPBACK).post(url(receiver.url), HEADERS, b"{}")
    assert (answer.status, answer.error) == (307, "it answered 307; redirects are not followed")
    assert [got.path for got in receiver.got] == ["/hook"]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_2xx_is_success(receiver: Receiver, status: int) -> None:
    receiver.judge = lambda _got: status
    assert (await Sender(LOOPBACK).post(url(receiver.url), HEADERS, b"{}")).delivered


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def served(talk: Talk, **changed: Any) -> Any:
    """What is made of a server that says whatever it likes."""
    open_ones: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.append(writer)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sender = Sender(LOOPBACK, **({"whole_s": 0.3} | changed))
    try:
        return await sender.post(url(f"http://127.0.0.1:{port}/"), HEADERS, b"{}")
    finally:
        for writer in open_ones:
            writer.transport.abort()
        server.close()


async def test_a_server_that_never_answers_or_trickles_its_headers_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def trickling(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-A: b\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    assert (await served(silent)).error == "no answer within 0.3 s"
    found = await served(trickling)
    assert not found.delivered


async def test_an_endless_body_is_cut_and_its_status_counts() -> None:
    sent = 0

    async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    answer = await served(endless, whole_s=10.0)
    assert (answer.status, answer.error) == (200, None)
    assert sent < 100 * MOST_BODY_BYTES + 2**24, "what lies in the sockets' buffers, and no more"


async def test_a_body_that_stalls_or_breaks_does_not_undo_the_status() -> None:
    async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\nx")
        await reader.read()

    async def breaking(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\nx")
        await writer.drain()

    for talk in (stalling, breaking):
        answer = await served(talk, whole_s=10.0, body_s=0.05)
        assert (answer.status, answer.error) == (202, None)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "it hung up without an answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "what it answered is no HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", "what it answered is no HTTP"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 17 + b"HTTP/1.1 200 OK\r\n\r\n", "what it answered is no HTTP"),
        (b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", "it answered 999"),
    ],
)
async def test_whatever_else_is_said_is_a_failure_in_words_of_ours(said: bytes, why: str) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    assert (await served(talk, whole_s=10.0)).error.startswith(why)


async def test_a_connection_that_is_reset_was_hung_up_as_well() -> None:
    """As by a server that ends with a part of the request unread."""

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at_once = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        writer.transport.abort()

    assert (await served(talk, whole_s=10.0)).error == "it hung up without an answer"


async def test_nothing_of_a_request_is_logged(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await Sender(LOOPBACK).post(url(receiver.url + "?key=s3cret"), HEADERS, b"{}")
    assert "s3cret" not in caplog.text


async def test_one_project_cannot_hold_all_the_threads_for_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look-ups that nobody answers go on in their threads after each attempt was given up."""
    free, asked = threading.Event(), threading.Semaphore(0)

    def getaddrinfo(host: str, port: int, **_more: Any) -> list[Any]:
        if host == "slow.test":
            asked.release()
            free.wait(DEADLINE_S)
        return [(0, 0, 0, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    sender = Sender(LOOPBACK, whole_s=0.01)
    try:
        for _ in range(2):  # as many as it may have under way, given up once
            attempts = [
                sender.post(url("https://slow.test/"), HEADERS, b"{}") for _ in range(PROJECT_CONCURRENCY)
            ]
            answers = await asyncio.gather(*attempts)
            assert {answer.error for answer in answers} == {"no answer within 0.01 s"}
        for _ in range(names.EACH):
            assert await asyncio.to_thread(asked.acquire, timeout=DEADLINE_S)
        assert await Sender(LOOPBACK).addresses(url("https://quick.test/")) == ["127.0.0.1"]
    finally:
        free.set()
