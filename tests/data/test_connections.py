"""How a store is connected to: straight, and by as many connections as there is work."""

from __future__ import annotations

import pytest

from service.supervisor.data import Source, Store, StoreAccess
from tests.data.conftest import QUICK
from tests.data.sync import fill, held


@pytest.mark.parametrize("named", ["http_proxy", "HTTP_PROXY", "all_proxy"])
async def test_the_proxy_of_the_environment_is_not_used(
    access: StoreAccess, source: Source, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(named, "http://127.0.0.1:9")
    async with Store.open(access, QUICK) as store:
        await fill(store, source, {"a": b"1"})
        assert await held(store, source) == {"a": b"1"}
        assert (await store.head(source.container, "a")).size == 1
