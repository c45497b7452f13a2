"""Whatever bytes come in: never a 5xx, always our JSON or the connection's end, and the service lives on."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.yard import OPERATOR, Loop

#: Stands for the value of a good token, so that bodies are read too.
TOKEN = b"@TOKEN@"
#: In the middle of a head or between two requests this ends the connection, so that nobody need wait.
POISON = b"\r\n\r\n\0\r\n\r\n"

_GOOD_METHODS = st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"OPTIONS"])
_METHODS = st.sampled_from([b"CONNECT", b"TRACE", b"PRI", b"get", b"G@T", b""]) | st.binary(
    max_size=8
).filter(lambda method: method != b"HEAD")
_GOOD_TARGETS = st.sampled_from([b"/healthz", b"/docs", b"/v1/job", b"/v1/me", b"/v1/job?page=2", b"/no"])
_TARGETS = st.sampled_from(
    [b"*", b"", b"/%00", b"/%ff?%ff=%zz", b"/../..", b"//x/y", b"x:80", b"http://[::1/", b"http://x/healthz",
     b"http://x:99999/healthz", b"/v1/job?page=%0a#f", b"/" + b"a" * 9000]
) | st.binary(max_size=12)  # fmt: skip
_VERSIONS = st.sampled_from([b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"HTTP/0.9", b"", b"HTP/1.1"])
_GOOD_NAMES = st.sampled_from(
    [b"Content-Length", b"Transfer-Encoding", b"Connection", b"Upgrade", b"Expect", b"X-Request-Id",
     b"Accept", b"Content-Encoding", b"Content-Type", b"Idempotency-Key"]
)  # fmt: skip
_NAMES = st.sampled_from([b"Host", b"Sec-WebSocket-Key1", b"b" * 9000]) | st.binary(max_size=6)
_GOOD_VALUES = st.sampled_from(
    [b"x", b"0", b"5", b"chunked", b"gzip", b"close", b"keep-alive", b"upgrade", b"websocket",
     b"100-continue", b"magic"]
)  # fmt: skip
_VALUES = st.sampled_from(
    [b"-1", b"1e3", b"99999999999999999999", b"chunked, chunked", b"\xff\xfe", b"a\r\n b", b"c" * 9000]
) | st.binary(max_size=12)
_CHUNKS = st.sampled_from(
    [b"5\r\nhello\r\n", b"0\r\n\r\n", b"zz\r\n", b"-1\r\n", b"5;x=y\r\nhell", b"ffffffffffffffffff\r\n",
     b"0\r\nA: b\r\n\r\n", b"\r\n"]
)  # fmt: skip
_BODIES = st.one_of(
    st.just(b""),
    st.binary(max_size=30),
    st.lists(_CHUNKS, max_size=4).map(b"".join),
    st.just(b"z" * 9000),
)
_ENDS = st.sampled_from([b"\n", b"\r", b"\0"])


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    """Something like a request; most of it is right, so that what is wrong is met in every place."""

    def mostly(good: st.SearchStrategy[bytes], bad: st.SearchStrategy[bytes]) -> bytes:
        return draw(bad if draw(st.integers(0, 9)) == 9 else good)

    end = mostly(st.just(b"\r\n"), _ENDS)
    method, target = mostly(_GOOD_METHODS, _METHODS), mostly(_GOOD_TARGETS, _TARGETS)
    head = [b" ".join([method, target, mostly(st.just(b"HTTP/1.1"), _VERSIONS)])]
    head.append(mostly(st.just(b"Host: x"), st.just(b"A: b")))
    for _ in range(draw(st.integers(0, 3))):
        head.append(mostly(_GOOD_NAMES, _NAMES) + b": " + mostly(_GOOD_VALUES, _VALUES))
    if draw(st.booleans()):
        head.append(b"Authorization: Bearer " + TOKEN)
    return end.join(head) + end + end + draw(_BODIES)


@st.composite
def _cut(draw: st.DrawFn) -> bytes:
    whole = draw(_requests())
    return whole[: draw(st.integers(0, len(whole)))]


_SENT = st.one_of(
    st.binary(max_size=64),
    _requests(),
    _cut(),
    st.lists(_requests(), min_size=2, max_size=3).map(b"".join),
    st.integers(2, 80).map(lambda count: count * b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
)


def test_no_bytes_break_the_service(database: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loop = Loop(database, tmp_path)

    async def sent(data: bytes) -> None:
        with structlog.testing.capture_logs() as lines:
            token = loop.yard.tokens[OPERATOR].encode()
            found = await loop.yard.talk(data.replace(TOKEN, token), last=POISON, is_answered=False)
        for answer in found:
            assert answer.status < 500, answer.raw
            assert answer.headers["Server"] == "jobyard"
            if answer.status >= 400:
                assert {"message", "code", "requestId"} <= set(answer.json)
                assert answer.json["requestId"] == answer.headers["X-Request-Id"]
        assert [line for line in lines if line["log_level"] not in ("debug", "info")] == []
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
        assert (await loop.yard.call("GET", "/healthz", token=None)).status == 200

    @settings(max_examples=200, suppress_health_check=list(HealthCheck), database=None)
    @given(_SENT)
    def fuzz(data: bytes) -> None:
        loop.run(sent(data))

    try:
        fuzz()
    finally:
        loop.close()
