"""Answers of a store that take long to read: refused before, or read beside the event loop."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from aiohttp import web

from service.errors import StoreDenied, StoreMissing, StoreRefused, Unavailable
from service.supervisor.data import Source, Store
from service.supervisor.data.s3 import answers
from tests.data.canned import Canned, serving
from tests.data.conftest import QUICK

MIB = 1024**2
ITEM = "<Contents><Key>a</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
BEGINNING, END = '<ListBucketResult xmlns:x="y"><IsTruncated>false</IsTruncated>', "</ListBucketResult>"


class Saying(Canned):
    """Answers everything with `text`."""

    def __init__(self, text: str, status: int = 200) -> None:
        super().__init__([])
        self.text, self.status = text, status

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        return web.Response(status=self.status, text=self.text, content_type="application/xml")


async def listed(text: str) -> list[str]:
    async with serving(Saying(text)) as access, Store.open(access, QUICK) as store:
        return [info.key async for info in store.list("box")]


async def test_a_page_has_a_thousand_keys_at_most() -> None:
    assert await listed(BEGINNING + ITEM * 1000 + END) == ["a"] * 1000
    too_many = (
        ITEM * 1001,
        ITEM * 80_000,
        ITEM.replace("Contents", "x:Contents") * 1001,
        "<CommonPrefixes><Prefix>a</Prefix></CommonPrefixes>" * 501 + ITEM * 500,
    )
    for items in too_many:
        with pytest.raises(StoreRefused, match="more than 1000 keys on a page"):
            await listed(BEGINNING + items + END)


async def test_a_page_is_asked_for_with_so_many_and_from_its_beginning() -> None:
    saying = Saying(BEGINNING + END)
    async with serving(saying) as access, Store.open(access, QUICK) as store:
        assert [info async for info in store.list("box", after="a b")] == []
    assert "max-keys=1000" in saying.asked[0]
    assert "start-after=a+b" in saying.asked[0].replace("%20", "+")


COSTLY = {
    "elements": ("<a/>" * 100_000, "too many elements"),
    "elements of one key": (ITEM.replace("<Size>", "<a/>" * 100_000 + "<Size>"), "too many elements"),
    "attributes": (
        "".join("<a " + " ".join(f'b{n}=""' for n in range(1000)) + "/>" for _ in range(100)),
        "too many elements",
    ),
    "one tag": ("<a " + " ".join(f'b{n}=""' for n in range(10_000)) + "/>", "no XML of S3's"),
    "one text": ("<a>" + "x" * MIB + "</a>", "no XML of S3's"),
    "lines": (("<a>" + "\n" * 8000 + "</a>") * 100, "too many lines"),
    "references": (("<a>" + "&lt;" * 2000 + "</a>") * 200, "too many lines"),
    "depth": ("<a>" * 100 + "</a>" * 100, "too many elements"),
}


@pytest.mark.parametrize(("text", "why"), COSTLY.values(), ids=COSTLY.keys())
async def test_what_takes_too_long_to_read_is_not_read(text: str, why: str) -> None:
    with pytest.raises(StoreRefused, match=why):
        await listed(BEGINNING + text + END)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
async def test_nor_what_stands_for_more_than_it_says(encoding: str) -> None:
    document = f'<!DOCTYPE a [<!ENTITY b "{"x" * 1000}">]>{BEGINNING}{"<a>&b;</a>" * 9}{END}'
    with pytest.raises(StoreRefused, match=r"document type|no XML of S3's"):
        answers.check(document.encode(encoding))


def test_nor_what_hides_its_tags_from_a_count_of_bytes() -> None:
    one_tag = "<a " + " ".join(f'\u3c3c{n}=""' for n in range(10_000)) + "/>"
    with pytest.raises(StoreRefused, match="no XML of S3's"):
        answers.check(one_tag.encode("utf-16"))


@pytest.mark.parametrize(
    ("status", "kind"), [(403, StoreDenied), (404, StoreMissing), (400, StoreRefused), (503, Unavailable)]
)
@pytest.mark.parametrize("text", ["<a>" * 5000 + "</a>" * 5000, "<a/>" * MIB], ids=["deep", "large"])
async def test_an_error_that_cannot_be_read_is_what_its_status_says(
    status: int, kind: type[Exception], text: str
) -> None:
    saying = Saying(f"<Error><Code>NoSuchThing</Code>{text}</Error>", status)
    async with serving(saying) as access, Store.open(access, QUICK) as store:
        with pytest.raises(kind):
            _ = [info async for info in store.list("box")]


async def test_a_large_answer_is_read_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one is not worth the change of threads."""
    threads: list[str] = []
    for name in ("check", "_driven"):
        work = getattr(answers, name)

        def watched(*given: Any, work: Any = work) -> Any:
            threads.append(threading.current_thread().name.rpartition("_")[0])
            return work(*given)

        monkeypatch.setattr(answers, name, watched)
    assert len(await listed(BEGINNING + ITEM * 1000 + END)) == 1000
    assert threads == ["store-answers", "store-answers"]
    threads.clear()
    assert len(await listed(BEGINNING + ITEM * 10 + END)) == 10
    assert threads == [""], "weighed at once, and read at once"


# -- keys behind another -------------------------------------------------------------------------------


async def test_a_list_goes_on_behind_a_key(store: Store, source: Source) -> None:
    keys = ["a", "a b+%", "a1/b", "b", "ä", "é/x"]
    for key in keys:
        await store.upload(source.container, key, _stream(b"1"))
    assert [info.key async for info in store.list(source.container)] == keys
    for at, key in enumerate(keys):
        assert [info.key async for info in store.list(source.container, after=key)] == keys[at + 1 :]
    assert [info.key async for info in store.list(source.container, "a", after="a b+%")] == ["a1/b"]
    # No object has this key (any more).
    assert [info.key async for info in store.list(source.container, after="a.")] == keys[2:]


async def test_so_it_does_where_a_store_begins_anew_each_time() -> None:
    async with serving(Canned(["a", "b", "c"])) as access, Store.open(access, QUICK) as store:
        assert [info.key async for info in store.list("box", after="a")] == ["b", "c"]


async def _stream(*pieces: bytes) -> Any:
    for piece in pieces:
        yield piece
