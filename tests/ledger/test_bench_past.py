"""The benchmarks' ledger with a long past is one that holds, and whose folds say what happened."""

from __future__ import annotations

from service.ledger import database as db
from service.ledger import rebuild
from service.ledger.verify import verify
from tests.bench import past, yard


async def test_the_made_past_verifies_and_rebuilds() -> None:
    async with yard.database() as url:
        async with yard.ledger(url):
            pass
        last = await past.made(url, 60)
        connection = await db.connect(url, admin=True)
        try:
            assert (await verify(connection)).events == last >= 60
            (billing,) = await rebuild.rebuild(connection, ["billing"], lambda _text: None)
            assert billing.rows == (last - 2) // 6
            (again,) = await rebuild.verify(connection, ["billing"], lambda _text: None)
            assert again.differences == ()
        finally:
            await db.close(connection)
