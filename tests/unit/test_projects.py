"""What a project owns, and the price book: quotas, tokens, data stores, prices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.decide_project import MOST_STORES
from service.domain.quota import Quota
from service.errors import Conflict, Invalid, NotFound, QuotaExceeded
from tests.support.jobs import PRICES, PROJECT, SEALED, prices_set, project_created
from tests.support.specification import Specification, bare, given


def create(
    name: Any = PROJECT, cpu: int = 10, gpu: int = 4, token: cmd.FirstToken | None = None
) -> cmd.CreateProject:
    return cmd.CreateProject(project=name, name="Vision", cpu=cpu, gpu=gpu, token=token)


def test_creating_a_project() -> None:
    bare().when(create()).then(project_created())
    given().when(create()).refused(Conflict, "project vision exists already")


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a b", "a\n", "a\0", "ä", "a" * 64, None])
def test_names_that_no_project_has(name: str | None) -> None:
    bare().when(create(name)).refused(Invalid, "lower-case letters, digits and '-'")


@pytest.mark.parametrize(("cpu", "gpu", "field"), [(-1, 0, "cpu: -1"), (0, 1_000_001, "gpu: 1000001")])
def test_quotas_that_cannot_be(cpu: int, gpu: int, field: str) -> None:
    bare().when(create(cpu=cpu, gpu=gpu)).refused(Invalid, field)
    given().when(cmd.SetQuota(project=PROJECT, cpu=cpu, gpu=gpu)).refused(Invalid, field)


def test_setting_a_quota() -> None:
    order = cmd.SetQuota(project=PROJECT, cpu=1, gpu=2)
    given().when(order).then(ev.QuotaSet(cpu=1, gpu=2))
    bare().when(order).refused(NotFound, "there is no project vision")
    given().when(cmd.SetQuota(project=PROJECT, gpu=9)).then(ev.QuotaSet(cpu=10, gpu=9))


def test_a_project_and_its_first_token_come_together_or_not_at_all() -> None:
    order = create(token=cmd.FirstToken("t1", "0a" * 32))
    made = (
        bare()
        .when(order)
        .then(
            project_created(),
            ev.TokenCreated(token_id="t1", name="administrator", role="administrator", sha256="0a" * 32),
        )
    )
    made.when(order).refused(Conflict, "project vision exists already")


def test_quota_counts_each_kind() -> None:
    quota = Quota(project=PROJECT, cpu=4, gpu=2).changed("cpu", 3).changed("gpu", 2).changed("cpu", -1)
    assert (quota.used("cpu"), quota.used("gpu")) == (2, 2)
    assert [quota.admits("cpu", units) for units in (1, 2, 3)] == [True, True, False]
    quota.require("cpu", 2)
    with pytest.raises(QuotaExceeded, match=r"resources\.gpu: 1 asked, .* uses 2 of its quota of 2 GPU"):
        quota.require("gpu", 1)


def test_a_lowered_quota_takes_nothing_back() -> None:
    quota = Quota(project=PROJECT, cpu=0, cpu_used=3)
    assert not quota.admits("cpu", 1)
    assert quota.changed("cpu", -3).cpu_used == 0


# -- tokens -----------------------------------------------------------------------------------------


def token(**changed: Any) -> cmd.CreateToken:
    fields: dict[str, Any] = {
        "project": PROJECT,
        "token_id": "t1",
        "name": "ci",
        "role": "ai_training_read",
        "sha256": "0a" * 32,
    }
    return cmd.CreateToken(**(fields | changed))


CREATED = ev.TokenCreated(token_id="t1", name="ci", role="ai_training_read", sha256="0a" * 32)


def test_a_token_is_made_renewed_and_revoked_once() -> None:
    made = given().when(token()).then(CREATED)
    renewed = made.when(token(sha256="0b" * 32))
    assert renewed.decisions[0].body != CREATED
    revoke = cmd.RevokeToken(project=PROJECT, token_id="t1")
    revoked = made.when(revoke)
    over = revoked.then(ev.TokenRevoked(token_id="t1"))
    over.when(revoke).then()
    over.when(token(sha256="0b" * 32)).refused(Conflict, "token t1 was revoked")


def test_tokens_that_are_refused() -> None:
    given().when(token(role="root")).refused(Invalid, "role: 'root'")
    for name in ("", "a\nb", "x" * 256):
        given().when(token(name=name)).refused(Invalid, "1 to 255 characters")
    bare().when(token()).refused(NotFound)


def test_a_token_of_another_project_is_out_of_reach() -> None:
    events = given(CREATED).events
    audio = replace(events[0], project="audio", position=len(events) + 1)
    before = Specification([*events, audio])
    before.when(token(project="audio")).refused(Conflict, "token t1 exists already")
    before.when(cmd.RevokeToken(project="audio", token_id="t1")).refused(NotFound)


# -- data stores ------------------------------------------------------------------------------------


def store(**changed: Any) -> cmd.SetDataStore:
    fields: dict[str, Any] = {
        "project": PROJECT,
        "alias": "s3",
        "endpoint": "https://s3.example.org",
        "region": "gra",
        "access_key": SEALED,
        "secret_key": SEALED,
    }
    return cmd.SetDataStore(**(fields | changed))


def test_data_stores_are_made_replaced_and_removed() -> None:
    made = given().when(store()).after
    made.when(store()).refused(Conflict, "alias: data store s3 exists already")
    given().when(store(replace=True)).refused(NotFound, "there is no data store s3")
    replaced = made.when(store(replace=True, region="rbx"))
    assert replaced.refusal is None
    remove = cmd.RemoveDataStore(project=PROJECT, alias="s3")
    removed = replaced.after.when(remove).then(ev.DataStoreRemoved(alias="s3"))
    removed.when(remove).refused(NotFound, "there is no data store s3")


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"alias": "a/b"}, "alias: 'a/b'"),
        ({"alias": ""}, "alias: ''"),
        ({"endpoint": "ftp://x"}, "endpoint: 'ftp://x'"),
        ({"endpoint": "file:///etc"}, "endpoint"),
    ],
)
def test_data_stores_that_are_refused(changed: dict[str, Any], text: str) -> None:
    given().when(store(**changed)).refused(Invalid, text)


def test_a_project_has_so_many_data_stores() -> None:
    """They all lie in its one row. One that is there is replaced all the same."""
    of: dict[str, Any] = {"kind": "s3", "endpoint": "https://s3.example.org", "region": "gra"}
    of |= {"access_key": SEALED, "secret_key": SEALED}
    full = given(*(ev.DataStoreSet(alias=f"a{number}", **of) for number in range(MOST_STORES)))
    full.when(store()).refused(QuotaExceeded, "the project has 1000 data stores, and may have no more")
    full.when(store(alias="a7")).refused(Conflict)
    assert full.when(store(alias="a7", region="rbx", replace=True)).refusal is None
    gone = full.when(cmd.RemoveDataStore(project=PROJECT, alias="a7")).after
    assert gone.when(store()).refusal is None


# -- prices -----------------------------------------------------------------------------------------


def test_prices_are_in_force_from_now_unless_said_otherwise() -> None:
    before = given()
    now = before.next_at
    order = cmd.SetPrices(prices=PRICES, currency="EUR")
    before.when(order).then(ev.PricesSet(prices=PRICES, valid_from=now))
    later = datetime(2027, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    dated = cmd.SetPrices(prices=PRICES, currency="EUR", valid_from=later)
    before.when(dated).then(ev.PricesSet(prices=PRICES, valid_from=later))
    assert prices_set().valid_from.tzinfo is UTC


@pytest.mark.parametrize("price", ["-0.01", "NaN", "sNaN", "Infinity", "1000000.01", "1E+999999"])
def test_prices_that_are_refused(price: str) -> None:
    order = cmd.SetPrices(prices={"ai1-1-cpu": Decimal(price)}, currency="EUR")
    given().when(order).refused(Invalid, "prices.ai1-1-cpu")


def test_a_price_list_says_something_and_from_when() -> None:
    given().when(cmd.SetPrices(prices={}, currency="EUR")).refused(Invalid, "at least one flavor")
    # Compared with an aware time it would break every later look into the book.
    naive = cmd.SetPrices(prices=PRICES, currency="EUR", valid_from=datetime(2027, 1, 1))  # noqa: DTZ001
    given().when(naive).refused(Invalid, "validFrom")
