"""A store that lists what no real store here would take, over real HTTP, and records what is asked of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from xml.sax.saxutils import escape

from aiohttp import web

from service.supervisor.data import StoreAccess

_SOME_BYTES = 1024**2
_ETAG = "5d41402abc4b2a76b9719d911017c592"


class Canned:
    """Every object holds `body`, whatever ETag is claimed for it.

    `failures` answers are 503 first; with `refusal`, a status and a code of S3, all are that.
    """

    def __init__(self, keys: Sequence[str], body: bytes = b"hello", etag: str = _ETAG) -> None:
        self.keys = keys
        self.body = body
        self.etag = etag
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.failures = 0
        self.refusal: tuple[int, str] | None = None
        #: An answer to a range breaks off after so many bytes.
        self.breaks_after: int | None = None
        #: It then ends in order, as if that were all there is.
        self.says_so = False
        #: The listing has so many pages, each with the same keys.
        self.pages = 1
        #: Behind an object (a listing, if `lists_on`) come so many bytes more, of which `went` have left.
        self.lists_on = False
        self.runs_on = self.went = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if self.failures:
            self.failures -= 1
            return web.Response(status=503, text="<Error><Code>SlowDown</Code></Error>")
        if self.refusal:
            status, code = self.refusal
            return web.Response(status=status, text=f"<Error><Code>{code}</Code></Error>" if code else "")
        if "list-type" in request.query:
            page = int(request.query.get("continuation-token", "1"))
            if self.lists_on:
                return await self._running_on(request, self._listing(page).encode(), {})
            return web.Response(text=self._listing(page), content_type="application/xml")
        if "Range" not in request.headers:
            headers = {"ETag": f'"{self.etag}"', "Last-Modified": "Fri, 02 Jan 2026 03:04:05 GMT"}
            if self.runs_on:
                told = f"bytes 0-{len(self.body) - 1}/{len(self.body)}"
                return await self._running_on(request, self.body, headers | {"Content-Range": told})
            return web.Response(body=self.body, headers=headers)
        piece = request.http_range
        told = f"bytes {piece.start}-{piece.stop - 1}/{len(self.body)}"
        headers = {"ETag": f'"{self.etag}"', "Content-Range": told}
        if self.runs_on:
            return await self._running_on(request, self.body[piece], headers)
        if self.breaks_after is not None and piece.stop - piece.start > self.breaks_after:
            return await self._broken_off(request, self.body[piece], headers)
        return web.Response(status=206, body=self.body[piece], headers=headers)

    async def _broken_off(
        self, request: web.Request, whole: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        if self.says_so:
            return web.Response(status=206, body=whole[: self.breaks_after], headers=headers)
        answer = web.StreamResponse(status=206, headers=headers | {"Content-Length": str(len(whole))})
        await answer.prepare(request)
        await answer.write(whole[: self.breaks_after])
        assert request.transport is not None
        request.transport.close()
        return answer

    async def _running_on(
        self, request: web.Request, whole: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        """In chunks, so that nothing says how long it is."""
        answer = web.StreamResponse(status=206 if "Content-Range" in headers else 200, headers=headers)
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        await answer.write(whole)
        with suppress(ConnectionError):  # whoever asked has heard enough
            while self.went < self.runs_on:
                await answer.write(bytes(_SOME_BYTES))
                self.went += _SOME_BYTES
        return answer

    def _listing(self, page: int) -> str:
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.body)}</Size><ETag>{self.etag}</ETag>"
            "<LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
            for key in self.keys
        )
        more = f"<NextContinuationToken>{page + 1}</NextContinuationToken>" if page < self.pages else ""
        told = f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{items}"
        return f"<ListBucketResult>{told}</ListBucketResult>"


@asynccontextmanager
async def serving(canned: Canned) -> AsyncIterator[StoreAccess]:
    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", canned.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield StoreAccess(f"http://127.0.0.1:{port}", "us-east-1", "k" * 16, "topsecret" * 3)
    finally:
        await runner.cleanup()
