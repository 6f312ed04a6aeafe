"""Implicit collections: values for their hospital, hashes for the others, purges for all."""

import hashlib
import secrets

import pytest
from hlf.deliver import deliver
from hlf.gateway import Gateway
from hlf.identity import SigningIdentity
from support.transactions import Client

A, B = "HospitalA", "HospitalB"
COLLECTION = f"_implicit_org_{A}"
VALUE = b"a private value"


@pytest.fixture
def client(gateway: Gateway, somebody: SigningIdentity) -> Client:
    return Client(gateway, somebody)


@pytest.fixture
def client_b(gateway_b: Gateway, somebody: SigningIdentity) -> Client:
    return Client(gateway_b, somebody)


@pytest.fixture
async def key(client: Client, client_b: Client) -> str:
    """Of a private value of hospital A, endorsed by both hospitals and committed at both."""
    name = f"p-{secrets.token_hex(6)}"
    status = await client.submit("put_both", COLLECTION, name, f"public-{name}", transient={"value": VALUE})
    await client_b.status(status.transaction_id)
    return name


async def test_the_member_has_the_value_and_the_other_has_its_hash(client: Client, client_b: Client, key: str) -> None:
    assert await client.evaluate("get_private", COLLECTION, key, targets=[A]) == VALUE.decode()
    digest = hashlib.sha256(VALUE).hexdigest()
    assert await client.evaluate("private_hash", COLLECTION, key, targets=[A]) == digest
    assert await client_b.evaluate("private_hash", COLLECTION, key, targets=[B]) == digest


async def test_the_other_hospitals_peer_has_no_value_to_give(client_b: Client, key: str) -> None:
    error = await client_b.refusal("get_private", COLLECTION, key, targets=[B])
    assert "private data matching public hash version is not available" in str(error)


async def test_private_ranges_are_read_by_the_member(client: Client, key: str) -> None:
    assert await client.json("private_range", COLLECTION, key, f"{key}~", targets=[A]) == [[key, VALUE.decode()]]


async def test_a_deleted_value_is_gone_for_all(client: Client, client_b: Client, key: str) -> None:
    status = await client.submit("delete_private", COLLECTION, key, endorsers=[A])
    await client_b.status(status.transaction_id)
    assert await client.json("get_private", COLLECTION, key, targets=[A]) is None
    assert await client_b.json("private_hash", COLLECTION, key, targets=[B]) is None


async def test_a_purged_value_leaves_only_its_hash_in_blocks(client: Client, client_b: Client, key: str) -> None:
    status = await client.submit("purge_private", COLLECTION, key, endorsers=[A])
    await client_b.status(status.transaction_id)
    assert await client.json("get_private", COLLECTION, key, targets=[A]) is None
    assert await client_b.json("private_hash", COLLECTION, key, targets=[B]) is None
    async for block in deliver(client.gateway, client.signer, client.channel, start=0, stop=status.block_number):
        assert VALUE not in block.raw


async def test_blocks_come_with_the_private_data_of_the_peers_own_hospital_until_it_is_purged(
    client: Client, client_b: Client, key: str
) -> None:
    async def values(one: Client) -> list[bytes | None]:
        blocks = deliver(one.gateway, one.signer, one.channel, start=0, stop=stop, kind="private")
        found = [
            write
            async for block in blocks
            for transaction in block.transactions
            for write in transaction.private_writes
        ]
        return [write.value for write in found if write.key == key and write.collection == COLLECTION]

    stop = (await client.submit("put", f"after-{key}", "x")).block_number
    await client_b.status((await client.submit("put", f"later-{key}", "x")).transaction_id)
    assert await values(client) == [VALUE]
    assert await values(client_b) == []
    await client.submit("purge_private", COLLECTION, key, endorsers=[A])
    assert await values(client) == []


async def test_an_unknown_collection_is_refused(client: Client) -> None:
    error = await client.refusal("get_private", "_implicit_org_Nobody", "k")
    assert "_implicit_org_Nobody" in str(error)
