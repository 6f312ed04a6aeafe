"""Official Fabric software for Node: its gateway client on both networks, a chaincode on its shim with devnet."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hlf.certs import private_key_to_pem
from hlf.gateway import Gateway
from hlf.identity import SigningIdentity
from support.devnet import MSP_IDS, Devnet, Network, running_devnet
from support.node import Node, installed_node
from support.transactions import Client

SCENARIO_SECONDS = 60


@pytest.fixture(scope="module")
def node() -> Node:
    return installed_node()


class OfficialClient:
    def __init__(self, node: Node, network: Network, identity: SigningIdentity) -> None:
        self._node = node
        self._connection = network.folder / "node-connection.json"
        endpoint = network.endpoint(identity.msp_id)
        assert endpoint.tls_ca_pem is not None
        connection = {
            "address": endpoint.address,
            "tlsCa": endpoint.tls_ca_pem.decode(),
            "mspId": identity.msp_id,
            "certificate": identity.certificate_pem.decode(),
            "privateKey": private_key_to_pem(identity.private_key).decode(),
            "channel": network.channel,
            "chaincode": network.chaincode,
        }
        self._connection.write_text(json.dumps(connection))

    async def run(self, scenario: str) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            self._node.program,
            str(self._node.folder / "client.js"),
            str(self._connection),
            scenario,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(), SCENARIO_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        assert process.returncode == 0, errors.decode()
        told: dict[str, Any] = json.loads(output)
        return told


@pytest.fixture(scope="module")
def official(node: Node, network: Network, somebody: SigningIdentity) -> OfficialClient:
    return OfficialClient(node, network, somebody)


async def test_the_official_node_client_submits_and_reads_a_commit_status(official: OfficialClient) -> None:
    told = await official.run("submit")
    assert told["result"] == told["read"] == "from node"
    assert (told["code"], told["successful"]) == (0, True)
    assert told["blockNumber"] > 1
    assert len(told["transactionId"]) == 64


async def test_the_official_node_client_lets_the_gateway_choose_the_endorsers(official: OfficialClient) -> None:
    assert await official.run("planned") == {"result": "by the gateway", "read": "by the gateway"}


async def test_the_official_node_client_signs_off_line(official: OfficialClient) -> None:
    told = await official.run("offline")
    assert told["code"] == 0


async def test_the_official_node_client_receives_replays_and_resumes_chaincode_events(official: OfficialClient) -> None:
    told = await official.run("events")
    expected = [
        {"name": name, "payload": f"payload {name}", "transactionId": transaction, "blockNumber": block}
        for name, transaction, block in zip(("one", "two"), told["commits"], told["blockNumbers"], strict=True)
    ]
    assert told["live"] == expected
    assert told["replayed"] == expected
    assert told["resumed"] == expected[1:]


async def test_the_official_node_client_reads_blocks_filtered_full_and_with_private_data(
    official: OfficialClient,
) -> None:
    told = await official.run("blocks")
    assert told["full"] == told["filtered"] == [0, 1]
    assert told["channel"] == "care"
    assert told["privateSets"] == [[0, [["_implicit_org_HospitalA"]]]]


async def test_the_official_node_client_understands_every_error(official: OfficialClient) -> None:
    told = await official.run("errors")
    assert told["evaluate"]["code"] == "UNKNOWN"
    assert told["evaluate"]["details"] == [
        {"mspId": "HospitalA", "message": "chaincode response 404, NOT_THERE: nothing"}
    ]
    assert (told["endorse"]["name"], told["endorse"]["code"]) == ("EndorseError", "ABORTED")
    assert told["endorse"]["details"] == [{"mspId": "HospitalA", "message": "chaincode response 409, CONFLICT: no"}]
    assert told["unknownOrganization"]["code"] == "UNAVAILABLE"
    assert "failed to find any endorsing peers for org(s): Nobody" in told["unknownOrganization"]["message"]
    assert told["unknownChaincode"]["code"] == "FAILED_PRECONDITION"
    assert told["unknownChannel"]["code"] == "UNAVAILABLE"


@pytest.fixture(scope="module")
async def with_node_chaincode(node: Node, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A devnet whose two chaincodes are official Node ones, and a client of hospital A."""
    async with AsyncExitStack() as stack:
        devnet = await stack.enter_async_context(
            running_devnet(tmp_path_factory.mktemp("node-chaincode"), chaincodes=())
        )
        for msp_id in MSP_IDS:
            process = await _node_chaincode(node, devnet, msp_id)
            stack.push_async_callback(_ended, process)
            await devnet.wait_for_chaincode(msp_id)
        gateway = await stack.enter_async_context(Gateway([devnet.endpoint("HospitalA")]))
        yield Client(gateway, devnet.member("HospitalA", attributes={"role": "tester"}), devnet.channel, "conformance")


async def _node_chaincode(node: Node, devnet: Devnet, msp_id: str) -> asyncio.subprocess.Process:
    shim = node.folder / "node_modules" / "fabric-shim" / "cli.js"
    address = devnet.members[msp_id].chaincode_address
    log = Path(devnet.folder / f"node-chaincode-{msp_id}.log").open("wb")  # noqa: SIM115  the process keeps it
    with log:
        return await asyncio.create_subprocess_exec(
            node.program,
            str(shim),
            "server",
            f"--chaincode-address={address}",
            "--chaincode-id=conformance:1",
            cwd=node.folder / "chaincode",
            stdout=log,
            stderr=log,
        )


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def test_an_official_node_chaincode_writes_reads_ranges_pages_and_tells_history(
    with_node_chaincode: Client,
) -> None:
    client = with_node_chaincode
    for number in range(5):
        await client.submit("put", f"n{number}", f"v{number}")
    await client.submit("put", "n0", "again")
    await client.submit("del", "n1")
    assert await client.evaluate("get", "n0") == "again"
    assert await client.json("range", "n0", "n9") == [["n0", "again"], ["n2", "v2"], ["n3", "v3"], ["n4", "v4"]]
    assert await client.json("page", "n0", "n9", "2", "") == {"keys": ["n0", "n2"], "bookmark": "n3"}
    assert await client.json("page", "n0", "n9", "2", "n3") == {"keys": ["n3", "n4"], "bookmark": ""}
    assert await client.json("history", "n0") == [["again", False], ["v0", False]]
    assert await client.json("history", "n1") == [["", True], ["v1", False]]


async def test_an_official_node_chaincode_keeps_and_purges_private_data(with_node_chaincode: Client) -> None:
    client, collection = with_node_chaincode, "_implicit_org_HospitalA"
    await client.submit("put_private", collection, "p", transient={"value": b"private"}, endorsers=["HospitalA"])
    assert await client.evaluate("get_private", collection, "p", targets=["HospitalA"]) == "private"
    assert len(await client.evaluate("private_hash", collection, "p", targets=["HospitalB"])) == 64
    await client.submit("purge_private", collection, "p", endorsers=["HospitalA"])
    assert await client.evaluate("get_private", collection, "p", targets=["HospitalA"]) == ""


async def test_an_official_node_chaincode_sees_who_calls_and_its_errors_come_back(with_node_chaincode: Client) -> None:
    assert await with_node_chaincode.json("who") == {"mspId": "HospitalA", "attributes": {"role": "tester"}}
    error = await with_node_chaincode.refusal("refuse", "not today")
    assert error.chaincode_response == (500, "not today")
