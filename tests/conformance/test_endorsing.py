"""Who endorses: named by the client or planned by the gateway, alone or all, and what happens when one cannot."""

import secrets

import grpc
import pytest
from hlf.errors import EndorseError, validation_name
from hlf.gateway import Gateway
from hlf.identity import SigningIdentity
from support.transactions import Client

A, B = "HospitalA", "HospitalB"
COLLECTION_A, COLLECTION_B = f"_implicit_org_{A}", f"_implicit_org_{B}"


@pytest.fixture
def client(gateway: Gateway, somebody: SigningIdentity) -> Client:
    return Client(gateway, somebody)


@pytest.fixture
def key() -> str:
    return f"e-{secrets.token_hex(6)}"


async def test_an_endorsement_of_one_hospital_does_not_satisfy_the_policy_of_two(client: Client, key: str) -> None:
    status = await client.commit(await client.endorse("put", key, "v", endorsers=[A]))
    assert validation_name(status.validation_code) == "ENDORSEMENT_POLICY_FAILURE"
    assert await client.json("get", key) is None


async def test_the_gateway_plans_endorsers_that_satisfy_the_policy(client: Client, key: str) -> None:
    await client.submit("put", key, "v", endorsers=[])
    assert await client.evaluate("get", key) == "v"


async def test_a_key_with_a_policy_of_its_own_needs_only_that(client: Client, key: str) -> None:
    await client.submit("put_with_policy", key, "v", f"AND('{A}.peer')")
    await client.submit("put", key, "by A alone", endorsers=[A])
    status = await client.commit(await client.endorse("put", key, "by B alone", endorsers=[B]))
    assert validation_name(status.validation_code) == "ENDORSEMENT_POLICY_FAILURE"
    assert await client.evaluate("get", key) == "by A alone"


async def test_the_gateway_plans_by_the_policies_of_the_keys_that_are_written(client: Client, key: str) -> None:
    await client.submit("put_with_policy", key, "v", f"AND('{A}.peer')")
    await client.submit("put", key, "planned", endorsers=[])
    assert await client.evaluate("get", key) == "planned"


async def test_a_private_write_alone_needs_only_its_own_hospital(client: Client, key: str) -> None:
    transient = {"value": b"private"}
    await client.submit("put_private", COLLECTION_A, key, transient=transient, endorsers=[A])
    status = await client.commit(
        await client.endorse("put_private", COLLECTION_B, key, transient=transient, endorsers=[A])
    )
    assert validation_name(status.validation_code) == "ENDORSEMENT_POLICY_FAILURE"


async def test_the_gateway_plans_a_private_write_by_its_collections_policy(client: Client, key: str) -> None:
    await client.submit("put_private", COLLECTION_A, key, transient={"value": b"private"}, endorsers=[])
    assert await client.evaluate("get_private", COLLECTION_A, key, targets=[A]) == "private"


async def test_the_gateway_does_not_hand_transient_data_to_hospitals_outside_the_collection(
    client: Client, key: str
) -> None:
    with pytest.raises(EndorseError) as caught:
        await client.endorse("put_both", COLLECTION_A, key, key, transient={"value": b"private"}, endorsers=[])
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
    assert (
        "requires endorsement from organisation(s) that are not in the distribution policy of the private data "
        f"collection(s): [{COLLECTION_A}]" in str(caught.value)
    )


async def test_with_named_endorsers_each_of_them_gets_the_transient_data(client: Client, key: str) -> None:
    await client.submit("put_both", COLLECTION_A, key, key, transient={"value": b"private"}, endorsers=[A, B])
    assert await client.evaluate("get_private", COLLECTION_A, key, targets=[A]) == "private"


async def test_an_evaluation_with_transient_data_stays_in_the_gateways_hospital(client: Client) -> None:
    answer = await client.json("who", transient={"secret": b"x"})
    assert answer["transient"] == ["secret"]


async def test_a_chaincodes_refusal_comes_back_from_the_hospital_that_gave_it(client: Client) -> None:
    evaluated = await client.refusal("refuse", "404", "NOT_THERE", "nothing")
    assert evaluated.code is grpc.StatusCode.UNKNOWN
    assert evaluated.message.endswith("chaincode response 404, NOT_THERE: nothing")
    with pytest.raises(EndorseError) as caught:
        await client.endorse("refuse", "403", "NOT_YOU", "no")
    assert caught.value.code is grpc.StatusCode.ABORTED
    assert {(detail.msp_id, detail.message) for detail in caught.value.details} == {
        (name, "chaincode response 403, NOT_YOU: no") for name in (A, B)
    }


async def test_an_unknown_endorser_is_unavailable(client: Client, key: str) -> None:
    with pytest.raises(EndorseError) as caught:
        await client.endorse("put", key, "v", endorsers=[A, "Nobody"])
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details == ()
    assert caught.value.unavailable_organizations == {"Nobody"}


async def test_an_unknown_target_leaves_nobody_to_evaluate(client: Client, key: str) -> None:
    error = await client.refusal("get", key, targets=["Nobody"])
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "no peers available to evaluate chaincode conformance in channel care" in error.message
