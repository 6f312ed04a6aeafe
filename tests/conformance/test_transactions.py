"""What a transaction does to the ledger, and what it sees of it."""

import asyncio
import secrets

import pytest
from hlf.errors import EndorseError, validation_name
from hlf.gateway import Gateway
from hlf.identity import SigningIdentity
from support.transactions import Client


@pytest.fixture
def client(gateway: Gateway, somebody: SigningIdentity) -> Client:
    return Client(gateway, somebody)


@pytest.fixture
def client_b(gateway_b: Gateway, somebody: SigningIdentity) -> Client:
    """The same person at the other hospital's gateway."""
    return Client(gateway_b, somebody)


@pytest.fixture
def key() -> str:
    return f"k-{secrets.token_hex(6)}"


async def test_a_committed_value_is_read_at_every_hospital(client: Client, client_b: Client, key: str) -> None:
    status = await client.submit("put", key, "value")
    assert await client.evaluate("get", key) == "value"
    assert (await client_b.status(status.transaction_id)).block_number == status.block_number
    assert await client_b.evaluate("get", key, targets=["HospitalB"]) == "value"


async def test_an_endorsed_transaction_changes_nothing_until_it_is_submitted(client: Client, key: str) -> None:
    await client.endorse("put", key, "value")
    assert await client.json("get", key) is None


async def test_a_transaction_does_not_see_its_own_writes(client: Client, key: str) -> None:
    await client.submit("put", key, "old")
    assert await client.evaluate("read_own_write", key) == "old"


async def test_two_transactions_that_read_the_same_version_conflict(client: Client, key: str) -> None:
    first, second = [await client.endorse("increment", key) for _ in range(2)]
    assert (await client.commit(first)).validation_code == 0
    assert validation_name((await client.commit(second)).validation_code) == "MVCC_READ_CONFLICT"
    assert await client.evaluate("get", key) == "1"


async def test_of_many_increments_in_the_same_blocks_only_those_that_fit_count(client: Client, key: str) -> None:
    endorsed = await asyncio.gather(*(client.endorse("increment", key) for _ in range(12)))
    codes = [status.validation_code for status in await asyncio.gather(*(client.commit(one) for one in endorsed))]
    assert codes.count(0) == 1
    assert {validation_name(code) for code in codes} == {"VALID", "MVCC_READ_CONFLICT"}


async def test_a_key_that_appears_in_a_range_read_is_a_phantom(client: Client, key: str) -> None:
    await client.submit("put", f"{key}-a", "1")
    ranged = await client.endorse("range_then_put", key, f"{key}~", f"sum-{key}")
    await client.submit("put", f"{key}-b", "2")
    assert validation_name((await client.commit(ranged)).validation_code) == "PHANTOM_READ_CONFLICT"
    assert await client.json("get", f"sum-{key}") is None


async def test_a_key_that_vanishes_from_a_range_read_is_a_phantom_too(client: Client, key: str) -> None:
    await client.submit("put", f"{key}-a", "1", f"{key}-b", "2")
    ranged = await client.endorse("range_then_put", key, f"{key}~", f"sum-{key}")
    await client.submit("delete", f"{key}-b")
    assert validation_name((await client.commit(ranged)).validation_code) == "PHANTOM_READ_CONFLICT"


async def test_an_unchanged_range_commits(client: Client, key: str) -> None:
    await client.submit("put", f"{key}-a", "1", f"{key}-b", "2")
    await client.submit("range_then_put", key, f"{key}~", f"sum-{key}")
    assert await client.evaluate("get", f"sum-{key}") == "2"


async def test_a_transaction_is_committed_once(client: Client, key: str) -> None:
    transaction = await client.endorse("put", key, "value")
    status = await client.commit(transaction)
    await transaction.submit()
    after = await client.submit("put", f"{key}-after", "x")
    assert after.block_number > status.block_number
    assert (await client.status(transaction.transaction_id)).block_number == status.block_number


async def test_a_proposal_whose_transaction_is_committed_is_refused(client: Client, key: str) -> None:
    contract = client.gateway.contract(client.signer, client.channel, client.chaincode)
    proposal = contract.propose("put", key, "value", endorsing_organizations=["HospitalA", "HospitalB"])
    await client.commit(await proposal.endorse())
    with pytest.raises(EndorseError) as caught:
        await proposal.endorse()
    assert f"duplicate transaction found [{proposal.transaction_id}]" in caught.value.details[0].message


async def test_ranges_longer_than_a_message_come_whole_and_in_order(client: Client, key: str) -> None:
    pairs = [text for number in range(250) for text in (f"{key}-{number:03}", str(number))]
    await client.submit("put", *pairs)
    found = await client.json("range", key, f"{key}~")
    assert found == [[f"{key}-{number:03}", str(number)] for number in range(250)]


async def test_pages_follow_each_other_by_their_bookmarks(client: Client, key: str) -> None:
    await client.submit("put", *[text for number in range(5) for text in (f"{key}-{number}", "v")])
    first = await client.json("page", key, f"{key}~", "2", "")
    second = await client.json("page", key, f"{key}~", "2", first["bookmark"])
    third = await client.json("page", key, f"{key}~", "2", second["bookmark"])
    assert first["keys"] + second["keys"] + third["keys"] == [f"{key}-{number}" for number in range(5)]
    assert [len(page["keys"]) for page in (first, second, third)] == [2, 2, 1]
    assert third["bookmark"] == ""


async def test_the_history_of_a_key_tells_every_value_newest_first(client: Client, key: str) -> None:
    await client.submit("put", key, "one")
    await client.submit("put", key, "two")
    await client.submit("delete", key)
    assert await client.json("history", key) == [["", True], ["two", False], ["one", False]]


async def test_many_keys_are_read_at_once(client: Client, key: str) -> None:
    await client.submit("put", f"{key}-1", "a", f"{key}-3", "c")
    assert await client.json("get_many", f"{key}-1", f"{key}-2", f"{key}-3") == ["a", None, "c"]


async def test_values_of_megabytes_pass(client: Client, key: str) -> None:
    value = "x" * 3_000_000
    await client.submit("put", key, value)
    assert await client.evaluate("get", key) == value


async def test_many_clients_at_once_lose_and_double_nothing(client: Client, key: str) -> None:
    statuses = await asyncio.gather(*(client.submit("put", f"{key}-{number:02}", "v") for number in range(60)))
    assert len({status.transaction_id for status in statuses}) == 60
    assert len(await client.json("range", key, f"{key}~")) == 60


async def test_chaincode_calls_chaincode_and_system_chaincodes_refuse_to_be_called(client: Client) -> None:
    answer = await client.json("call", "qscc", "", "GetChainInfo", "care")
    assert answer["status"] == 500
    assert "Rejecting invoke of QSCC from another chaincode" in answer["message"]
    error = await client.refusal("call", "nothing", "", "get", "k")
    assert error.message.endswith("failed to get chaincode container info for nothing: chaincode nothing not found")
