"""Connecting to the addresses that were checked, and to no others, while TLS goes by the host's name."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from aiohttp.abc import AbstractResolver, ResolveResult

from service.outward.addresses import Network, checked


class Pinned(AbstractResolver):
    """Answers the checked addresses, and for their host alone."""

    def __init__(self, host: str, addresses: list[str]) -> None:
        self._host = host
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if host != self._host:
            raise OSError(f"{host} was not looked up")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


class Checked(AbstractResolver):
    """Answers the addresses of any host, when all of them may be connected to.

    `resolve` raises FetchRefused and Unavailable. A host that is an address itself never comes here: see
    `may_connect`.
    """

    def __init__(self, allow: tuple[Network, ...]) -> None:
        self._allow = allow

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return await Pinned(host, await checked(host, port, self._allow)).resolve(host, port, family)

    async def close(self) -> None:
        """Nothing is held."""


def trust(ca: Path | None) -> ssl.SSLContext:
    """The system's authorities, and those in the PEM file `ca`. Reads files."""
    context = ssl.create_default_context()
    if ca is not None:
        context.load_verify_locations(cafile=ca)
    return context
