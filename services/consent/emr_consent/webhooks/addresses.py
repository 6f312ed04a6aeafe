"""Which addresses a webhook may be posted to: public ones, and networks that the deployment allows.

Whoever may set a webhook could otherwise have the service call what only the hospital's own network can reach: its
peers, its databases, a cloud's metadata. Names are resolved here, once, and what was checked is what is connected to.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

RESOLVE_SECONDS = 5.0
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NEVER_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments, of which Oracle's cloud has its metadata at one
        "192.88.99.0/24",  # relays of 6to4
        "168.63.129.16/32",  # Azure's host, which answers each guest for itself
        "2001::/23",  # protocol assignments, of which Teredo carries IPv4 addresses
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4 carries IPv4 addresses
        "3fff::/20",  # documentation
    )
)


class AddressRefused(Exception):
    """None of a host's addresses may be posted to."""


class NameUnknown(Exception):
    """A host's name has no address, or none came in time."""


async def permitted_addresses(host: str, port: int, allowed: Sequence[Network] = ()) -> list[Address]:
    """The addresses of a host that may be connected to. Raises AddressRefused or NameUnknown."""
    found = await _addresses(host, port)
    permitted = [address for address in found if is_permitted(address, allowed)]
    if not permitted:
        raise AddressRefused(host)
    return permitted


def is_permitted(address: Address, allowed: Sequence[Network] = ()) -> bool:
    """Whether an address is a public one, or in one of the allowed networks."""
    meant = _meant(address)
    return any(meant in network for network in allowed) or _is_public(meant)


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for: what is reached in the end."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    if address.is_multicast or not address.is_global or any(address in network for network in _NEVER_PUBLIC):
        return False
    return isinstance(address, ipaddress.IPv4Address) or address in _GLOBAL_UNICAST


async def _addresses(host: str, port: int) -> list[Address]:
    """In the order in which the system prefers them, each once."""
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError) as error:
        raise NameUnknown(host) from error
    return list(dict.fromkeys(_address(str(entry[4][0])) for entry in found))


def _address(text: str) -> Address:
    """A zone says by which interface, which changes nothing of what the address is."""
    return ipaddress.ip_address(text.partition("%")[0])
