"""Which addresses a webhook is posted to, and that no other is ever connected to."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Any

import pytest
from emr_consent.webhooks import sending
from emr_consent.webhooks.addresses import AddressRefused, NameUnknown, is_permitted, permitted_addresses
from emr_consent.webhooks.sending import Sender
from hypothesis import given
from hypothesis import strategies as st
from support.webhook_receiver import Answerer, Receiver, endless, hang_up, status

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
PUBLIC = ["8.8.8.8", "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8", "64:ff9b::808:808"]
REFUSED = {
    "this host": ["0.0.0.0", "0.1.2.3", "::"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "::127.0.0.1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.1.1", "fc00::1", "fd12:3456::1", "fec0::1"],
    "mapped private": ["::ffff:10.0.0.1", "::ffff:192.168.1.1", "64:ff9b::a00:1", "64:ff9b:1::a00:1"],
    "link-local": ["169.254.0.1", "fe80::1", "::ffff:169.254.1.1"],
    "metadata": [
        "169.254.169.254", "fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16",
        "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
    ],
    "shared with a carrier's NAT": ["100.64.0.1", "100.127.255.254", "::ffff:100.64.0.1"],
    "several": ["224.0.0.1", "239.255.255.250", "255.255.255.255", "ff02::1"],
    "reserved": ["240.0.0.1", "192.0.0.1", "192.88.99.1", "198.18.0.1", "5f00::1", "100::1", "4000::1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "tunnels to IPv4": ["2002:7f00:1::", "2002:a00:1::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"],
}  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_posted_to(address: str) -> None:
    assert is_permitted(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", [address for kind in REFUSED.values() for address in kind])
def test_no_other_address_is_posted_to(address: str) -> None:
    assert not is_permitted(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_what_an_address_is_does_not_depend_on_how_it_is_written(address: ipaddress.IPv4Address) -> None:
    mapped = ipaddress.IPv6Address((0xFFFF << 32) | int(address))
    translated = ipaddress.IPv6Address((0x64FF9B << 96) | int(address))
    assert is_permitted(address) == is_permitted(mapped) == is_permitted(translated)


def test_a_deployment_may_allow_a_network_and_nothing_beside_it() -> None:
    allowed = (ipaddress.ip_network("10.20.0.0/16"),)
    assert is_permitted(ipaddress.ip_address("10.20.1.1"), allowed)
    assert is_permitted(ipaddress.ip_address("::ffff:10.20.1.1"), allowed)
    assert not is_permitted(ipaddress.ip_address("10.21.1.1"), allowed)


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "localhost", "::1"])
async def test_loopback_is_refused_however_it_is_named(host: str) -> None:
    with pytest.raises(AddressRefused):
        await permitted_addresses(host, 443)


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "..", "no-such-name.invalid"])
async def test_a_name_without_an_address_is_no_address(host: str) -> None:
    with pytest.raises(NameUnknown):
        await permitted_addresses(host, 443)


async def posted(receiver: Receiver, sender: Sender, url: str | None = None) -> str | None:
    async with sender.opened():
        return await sender.post(url or receiver.url, {"webhook-id": "1"}, b"{}")


def names_change(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Each look-up of a name gives the next of the answers; gives the names that were looked up."""
    asked: list[str] = []

    async def getaddrinfo(_: Any, host: str, port: int, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[min(len(asked), len(answers)) - 1], port))]

    monkeypatch.setattr(asyncio.get_running_loop().__class__, "getaddrinfo", getaddrinfo)
    return asked


async def test_what_was_checked_is_what_is_connected_to(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is harmless when it is checked and loopback when it is connected to reaches nothing."""
    asked = names_change(monkeypatch, "127.0.0.2", "127.0.0.1")
    allowed = Sender([ipaddress.ip_network("127.0.0.2/32")], receiver.ca_file)
    assert await posted(receiver, allowed) == "CONNECTION_FAILED"
    assert (asked, receiver.posted) == (["localhost"], [])
    assert await posted(receiver, Sender([ipaddress.ip_network("127.0.0.2/32")], receiver.ca_file)) == "ADDRESS_REFUSED"
    assert receiver.posted == []


def slow(handler: Any) -> None:
    """Answers when the other side has gone."""
    handler.connection.settimeout(30)
    handler.close_connection = True
    handler.connection.recv(1)


ANSWERS: dict[str, tuple[Answerer, str | None]] = {
    "taken": (status(200), None),
    "taken, without content": (status(204), None),
    "accepted, with more than anybody reads": (endless, None),
    "redirected": (status(302, {"Location": "/elsewhere"}), "STATUS_302"),
    "redirected for ever": (status(308, {"Location": "https://127.0.0.1/"}), "STATUS_308"),
    "not modified": (status(304), "STATUS_304"),
    "refused": (status(400), "STATUS_400"),
    "gone": (status(410), "STATUS_410"),
    "broken": (status(500), "STATUS_500"),
    "hung up": (hang_up, "CONNECTION_FAILED"),
    "no answer in time": (slow, "TIMEOUT"),
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_an_answer_counts_by_its_status_and_nothing_is_followed(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    answer, expected = ANSWERS[kind]
    if expected == "TIMEOUT":
        monkeypatch.setattr(sending, "ATTEMPT_SECONDS", 0.5)
    receiver.answers = [answer]
    assert await posted(receiver, Sender(LOOPBACK, receiver.ca_file)) == expected
    assert [one.path for one in receiver.posted] == ["/careledger"]


async def test_a_certificate_must_be_of_a_known_ca_and_for_the_host(receiver: Receiver) -> None:
    assert await posted(receiver, Sender(LOOPBACK)) == "TLS_FAILED"
    by_address = f"https://127.0.0.1:{receiver.port}/"
    assert await posted(receiver, Sender(LOOPBACK, receiver.ca_file), by_address) == "TLS_FAILED"
    assert receiver.posted == []


async def test_the_environments_proxies_are_not_asked(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await posted(receiver, Sender(LOOPBACK, receiver.ca_file)) is None
