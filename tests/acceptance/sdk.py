"""OVHcloud's own client, unmodified, asked for each of its operations, both ways: sync and async."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import httpx
from ovhai import AuthenticatedClient

TIMEOUT = httpx.Timeout(30.0)


def operation(path: str) -> ModuleType:
    """A module of the client: one operation."""
    return importlib.import_module(f"ovhai.api.{path}")


def opened(url: str, token: str) -> AuthenticatedClient:
    """A client that takes no status which OVHcloud does not document."""
    return AuthenticatedClient(base_url=url, token=token, raise_on_unexpected_status=True, timeout=TIMEOUT)


@dataclass
class Table:
    """What was called, both ways, and what came of it."""

    rows: dict[str, dict[str, str]] = field(default_factory=dict)

    def note(self, name: str, way: str, outcome: str) -> None:
        known = self.rows.setdefault(name, {})
        if known.get(way, "pass") == "pass":
            known[way] = outcome

    def text(self) -> str:
        width = max(map(len, self.rows), default=0)
        lines = [f"{'operation':{width}}  sync  async"]
        for name, ways in sorted(self.rows.items()):
            lines.append(f"{name:{width}}  {ways.get('sync', '-'):4}  {ways.get('async', '-')}")
        return "\n".join(lines)


class Client:
    """Calls operations of the client in one of the two ways, and notes each in the table."""

    def __init__(self, client: AuthenticatedClient, way: str, table: Table) -> None:
        self.client = client
        self.way = way
        self.table = table

    async def raw(self, path: str, *arguments: Any, **named: Any) -> httpx.Response:
        """The answer as it came: the client drops the text of logs and of commands."""
        kwargs = operation(path)._get_kwargs(*arguments, **named)
        if self.way == "sync":
            return await asyncio.to_thread(self.client.get_httpx_client().request, **kwargs)
        return await self.client.get_async_httpx_client().request(**kwargs)

    async def __call__(self, path: str, *arguments: Any, expect: int = 200, **named: Any) -> Any:
        """The parsed answer. Fails unless the status is the expected one."""
        module, name = operation(path), path.rpartition(".")[2]
        try:
            if self.way == "sync":
                answer = await asyncio.to_thread(
                    module.sync_detailed, *arguments, client=self.client, **named
                )
            else:
                answer = await module.asyncio_detailed(*arguments, client=self.client, **named)
            status = int(answer.status_code)
            assert status == expect, f"{path}: {status}, not {expect}: {answer.content!r}"
        except BaseException as error:
            self.table.note(name, self.way, f"FAIL {type(error).__name__}")
            raise
        self.table.note(name, self.way, "pass")
        return answer.parsed if expect == 200 else answer


def same(model: Any, again: Callable[[dict[str, Any]], Any]) -> None:
    """What the client read, written and read once more, is the same: nothing was lost in its types."""
    assert again(model.to_dict()) == model
