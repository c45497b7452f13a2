"""Which addresses something of a user's naming may be fetched from, and finding them by name.

A name is resolved once, every address of it is checked, and whoever connects gets these addresses and not
the name: a second look-up could answer otherwise.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias

from service.domain.shown import shown
from service.errors import FetchRefused, Unavailable
from service.outward import names

RESOLVE_S = 30.0

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network
Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
"""Addresses of a host, as text. Raises OSError, UnicodeError and Unavailable."""

_PUBLIC_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
#: Not public, though Python's own lists (of the IANA's registries) do not say so of all of each.
_BARRED = tuple(
    ip_network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments; a cloud's metadata lies there
        "192.88.99.0/24",  # relays of 6to4
        "168.63.129.16/32",  # a cloud's host agent, under a public address
        "3fff::/20",  # documentation
    )
)


#: Where a yard's own servers are: this machine, and private networks.
OWN = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fd00::/8")
#: Where clouds tell a machine its secrets: nearly all of them, AWS's and Google's of IPv6, Alibaba's, Azure's
#: and Oracle's.
METADATA: tuple[Network, ...] = tuple(
    map(
        ip_network,
        (
            *("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "fd20:ce::/64"),
            *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),
        ),
    )
)


@lru_cache(maxsize=32)
def without_metadata(networks: tuple[str, ...]) -> tuple[Network, ...]:
    """The networks, without the addresses where clouds tell a machine its secrets. Raises ValueError."""
    left: list[Any] = list(map(ip_network, networks))
    for barred in METADATA:
        left = [part for whole in left for part in _around(whole, barred)]
    return tuple(left)


def _around(whole: Any, barred: Any) -> list[Any]:
    if whole.version != barred.version or not whole.overlaps(barred):
        return [whole]
    return [] if whole.subnet_of(barred) else list(whole.address_exclude(barred))


OWN_NETWORKS = without_metadata(OWN)


class NotPublic(FetchRefused):
    """The host is there, and has an address that must not be connected to: `address`, where it was looked
    up."""

    def __init__(self, message: str, address: str = "") -> None:
        super().__init__(message)
        self.address = address


async def checked(
    host: str, port: int, allow: tuple[Network, ...], resolve: Resolve = names.resolve
) -> list[str]:
    """The addresses of `host`, all of which may be connected to. One look-up.

    Raises FetchRefused when any of them must not be, or the host does not exist, and Unavailable.
    """
    try:
        async with asyncio.timeout(RESOLVE_S):
            found = await resolve(host, port)
    except TimeoutError:
        raise Unavailable(f"the address of {host} could not be found in time") from None
    except (OSError, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno != socket.EAI_NONAME:
            raise Unavailable(f"the address of {host} could not be found ({error.strerror})") from None
        raise FetchRefused(f"there is no host {shown(host)}") from None
    for text in found:
        if not may_connect(text, allow):
            said = f"{shown(host)} has the address {shown(text)}, which is not a public one"
            raise NotPublic(said, text)
    if not found:
        raise FetchRefused(f"{shown(host)} has no address")
    return found


def may_connect(text: str, allow: tuple[Network, ...] = ()) -> bool:
    """Whether an address is public, in every guise of it, or lies in one of the networks `allow`."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return _is_within(address, allow) or all(_is_public(each) for each in _carried(address))


def is_metadata(text: str) -> bool:
    """Whether clouds tell a machine its secrets at an address."""
    return is_within(text, METADATA)


def is_within(text: str, allow: tuple[Network, ...]) -> bool:
    """Whether an address lies in one of the networks `allow`, in any guise of it."""
    try:
        return _is_within(ip_address(text), allow)
    except ValueError:
        return False


def _is_within(address: Address, allow: tuple[Network, ...]) -> bool:
    inner = _carried(address)
    return any(each.version == network.version and each in network for each in inner for network in allow)


def _carried(address: Address) -> list[Address]:
    """The address itself, or the IPv4 addresses that it stands for; these alone when it is but a guise."""
    if isinstance(address, IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _NAT64:
        return [IPv4Address(int(address) & 0xFFFF_FFFF)]
    hidden: list[Address] = [address]
    if address.sixtofour is not None:
        hidden.append(address.sixtofour)
    if address.teredo is not None:
        hidden.extend(address.teredo)
    return hidden


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and (address not in _PUBLIC_V6 or address.scope_id is not None):
        return False
    if any(address.version == network.version and address in network for network in _BARRED):
        return False
    return address.is_global and not (
        address.is_multicast
        or address.is_reserved
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
    )
