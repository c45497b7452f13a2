"""What the first run makes, when it is cut off, and when several are the first at once."""

from __future__ import annotations

import asyncio
import stat
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from service.config import Settings, read_settings
from service.config.stores import S3Access
from service.domain import commands as cmd
from service.domain.flavors import Catalogue
from service.errors import Unavailable
from service.ledger.commit import Receipt
from service.ledger.ledger import Ledger
from service.ledger.migrate import migrate
from service.local import first_run
from tests.conftest import MASTER
from tests.support import databases


def settings_in(state: Path) -> Settings:
    state.mkdir(exist_ok=True)
    return read_settings({}, state_dir=state)


def store(port: int) -> S3Access:
    return S3Access(f"http://127.0.0.1:{port}", f"access{port}", f"secret{port}", "us-east-1")


async def check(ledger: Ledger, token: str, *, tokens: int) -> None:
    """Everything is there, and the token is an administrator's."""
    project = await ledger.project(first_run.PROJECT)
    assert project is not None and first_run.ALIAS in project.data_stores
    known = await ledger.token_by_hash(sha256(token.encode()).hexdigest())
    assert known is not None and (known.project, known.role, known.revoked) == (
        first_run.PROJECT,
        "administrator",
        False,
    )
    assert len(await ledger.tokens(first_run.PROJECT)) == tokens
    book, now = await ledger.prices(), await ledger.now()
    assert all(book.price(flavor.id, now) for flavor in settings_in(Path("/")).catalogue.flavors)


async def test_several_first_runs_on_one_empty_database_all_come_up(parts: None, tmp_path: Path) -> None:
    async def first(url: str, number: int) -> str:
        await migrate(url)
        async with Ledger.open(url, MASTER, readers=2) as ledger:
            return await first_run.prepare(ledger, settings_in(tmp_path / str(number)), store(9000 + number))

    async with databases.a_database() as url:
        tokens = await asyncio.gather(*(first(url, number) for number in range(4)))
        assert len(set(tokens)) == 4
        async with Ledger.open(url, MASTER, readers=2) as ledger:
            for token in tokens:
                await check(ledger, token, tokens=4)


@pytest.mark.parametrize("recorded", range(4))
@pytest.mark.parametrize("told", [True, False], ids=["after", "before"])
async def test_a_first_run_that_is_cut_off_is_made_whole_by_the_next(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: int, told: bool
) -> None:
    """Cut off before or after each of the four commands: the project, the prices, the store, the token."""
    submit, count = ledger.submit, 0

    async def cut_off(*args: object, **kwargs: object) -> Receipt:
        nonlocal count
        count += 1
        if count > recorded and not told:
            raise Unavailable("cut off")
        receipt = await submit(*args, **kwargs)  # type: ignore[arg-type]
        if count > recorded:
            raise Unavailable("cut off")
        return receipt

    with monkeypatch.context() as patched:
        patched.setattr(ledger, "submit", cut_off)
        with pytest.raises(Unavailable, match="cut off"):
            await first_run.prepare(ledger, settings_in(tmp_path), store(9000))
    token = await first_run.prepare(ledger, settings_in(tmp_path), store(9000))
    await check(ledger, token, tokens=1)
    before = (await ledger.head()).position
    assert await first_run.prepare(ledger, settings_in(tmp_path), store(9000)) == token
    assert (await ledger.head()).position == before, "there is nothing left to make"
    assert stat.S_IMODE((tmp_path / "admin.token").stat().st_mode) == 0o600


async def test_a_token_that_was_revoked_or_is_no_token_of_ours_is_not_used_again(
    ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "admin.token").write_text("guess me")
    first = await first_run.prepare(ledger, settings_in(tmp_path), None)
    assert first != "guess me"
    known = await ledger.token_by_hash(sha256(first.encode()).hexdigest())
    assert known is not None
    await ledger.submit(cmd.RevokeToken(project=first_run.PROJECT, token_id=known.id), actor="system:test")
    second = await first_run.prepare(ledger, settings_in(tmp_path), None)
    assert second != first and (tmp_path / "admin.token").read_text() == second


async def test_a_start_leaves_alone_what_was_ordered_and_sets_what_is_new(
    parts: None, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path)
    cpu, gpu = (flavor.id for flavor in settings.catalogue.flavors)

    async def lists() -> list[tuple[str, dict[str, Decimal]]]:
        await first_run.prepare(ledger, settings, store(9000))
        return [(entry.source, entry.prices) for entry in (await ledger.prices()).entries]

    async with databases.a_database() as url:
        await migrate(url)
        async with Ledger.open(url, MASTER, readers=2) as ledger:
            first = await lists()
            assert first == [("catalogue", {cpu: Decimal("0.03"), gpu: Decimal("1.93")})]
            ordered = cmd.SetPrices(prices={cpu: Decimal(9)}, currency="EUR", source="order")
            await ledger.submit(ordered, actor="test")
            before = [*first, ("order", {cpu: Decimal(9)})]
            assert await lists() == before
            dearer = msgspec.structs.replace(settings.catalogue.flavors[1], hourly_price=Decimal(2))
            catalogue = Catalogue((settings.catalogue.flavors[0], dearer))
            settings = msgspec.structs.replace(settings, catalogue=catalogue)
            assert await lists() == [*before, ("catalogue", {gpu: Decimal(2)})]
            book, now = await ledger.prices(), await ledger.now()
            assert book.price(cpu, now) == (Decimal(9), "EUR")


async def test_a_store_whose_keys_were_erased_is_set_again(parts: None, tmp_path: Path) -> None:
    """What the service was given it still has: only what users gave is gone."""
    async with databases.a_database() as url:
        await migrate(url)
        async with Ledger.open(url, MASTER, readers=2) as ledger:
            await first_run.prepare(ledger, settings_in(tmp_path), store(9000))
            gone = await ledger.keys.ids_of_project(first_run.PROJECT)
            await ledger.submit(cmd.EraseProject(project=first_run.PROJECT, key_ids=gone), actor="test")
            await ledger.keys.destroy_told()
            await first_run.prepare(ledger, settings_in(tmp_path), store(9000))
            project = await ledger.project(first_run.PROJECT)
            pair = project.data_stores[first_run.ALIAS].key_pair if project else None
            assert pair is not None
            assert await ledger.open_secret(pair[1]) == "secret9000"
