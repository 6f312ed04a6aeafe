"""What a chaincode asks of its peer, through hlf's shim: the parts that no other case uses."""

import secrets

import pytest
from hlf.blocks import composite_key
from hlf.deliver import deliver
from hlf.errors import EndorseError
from hlf.gateway import Gateway
from hlf.identity import SigningIdentity
from hlf.policies import parse
from support.devnet import Network
from support.transactions import Client

A, B = "HospitalA", "HospitalB"
COLLECTION = f"_implicit_org_{A}"


@pytest.fixture
def client(gateway: Gateway, somebody: SigningIdentity) -> Client:
    return Client(gateway, somebody)


@pytest.fixture
def kind() -> str:
    """A type of composite keys that no other case has."""
    return f"type-{secrets.token_hex(4)}"


async def test_composite_keys_are_found_by_whole_parts_and_in_no_plain_range(client: Client, kind: str) -> None:
    for parts in (("a",), ("a", "1"), ("a", "2"), ("ab", "1"), ("b", "1")):
        await client.submit("put_composite", kind, *parts)
    await client.submit("put", f"{kind}-plain", "v")
    assert await client.json("partial", kind, "a") == [[kind, "a"], [kind, "a", "1"], [kind, "a", "2"]]
    assert await client.json("partial", kind) == [
        [kind, "a"],
        [kind, "a", "1"],
        [kind, "a", "2"],
        [kind, "ab", "1"],
        [kind, "b", "1"],
    ]
    assert [key for key, _ in await client.json("range", kind, f"{kind}~")] == [f"{kind}-plain"]


async def test_pages_of_composite_keys_follow_each_other(client: Client, kind: str) -> None:
    for number in range(5):
        await client.submit("put_composite", kind, "a", str(number))
    keys, bookmark, sizes = [], "", []
    while True:
        page = await client.json("partial_page", "2", bookmark, kind, "a")
        sizes.append(len(page["keys"]))
        keys += page["keys"]
        bookmark = page["bookmark"]
        if not bookmark:
            break
    assert keys == [[kind, "a", str(number)] for number in range(5)]
    assert sizes == [2, 2, 1]


async def test_private_composite_keys_and_several_private_values_at_once(client: Client, kind: str) -> None:
    for number in range(3):
        value = {"value": f"value {number}".encode()}
        await client.submit("put_composite", kind, "a", str(number), transient=value)
    assert await client.json("private_partial", COLLECTION, kind, "a", targets=[A]) == [
        [[kind, "a", str(number)], f"value {number}"] for number in range(3)
    ]
    wanted = [composite_key(kind, ("a", str(number))) for number in (2, 9, 0)]
    found = await client.json("get_private_many", COLLECTION, *wanted, targets=[A])
    assert found == ["value 2", None, "value 0"]


async def test_a_policy_of_a_key_is_read_back_as_it_was_set(client: Client, kind: str) -> None:
    policy = f"OR('{A}.peer','{B}.peer')"
    await client.submit("put_with_policy", kind, "v", policy)
    assert await client.evaluate("policy_of", kind) == parse(policy).hex()
    assert await client.json("policy_of", f"{kind}-without") is None


async def test_a_policy_of_a_private_key_is_read_back_and_binds(client: Client, kind: str) -> None:
    call, value = ("put_private", COLLECTION, kind), {"value": b"v"}
    policy = f"AND('{A}.peer','{B}.peer')"
    await client.submit("put_private_with_policy", COLLECTION, kind, policy, transient=value)
    assert await client.evaluate("policy_of", COLLECTION, kind, targets=[A]) == parse(policy).hex()
    alone = await client.commit(await client.endorse(*call, transient=value, endorsers=[A]))
    assert alone.validation_name == "ENDORSEMENT_POLICY_FAILURE"
    await client.submit(*call, transient=value)


async def test_a_policy_of_a_private_key_frees_it_from_that_of_its_collection(client: Client, kind: str) -> None:
    call, value = ("put_private", COLLECTION, kind), {"value": b"v"}
    await client.submit("put_private_with_policy", COLLECTION, kind, f"OR('{B}.peer')", transient=value)
    status = await client.commit(await client.endorse(*call, transient=value, endorsers=[B]))
    assert status.validation_name == "VALID"


async def test_a_rich_query_needs_another_database(client: Client) -> None:
    answer = await client.refusal("query", '{"selector":{}}')
    assert "ExecuteQuery not supported for leveldb" in str(answer)


async def test_a_failure_that_nobody_foresaw_fails_alone_and_its_words_go_nowhere(
    client: Client, network: Network, kind: str
) -> None:
    with pytest.raises(EndorseError) as caught:
        await client.endorse("fail", f"secret-{kind}")
    assert "the chaincode failed: RuntimeError" in str(caught.value)
    assert f"secret-{kind}" not in str(caught.value)
    await client.submit("put", kind, f"secret-{kind}")
    logs = [network.folder / f"chaincode-{msp_id}.log" for msp_id in (A, B)]
    assert all(f"secret-{kind}" not in log.read_text() for log in logs)
    assert any("RuntimeError" in log.read_text() for log in logs)


async def test_a_block_tells_who_signed_and_which_policies_were_set(
    client: Client, gateway: Gateway, somebody: SigningIdentity, kind: str
) -> None:
    policy = f"OR('{A}.peer','{B}.peer')"
    status = await client.submit("put_with_policy", kind, "v", policy)
    number = status.block_number
    [block] = [block async for block in deliver(gateway, somebody, "care", start=number, stop=number)]
    [found] = [one for one in block.transactions if one.transaction_id == status.transaction_id]
    assert found.creator.certificate == somebody.identity.certificate
    assert sorted(each.msp_id for each in found.endorsers) == [A, B]
    [written] = found.metadata_writes
    assert (written.key, written.entries) == (kind, (("VALIDATION_PARAMETER", parse(policy)),))
