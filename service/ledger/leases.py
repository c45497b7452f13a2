"""The lease of an engine: one supervisor at a time, told apart by an epoch that only rises.

The lease says who should act; the epoch, checked under the head lock by every command, says whose word
counts. So a supervisor that was stopped past its lease can do no harm when it goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from service.ledger import database
from service.ledger.database import milliseconds, translated
from sql import queries

_SQL = queries("leases")


class Lease(NamedTuple):
    """A lease that is ours. `absent_since` is when a holder before us last looked after the engine's runs, if
    there was one.

    `unfenced`: nobody knows that it is gone. It may have been stopped, and go on where it stood.
    """

    engine: str
    holder: str
    epoch: int
    absent_since: datetime | None
    unfenced: bool = False


class Held(NamedTuple):
    """An engine's lease as anybody may see it: whether it stands, and when its holder was last seen."""

    engine: str
    held: bool
    seen_s: float


class Database(NamedTuple):
    """Which database a ledger lies in: one made from another's dump or as its copy has another `id`. Only a
    copy of all files of a server has the same; `place`, where they lie, tells it apart, if it is known."""

    id: str
    place: str = ""


async def database_of(source: Any) -> Database:
    """Only reads."""
    with translated():
        record = await source.fetchrow(_SQL.database)
        server = await source.fetchval(_SQL.server) if record["server_is_told"] else "-"
    return Database(f"{server}/{record['number']}", record["place"] or "")


async def held(source: Any) -> list[Held]:
    """Every lease that ever was taken, one an engine. Only reads."""
    with translated():
        return [Held(*record) for record in await source.fetch(_SQL.all)]


def nobody_knows(_: str) -> bool:
    """Of every holder, that it may be there still."""
    return False


async def take(
    source: Any, engine: str, holder: str, ttl_s: float, *, gone: Callable[[str], bool] = nobody_knows
) -> Lease | None:
    """Take the lease when it is free or over; None otherwise.

    `gone`: whether the holder of this name is known to be gone; then its lease is taken at once. It is asked
    with the lease's row in hand, so that nobody else has taken it since. `source` is a connection.
    """
    with translated():
        async with source.transaction():
            await source.execute(_SQL.bound, milliseconds(database.IDLE_IN_TRANSACTION_S))
            before = await source.fetchrow(_SQL.look, engine)
            is_gone = before is not None and gone(before["holder"])
            epoch = await source.fetchval(_SQL.take, engine, holder, ttl_s, is_gone)
    if epoch is None:
        return None
    unfenced = before is not None and not before["released"] and not is_gone
    return Lease(engine, holder, epoch, before["renewed_at"] if before else None, unfenced)


async def renew(source: Any, lease: Lease, ttl_s: float, *, seen: bool = True) -> bool:
    """Hold on to it; False when it is no longer ours.

    `seen`: its runs are looked after. Who is still taking them over says so once that is done: if it is cut
    off before, the next one has the `absent_since` that it had.
    """
    with translated():
        of = (lease.engine, lease.holder, lease.epoch)
        return (await source.fetchval(_SQL.renew, *of, ttl_s, seen)) is not None


async def release(source: Any, lease: Lease) -> None:
    """Give it back at once, so that the next one need not wait."""
    with translated():
        await source.execute(_SQL.release, lease.engine, lease.holder, lease.epoch)
