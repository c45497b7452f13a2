"""Objects of a container through the API: which files become which keys, and back, safely."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from service.cli import words
from service.cli.client import Client, object_path
from service.cli.parse import Bucket
from service.errors import Invalid, Rejected, UnsafeKey

AT_ONCE = 4
_PAGE_SIZE = 1000  # the most that the service lists at once


class Moved(NamedTuple):
    """One object that was moved, and the file that it came from or went to."""

    key: str
    file: Path
    size_bytes: int

    def as_json(self) -> dict[str, Any]:
        return {"key": self.key, "file": str(self.file), "size": self.size_bytes}


Told = Callable[[Moved], None]


async def placed(client: Client, bucket: Bucket) -> tuple[str, str]:
    """Alias and container. Without an alias the project's only one of type s3 is meant."""
    if bucket.alias is not None:
        return bucket.alias, bucket.container
    stores = await client.pages("/datastore")
    aliases = [each["alias"] for each in stores if each.get("type", "s3") == "s3"]
    if len(aliases) != 1:
        known = ", ".join(aliases) or "none yet; add one with `jobyard datastore add s3`"
        raise Invalid("CONTAINER", bucket.container, f"write CONTAINER@ALIAS; the data stores are: {known}")
    return aliases[0], bucket.container


async def listed(client: Client, alias: str, container: str, prefix: str) -> list[Any]:
    """The objects whose keys begin with `prefix`: key, size, modified."""
    path = object_path(alias, container)
    return await client.in_order(path, size=_PAGE_SIZE, prefix=prefix or None, apart="key")


def keys_of(files: Sequence[Path], prefix: str) -> list[tuple[str, Path]]:
    """The key of each file. A folder keeps its name before what it holds."""
    found: dict[str, Path] = {}
    for given in files:
        for name, file in _named(given):
            if not words.is_text(name):
                raise Rejected(
                    f"FILE: {words.shown(str(file))} has a name that is not UTF-8, as an object's key is"
                )
            key = f"{prefix.strip('/')}/{name}" if prefix.strip("/") else name
            if key in found:
                raise Invalid("FILE", str(file), f"{found[key]} would become the same object, {key}")
            found[key] = file
    return list(found.items())


def without_folders(items: Iterable[Any]) -> list[str]:
    """The keys of listed objects that can be files. Consoles mark a folder by an object whose key ends in a
    `/`; what it holds has keys of its own."""
    return [each["key"] for each in items if not each["key"].endswith("/")]


async def upload(
    client: Client,
    alias: str,
    container: str,
    pairs: Iterable[tuple[str, Path]],
    done: Told = lambda _: None,
) -> list[Moved]:
    """Store each file under its key, a few at a time. `done` hears of each."""

    async def one(pair: tuple[str, Path]) -> Moved:
        key, file = pair
        await client.upload(object_path(alias, container, key), file)
        moved = Moved(key, file, file.stat().st_size)
        done(moved)
        return moved

    return await _few_at_a_time(one, list(pairs))


async def download(
    client: Client,
    alias: str,
    container: str,
    keys: Iterable[str],
    folder: Path,
    done: Told = lambda _: None,
) -> list[Moved]:
    """Fetch each object to its key below `folder`, once. A file appears only when all of it is there."""

    async def one(pair: tuple[str, Path]) -> Moved:
        key, file = pair
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{hashlib.sha256(key.encode()).hexdigest()[:16]}.partial")
        try:
            with partial.open("wb") as into:
                size_bytes = await client.download(object_path(alias, container, key), into)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
        moved = Moved(key, file, size_bytes)
        done(moved)
        return moved

    return await _few_at_a_time(one, [(key, target(folder, key)) for key in dict.fromkeys(keys)])


def target(folder: Path, key: str) -> Path:
    """Where an object goes. Raises `UnsafeKey` for one that would leave the folder."""
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in key:
        raise UnsafeKey(f"{key!r} cannot become a file name; nothing was downloaded")
    path = folder.joinpath(*parts)
    # A link that already stands in the folder must not lead the file elsewhere.
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise UnsafeKey(f"{key!r} would leave {folder} through a link; nothing was downloaded")
    return path


def _named(given: Path) -> list[tuple[str, Path]]:
    if given.is_file():
        return [(given.name, given)]
    if given.exists() and not given.is_dir():
        raise Invalid("FILE", str(given), "it is neither a regular file nor a folder")
    if not given.is_dir():
        raise Invalid("FILE", str(given), "there is no such file or folder")
    top = given.resolve()
    return [
        (f"{top.name}/{file.relative_to(top).as_posix()}", file)
        for file in sorted(top.rglob("*"))
        if file.is_file()
    ]


async def _few_at_a_time(one: Callable[[Any], Any], pairs: list[Any]) -> list[Moved]:
    """All of them, in their order; the first error stops the rest and is raised."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def slotted(pair: Any) -> Moved:
        async with slots:
            moved: Moved = await one(pair)
            return moved

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(slotted(pair)) for pair in pairs]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
