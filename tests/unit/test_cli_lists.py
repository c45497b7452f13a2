"""What the commands list while it changes: from a list that grows between one page and the next."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import pytest

from service.cli import bucket, objects
from service.cli.client import Client
from service.cli.job_list import list_jobs
from service.cli.output import Format, Output
from service.cli.webhook import deliveries
from service.cli.where import Where
from service.errors import UnsafeKey

_SIZE = 3


class _Growing(Client):
    """Its list has the newest item first, in pages of three whatever is asked for, and gets another before
    each page but the first. It has pages by number, and by a cursor if it is asked with one."""

    def __init__(self, count: int) -> None:
        super().__init__(Where("http://127.0.0.1:9", "x"))
        self.count = count
        self.asked: list[dict[str, Any]] = []

    async def get(self, path: str, **params: Any) -> Any:
        self.count += bool(self.asked)
        self.asked.append(params)
        newest_first = [_item(number) for number in range(self.count, 0, -1)]
        if "cursor" in params:
            below = int(params["cursor"] or self.count + 1)
            page = [item for item in newest_first if item["position"] < below][:_SIZE]
            following = f"/v1{path}?size=3&cursor={page[-1]['position']}" if len(page) == _SIZE else None
            return {"items": page, "metadata": {"links": {"next": following} if following else {}}}
        first = (params["page"] - 1) * _SIZE
        metadata = {"pageCount": -(-self.count // _SIZE), "currentPage": params["page"], "links": {}}
        return {"items": newest_first[first : first + _SIZE], "metadata": metadata}


def _item(number: int) -> Any:
    """Whatever it is an item of."""
    job = {"id": f"j{number}", "createdAt": "2026-01-31T12:00:00Z", "spec": {"image": "x"}}
    job["status"] = {"state": "RUNNING"}
    attempt = {"position": number, "attempt": 1, "at": "2026-01-31T12:00:00Z", "milliseconds": 1}
    return job | attempt | {"key": f"k{number}", "size": 1}


class _Told(Output):
    def __init__(self) -> None:
        super().__init__(Format.JSON)
        self.found: list[Any] = []

    def items(self, items: Any, *_: Any) -> None:
        self.found = [each["position"] for each in items]


async def listed(client: Client, **asked: Any) -> list[int]:
    output = _Told()
    async with client:
        await list_jobs(client, output, **asked)
    return output.found


async def test_jobs_that_come_meanwhile_repeat_none_and_hide_none() -> None:
    assert await listed(_Growing(10)) == list(range(10, 0, -1))


async def test_a_list_of_jobs_is_asked_for_as_it_was_before() -> None:
    client = _Growing(10)
    assert await listed(client, limit=4, sort="spec.name", ascending=True, then="15") == [10, 9, 8, 7]
    for asked in client.asked:
        assert (asked["size"], asked["sort"], asked["order"], asked["asOf"]) == (4, "spec.name", "asc", "15")
    assert [asked["cursor"] for asked in client.asked] == ["", "8"]


async def test_deliveries_that_come_meanwhile_repeat_none() -> None:
    output = _Told()
    async with _Growing(10) as client:
        await deliveries(client, output, "w", limit=8)
    assert output.found == [10, 9, 8, 7, 6, 5, 4, 3]


async def test_objects_that_come_meanwhile_repeat_none() -> None:
    async with _Growing(10) as client:
        found = await objects.listed(client, "a", "c", "")
    assert [each["key"] for each in found] == [f"k{number}" for number in range(10, 0, -1)]


class _Store(Client):
    """Every object holds its path; how often each was fetched."""

    def __init__(self) -> None:
        super().__init__(Where("http://127.0.0.1:9", "x"))
        self.fetched: list[str] = []

    async def download(self, path: str, into: IO[bytes], media: str | None = None) -> int:
        self.fetched.append(path.rpartition("/")[2])
        return into.write(path.encode())


async def test_an_object_that_is_named_twice_is_fetched_once(tmp_path: Path) -> None:
    store = _Store()
    async with store:
        moved = await objects.download(store, "a", "c", ["x", "y", "x"], tmp_path)
    assert sorted(store.fetched) == ["x", "y"]
    assert [each.key for each in moved] == ["x", "y"]


class _Marked(_Store):
    """As a console leaves it: with an object that stands for a folder."""

    async def get(self, path: str, **params: Any) -> Any:
        return {"items": [{"key": key, "size": 1} for key in ("images/", "images/a")], "metadata": {}}


async def test_an_object_that_marks_a_folder_is_left_out_unless_it_is_named(tmp_path: Path) -> None:
    store = _Marked()
    async with store:
        await bucket.download(store, "c@a", folder=tmp_path)
        assert store.fetched == ["a"]
        assert [each.name for each in (tmp_path / "images").iterdir()] == ["a"]
        with pytest.raises(UnsafeKey):
            await bucket.download(store, "c@a", ["images/"], folder=tmp_path)
