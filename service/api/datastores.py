"""/v1/datastore: the project's stores, of objects or git repositories. Their keys
are checked before they are taken, and sealed.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import UnsetType

from service.api import git_stores, wire
from service.api.call import Call
from service.api.errors import Said
from service.api.query import Query
from service.domain import commands as cmd
from service.domain.directory import DataStore
from service.domain.events import DataStoreSet, Event
from service.domain.s3stores import check_region, check_s3_endpoint
from service.domain.volumes import check_alias
from service.errors import Conflict, Invalid, NotFound, StoreForbidden, StoreRefused

DEFAULT_REGION = "us-east-1"
_MOST_CHARS = 1024


class CheckAsked(Query, frozen=True):
    """`check=false` takes the keys without asking the store."""

    check: bool = True


async def create(call: Call) -> wire.DataStore:
    asked: wire.StoreAsked = call.body
    check_alias("alias", asked.alias)
    if (receipt := await call.recalled()) is not None:
        return _made(receipt.events[0])
    known = await call.ledger.project(call.project)
    if known is not None and asked.alias in known.data_stores:
        raise Conflict(f"alias: data store {asked.alias} exists already; PUT replaces it")
    command = await _command(call, asked.alias, asked, replace=False)
    return _made((await call.submit(command)).events[0])


async def replace(call: Call) -> None:
    asked: wire.StoreReplaced = call.body
    store = await known_store(call)
    if asked.alias not in (None, store.alias):
        raise Invalid("alias", asked.alias, f"the path says {store.alias}; an alias is never changed")
    await call.submit(await _command(call, store.alias, asked, replace=True))


async def _command(
    call: Call, alias: str, asked: wire.StoreAsked | wire.StoreReplaced, *, replace: bool
) -> cmd.SetDataStore:
    """The checked command, with all keys sealed."""
    if asked.type == "git":
        keys = await git_stores.keys_of(call, asked.endpoint, asked.credentials, check=call.query.check)
        return cmd.SetDataStore(
            project=call.project,
            alias=alias,
            kind="git",
            endpoint=asked.endpoint,
            git=keys,
            owner=asked.owner,
            replace=replace,
        )
    return await _s3_command(call, alias, asked, replace=replace)


async def _s3_command(
    call: Call, alias: str, asked: wire.StoreAsked | wire.StoreReplaced, *, replace: bool
) -> cmd.SetDataStore:
    keys = _keys(asked)
    check_s3_endpoint("endpoint", asked.endpoint)
    sealing = await call.ledger.keys.of(call.project)
    command = cmd.SetDataStore(
        project=call.project,
        alias=alias,
        endpoint=asked.endpoint,
        region=keys.region or DEFAULT_REGION,
        access_key=sealing.seal(keys.access_key),
        secret_key=sealing.seal(keys.secret_key),
        owner=asked.owner,
        replace=replace,
    )
    if call.query.check:
        await _check(call, command)
    return command


def _keys(asked: wire.StoreAsked | wire.StoreReplaced) -> wire.S3KeysAsked:
    if asked.credentials is None:
        raise Invalid("credentials", None, "a data store of type s3 has credentials.s3")
    if asked.credentials.s3 is None or asked.credentials.git is not None:
        said = Said("they are not of the type s3")
        raise Invalid("credentials", said, "a data store of type s3 has credentials.s3 and no others")
    keys = asked.credentials.s3
    for field, value in (("accessKey", keys.access_key), ("secretKey", keys.secret_key)):
        if not 1 <= len(value) <= _MOST_CHARS or not (value.isascii() and value.isprintable()):
            said = Said("it is empty, too long or not printable")
            raise Invalid(f"credentials.s3.{field}", said, f"1 to {_MOST_CHARS} printable letters")
    check_region("credentials.s3.region", keys.region or "")
    return keys


async def _check(call: Call, command: cmd.SetDataStore) -> None:
    """Ask the store whether the keys are right. Raises `Invalid` when it says no, or may not be asked."""
    now = datetime.now(UTC)
    store = DataStore(
        alias=command.alias,
        kind="s3",
        endpoint=command.endpoint,
        region=command.region,
        access_key=command.access_key,
        secret_key=command.secret_key,
        owner=command.owner,
        created_at=now,
        updated_at=now,
    )
    try:
        async with call.service.parts.stores.open(call.project, store) as opened:
            await opened.check()
    except StoreForbidden as error:
        allowed = "a public address, or one of the networks that the operator named (JOBYARD_STORE_ALLOW)"
        raise Invalid("endpoint", command.endpoint, f"{error.why}; name {allowed}") from error
    except StoreRefused as error:
        raise Invalid(
            "credentials.s3",
            Said(f"the store refused the key pair ({error.message})"),
            "?check=false takes it without asking",
        ) from error


async def find(call: Call) -> wire.DataStoreList:
    project = await call.ledger.project(call.project)
    stores = project.data_stores if project else {}
    items = [_view(stores[alias]) for alias in sorted(stores)]
    return wire.DataStoreList(items=items, metadata=wire.whole(items))


async def get(call: Call) -> wire.DataStore:
    return _view(await known_store(call))


async def remove(call: Call) -> None:
    store = await known_store(call)
    await call.submit(cmd.RemoveDataStore(project=call.project, alias=store.alias))


async def object_store(call: Call) -> DataStore:
    """The data store in the path, which must hold objects. Raises `NotFound` or `Invalid`."""
    store = await known_store(call)
    if store.kind != "s3":
        raise Invalid(
            "alias", store.alias, f"it is of type {store.kind}: only stores of type s3 hold objects"
        )
    return store


async def known_store(call: Call) -> DataStore:
    """The data store in the path. Raises `NotFound`."""
    alias = call.path("alias")
    project = await call.ledger.project(call.project)
    if project is None or alias not in project.data_stores:
        raise NotFound(f"there is no data store {alias[:64]!r}")
    return project.data_stores[alias]


def _view(store: DataStore) -> wire.DataStore:
    return wire.DataStore(
        alias=store.alias,
        type=store.kind,
        endpoint=store.endpoint,
        owner=store.owner,
        credentials=_told(store),
        created_at=store.created_at,
        updated_at=store.updated_at,
    )


def _told(of: DataStore | DataStoreSet) -> wire.Credentials:
    """What is no secret of its credentials."""
    if isinstance(of.git, UnsetType):
        return wire.Credentials(s3=wire.S3Region(region=of.region or ""))
    return wire.Credentials(git=git_stores.told(of.git))


def _made(event: Event) -> wire.DataStore:
    body: DataStoreSet = event.body
    return wire.DataStore(
        alias=body.alias,
        type=body.kind,
        endpoint=body.endpoint,
        owner=body.owner,
        credentials=_told(body),
        created_at=event.recorded_at,
        updated_at=event.recorded_at,
    )
