"""From a data store as the ledger has it to what reaches it: here its keys are unsealed, and nowhere else."""

from __future__ import annotations

from typing import Protocol

import msgspec

from service.domain.directory import DataStore
from service.domain.gitstores import BasicLogin, GitLogin, SshLogin, read_git_endpoint, read_repository
from service.domain.spec import Place, Sealed
from service.errors import (
    Erased,
    FetchDenied,
    FetchRefused,
    Invalid,
    KeysErased,
    Misconfigured,
    StoreRefused,
)
from service.supervisor.data.git.reach import Remote
from service.supervisor.data.model import StoreAccess


class Opens(Protocol):
    async def open_secret(self, sealed: Sealed) -> str:
        """Raises `Erased`, `Unavailable` or `Misconfigured`."""


async def access_of(ledger: Opens, store: DataStore) -> StoreAccess:
    """Where a store of type s3 is, and its keys. Raises `StoreRefused` for one of another type, `StoreDenied`
    when they were erased."""
    pair = store.key_pair
    if pair is None:
        raise StoreRefused(f"data store {store.alias} is of type {store.kind} and holds no objects")
    try:
        access_key, secret_key = await ledger.open_secret(pair[0]), await ledger.open_secret(pair[1])
    except Erased:
        raise KeysErased(_gone(store)) from None
    return StoreAccess(
        endpoint=store.endpoint, region=store.region or "", access_key=access_key, secret_key=secret_key
    )


def _gone(store: DataStore) -> str:
    return f"the keys of data store {store.alias} were erased; set them again"


async def remote_of(ledger: Opens, store: DataStore, place: Place) -> Remote:
    """The repository that `place` names in a store of type git. Raises `FetchRefused`."""
    if store.kind != "git":
        raise FetchRefused(f"data store {store.alias} is of type {store.kind} and holds no repositories")
    try:
        endpoint = read_git_endpoint("endpoint", store.endpoint)
        repository, ref = read_repository("container", place.container)
    except Invalid as error:
        raise FetchRefused(error.message) from None
    try:
        login = await _login(ledger, store)
    except Erased:
        raise FetchDenied(_gone(store)) from None
    return Remote.of_store(endpoint, repository, ref, login)


async def _login(ledger: Opens, store: DataStore) -> GitLogin | None:
    if isinstance(store.git, msgspec.UnsetType):
        return None
    if store.git.private_key is not None:
        return SshLogin(str(await ledger.open_secret(store.git.private_key)), store.git.host_keys)
    if store.git.basic is None:
        return None
    try:
        text = str(await ledger.open_secret(store.git.basic))
        pair = msgspec.json.decode(text.encode(), type=tuple[str, str])
    except msgspec.MsgspecError:
        raise Misconfigured(f"data store {store.alias}: what was sealed is no login") from None
    return BasicLogin(*pair)
