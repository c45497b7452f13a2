"""What a ledger needs before anybody can submit: a project, a token, prices, a data store. All by command."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import msgspec
import structlog

from service.api.auth import new_value
from service.config import Settings
from service.config.stores import S3Access, read_s3_access
from service.domain import commands as cmd
from service.errors import Conflict
from service.ledger.ledger import Ledger
from service.local import places

PROJECT = "default"
ACTOR = "system:up"
#: The alias of the embedded object store, or of the one configured.
ALIAS = "local"
#: How many of the things below can turn out to exist by now: the project and the data store.
_CAN_EXIST = 2
_TOKEN_BYTES = 32

_log = structlog.get_logger()


async def prepare(ledger: Ledger, settings: Settings, s3: S3Access | None) -> str:
    """Make what is missing; an administrator's token of the project `default`.

    Safe to run again wherever it was cut off, and in several places at once: who comes second finds what
    the first made. Each place has a token of its own, kept in its state directory.
    """
    for _ in range(_CAN_EXIST):
        try:
            return await _prepare(ledger, settings, s3)
        except Conflict as error:
            # Somebody made the same between our look and our word. Now it is there to be found.
            _log.info("prepared elsewhere at once, looking again", error=error.message)
    return await _prepare(ledger, settings, s3)


async def _prepare(ledger: Ledger, settings: Settings, s3: S3Access | None) -> str:
    if await ledger.project(PROJECT) is None:
        await ledger.submit(
            cmd.CreateProject(
                project=PROJECT,
                name=PROJECT,
                cpu=settings.default_quota_cpu,
                gpu=settings.default_quota_gpu,
            ),
            actor=ACTOR,
        )
    await _prices(ledger, settings)
    if s3 is not None:
        await _data_store(ledger, s3)
    return await _token(ledger, settings.state_dir / "admin.token")


async def _prices(ledger: Ledger, settings: Settings) -> None:
    """Put those of the catalogue's prices in the book that are not what a catalogue said last.

    So a start with the same catalogue leaves alone what an overseer has ordered since, and one with a changed
    price sets this one, from now on.
    """
    book = await ledger.prices()
    new = {
        flavor.id: flavor.hourly_price
        for flavor in settings.catalogue.flavors
        if book.of_the_catalogue(flavor.id) != (flavor.hourly_price, settings.currency)
    }
    if new:
        await ledger.submit(cmd.SetPrices(prices=new, currency=settings.currency), actor=ACTOR)


async def _data_store(ledger: Ledger, s3: S3Access) -> None:
    project = await ledger.project(PROJECT)
    known = project.data_stores.get(ALIAS) if project else None
    pair = known.key_pair if known is not None and known.endpoint == s3.endpoint else None
    if pair is not None:
        keys = await ledger.keys.opened(pair)  # None for what was erased: it is set again
        if (keys[pair[0]], keys[pair[1]]) == (s3.access_key, s3.secret_key):
            return
    key = await ledger.keys.of(PROJECT)
    await ledger.submit(
        cmd.SetDataStore(
            project=PROJECT,
            alias=ALIAS,
            endpoint=s3.endpoint,
            region=s3.region,
            access_key=key.seal(s3.access_key),
            secret_key=key.seal(s3.secret_key),
            owner="ovhcloud",
            replace=known is not None,
        ),
        actor=ACTOR,
    )


async def _token(ledger: Ledger, path: Path) -> str:
    """The token kept in `path` while it works; else a new one, kept there for the next time."""
    value = _kept(path)
    token = await ledger.token_by_hash(hashlib.sha256(value.encode()).hexdigest()) if value else None
    if token is not None and not token.revoked and token.project == PROJECT:
        return value
    if token is not None or len(value) < _TOKEN_BYTES:
        # Kept before it is recorded: cut off between the two, the next run records this very one, and no
        # administrator's token is left that nobody knows.
        value = new_value()
        write_private(path, value)
    await ledger.submit(
        cmd.CreateToken(
            project=PROJECT,
            token_id=str(uuid4()),
            name="administrator",
            role="administrator",
            sha256=hashlib.sha256(value.encode()).hexdigest(),
        ),
        actor=ACTOR,
    )
    return value


def _kept(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    places.write_whole(path, text, stat.S_IRUSR | stat.S_IWUSR)


def configured_store(environment: Mapping[str, str]) -> S3Access | None:
    """The object store of JOBYARD_S3, which is used in place of the embedded one. Raises `Misconfigured`."""
    text = environment.get("JOBYARD_S3")
    return None if text is None else read_s3_access("JOBYARD_S3", text)


def up_json(url: str, token: str, docker_host: str, database_url: str, s3: S3Access | None) -> str:
    """What `.jobyard/up.json` holds while a service runs."""
    store = {**msgspec.to_builtins(s3), "alias": ALIAS} if s3 else None
    return json.dumps(
        {
            "url": url,
            "token": token,
            "pid": os.getpid(),
            "dockerHost": docker_host,
            "databaseUrl": database_url,
            "s3": store,
        },
        indent=2,
    )
