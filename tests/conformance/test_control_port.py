"""Devnet's control port: what it says of a section that it cannot use, and that nothing is half done then."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from support.devnet import Devnet, new_member
from support.ports import free_address

C = "HospitalC"


@pytest.fixture
async def control(devnet: Devnet) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{devnet.control_address}", trust_env=False, timeout=20) as http:
        yield http


def section(devnet: Devnet, **peer: Any) -> dict[str, Any]:
    member = devnet.members.get(C) or new_member(C, devnet.folder / C)
    devnet.members[C] = member
    written = devnet.section_of(member)
    return {**written, "chaincodes": {}, "peer": {**written["peer"], **peer}}


async def names(devnet: Devnet) -> set[str]:
    return {one["msp_id"] for one in (await devnet.status())["organizations"]}


async def test_an_organization_is_opened_once_and_another_section_for_it_is_refused(
    devnet: Devnet, control: httpx.AsyncClient
) -> None:
    first, again = [await control.post("/organizations", json=section(devnet)) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 200)
    (opened,) = [one for one in first.json()["organizations"] if one["msp_id"] == C]
    assert (opened["running"], opened["joined"], opened["member"]) == (True, False, False)
    other = await control.post("/organizations", json=section(devnet, listen=free_address()))
    assert (other.status_code, other.json()) == (409, {"error": f"{C} runs with another configuration"})
    assert (await control.delete(f"/organizations/{C}")).status_code == 200
    assert (await control.delete(f"/organizations/{C}")).status_code == 404
    assert C not in await names(devnet)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "blue"}, "colour: Extra inputs are not permitted"),
        ({"msp_id": ""}, "msp_id: String should have at least 1 character"),
        ({"msp_id": "Orderer"}, "msp_id: Orderer is the orderer's"),
        ({"msp_dir": "/nowhere"}, "cacerts holds no certificate"),
    ],
)
async def test_a_section_that_cannot_be_used_is_refused_and_names_why(
    devnet: Devnet, control: httpx.AsyncClient, change: dict[str, Any], message: str
) -> None:
    before = await names(devnet)
    answer = await control.post("/organizations", json={**section(devnet), **change})
    assert answer.status_code == 422
    assert message in answer.json()["error"]
    assert await names(devnet) == before


async def test_a_taken_port_is_named_and_the_organization_can_be_opened_elsewhere(
    devnet: Devnet, control: httpx.AsyncClient
) -> None:
    address = free_address()
    host, _, port = address.rpartition(":")
    server = await asyncio.start_server(lambda reader, writer: None, host, int(port))
    taken = await control.post("/organizations", json=section(devnet, listen=address))
    assert (taken.status_code, taken.json()) == (503, {"error": f"cannot listen on {address}"})
    used = await control.post("/organizations", json=section(devnet, listen=devnet.members["HospitalA"].peer_address))
    assert (used.status_code, used.json()) == (422, {"error": "peer.listen: HospitalA listens there"})
    server.close()
    await server.wait_closed()
    assert C not in await names(devnet)
    assert (await control.post("/organizations", json=section(devnet))).status_code == 201
    assert (await control.delete(f"/organizations/{C}")).status_code == 200
