"""Who may call at all: certificates, signatures, headers; and how a peer says no."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import proposal_pb2
from hlf.crypto import P256_ORDER
from hlf.gateway import Gateway
from hlf.identity import SigningIdentity
from support import raw_calls as raw
from support.devnet import Network, new_member
from support.transactions import Client

UNKNOWN_ORGANIZATION = "creator org unknown, creator is malformed"


@pytest.fixture(scope="module")
async def calls(network: Network) -> AsyncIterator[raw.Calls]:
    async with raw.calls_of(network.endpoint("HospitalA")) as calls:
        yield calls


def high_s(signature: bytes) -> bytes:
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, P256_ORDER - s)


async def denied(calls: raw.Calls, signer: SigningIdentity, signature: bytes | None = None) -> str:
    """What an evaluation of `signer` is told: FAILED_PRECONDITION, from the endorsing peer."""
    proposed = raw.proposal(signer, "get", "k", signature=signature)
    refusal = await raw.refusal_of(calls.gateway.Evaluate(raw.evaluate(proposed)))
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    (detail,) = refusal.details
    assert refusal.message == f"evaluate call to endorser returned error: {detail.message}"
    return detail.message


async def test_a_signature_with_high_s_is_refused(calls: raw.Calls, somebody: SigningIdentity) -> None:
    proposed = raw.proposal(somebody, "get", "k")
    proposed.signature = high_s(proposed.signature)
    refusal = await raw.refusal_of(calls.gateway.Endorse(raw.endorse(proposed)))
    assert refusal.code is grpc.StatusCode.ABORTED
    assert [detail.message for detail in refusal.details] == [
        "error validating proposal: access denied: channel [care] creator org [HospitalA]"
    ]


async def test_a_signature_of_somebody_else_is_refused(
    calls: raw.Calls, network: Network, somebody: SigningIdentity
) -> None:
    signature = network.member("HospitalA").sign(b"something else")
    assert await denied(calls, somebody, signature) == (
        "error validating proposal: access denied: channel [care] creator org [HospitalA]"
    )
    assert await denied(calls, somebody, b"") == "error validating proposal: empty signature bytes"


async def test_an_organization_that_is_not_of_the_channel_is_refused(calls: raw.Calls, tmp_path: Path) -> None:
    stranger = new_member("HospitalX", tmp_path).identity()
    assert UNKNOWN_ORGANIZATION in await denied(calls, stranger)


async def test_a_certificate_of_another_authority_with_the_right_name_is_refused(
    calls: raw.Calls, tmp_path: Path
) -> None:
    impostor = new_member("HospitalA", tmp_path).identity()
    assert UNKNOWN_ORGANIZATION in await denied(calls, impostor)


async def test_a_member_of_another_hospital_cannot_be_claimed(calls: raw.Calls, network: Network) -> None:
    member = network.member("HospitalB")
    claimed = SigningIdentity("HospitalA", member.certificate_pem, member.private_key)
    assert UNKNOWN_ORGANIZATION in await denied(calls, claimed)


async def test_a_certificate_without_a_role_is_refused(calls: raw.Calls, network: Network) -> None:
    assert "creator org [HospitalA]" in await denied(calls, network.member("HospitalA", role=""))


async def test_a_peer_is_no_writer_of_the_channel(calls: raw.Calls, network: Network) -> None:
    message = await denied(calls, network.member("HospitalA", role="peer"))
    assert "check policy on channel [care] with policy [/Channel/Application/Writers]" in message


async def test_an_expired_certificate_is_turned_away_before_the_endorser(calls: raw.Calls, network: Network) -> None:
    now = datetime.now(UTC)
    expired = network.member("HospitalA", now=now - timedelta(days=2), not_after=now - timedelta(days=1))
    proposed = raw.proposal(expired, "get", "k")
    refusal = await raw.refusal_of(calls.gateway.Evaluate(raw.evaluate(proposed, ["HospitalA"])))
    assert refusal.code is grpc.StatusCode.UNAVAILABLE
    assert [detail.message for detail in refusal.details] == ["proposal client identity expired"]
    direct = await raw.refusal_of(calls.endorser.ProcessProposal(proposed))
    assert (direct.code, direct.message) == (grpc.StatusCode.UNKNOWN, "proposal client identity expired")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": common_pb2.ORDERER_TRANSACTION}, "invalid header type ORDERER_TRANSACTION"),
        ({"epoch": 1}, "epoch is non-zero"),
        ({"tx_id": "abc"}, "incorrectly computed txid 'abc' -- expected"),
    ],
)
async def test_headers_that_do_not_fit_are_refused(
    calls: raw.Calls, somebody: SigningIdentity, fields: dict[str, object], message: str
) -> None:
    proposed = raw.proposal(somebody, "get", "k", **fields)  # type: ignore[arg-type]
    refusal = await raw.refusal_of(calls.endorser.ProcessProposal(proposed))
    assert refusal.code is grpc.StatusCode.UNKNOWN
    assert refusal.message.startswith(f"error validating proposal: {message}")


@pytest.mark.parametrize("offset_seconds", [-1000, 1000])
async def test_a_proposal_from_another_time_is_turned_away_before_the_endorser(
    calls: raw.Calls, somebody: SigningIdentity, offset_seconds: float
) -> None:
    proposed = raw.proposal(somebody, "get", "k", timestamp=raw.timestamp(offset_seconds))
    refusal = await raw.refusal_of(calls.endorser.ProcessProposal(proposed))
    assert (refusal.code, refusal.message.partition(" timestamp ")[0]) == (
        grpc.StatusCode.UNKNOWN,
        "request unauthorized due to incorrect",
    )
    refusal = await raw.refusal_of(calls.gateway.Evaluate(raw.evaluate(proposed, ["HospitalA"])))
    assert refusal.code is grpc.StatusCode.UNAVAILABLE


async def test_a_proposal_some_minutes_old_is_endorsed(calls: raw.Calls, somebody: SigningIdentity) -> None:
    proposed = raw.proposal(somebody, "get", "k", timestamp=raw.timestamp(-800))
    answer = await calls.gateway.Evaluate(raw.evaluate(proposed))
    assert answer.result.status == 200


async def test_a_proposal_without_a_time_is_turned_away(calls: raw.Calls, somebody: SigningIdentity) -> None:
    proposed = raw.proposal(somebody, "get", "k", timestamp=None)
    assert (await raw.refusal_of(calls.endorser.ProcessProposal(proposed))).code is grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize(
    ("proposed", "message"),
    [
        (None, "a signed proposal is required"),
        (proposal_pb2.SignedProposal(proposal_bytes=b"\xff"), "error unmarshalling Proposal"),
        (
            proposal_pb2.SignedProposal(proposal_bytes=proposal_pb2.Proposal(header=b"\xff").SerializeToString()),
            "error unmarshalling Header",
        ),
    ],
)
async def test_malformed_proposals_are_invalid_arguments(calls: raw.Calls, proposed: object, message: str) -> None:
    refusal = await raw.refusal_of(calls.gateway.Evaluate(raw.evaluate(proposed)))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.message.startswith(f"failed to unpack transaction proposal: {message}")
    assert (await raw.refusal_of(calls.gateway.Endorse(raw.endorse(proposed)))).code is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_evaluation_needs_a_channel(calls: raw.Calls) -> None:
    nothing = proposal_pb2.Proposal(extension=b"x").SerializeToString()
    proposed = proposal_pb2.SignedProposal(proposal_bytes=nothing)
    refusal = await raw.refusal_of(calls.gateway.Evaluate(raw.evaluate(proposed)))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.message == "failed to unpack transaction proposal: no channel id provided"


async def test_a_transaction_of_an_unknown_chaincode_cannot_be_planned(
    calls: raw.Calls, somebody: SigningIdentity
) -> None:
    nothing = raw.proposal(somebody, "put", "k", "v", chaincode="nothing")
    refusal = await raw.refusal_of(calls.gateway.Endorse(raw.endorse(nothing)))
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.message == (
        "no combination of peers can be derived which satisfy the endorsement policy: "
        "No metadata was found for chaincode nothing in channel care"
    )


async def test_unknown_channels_and_chaincodes_are_told_apart(calls: raw.Calls, somebody: SigningIdentity) -> None:
    elsewhere = raw.proposal(somebody, "get", "k", channel="elsewhere")
    refusal = await raw.refusal_of(calls.gateway.Evaluate(raw.evaluate(elsewhere)))
    assert refusal.code is grpc.StatusCode.UNAVAILABLE
    assert refusal.message.startswith("failed to get config for channel [elsewhere]")
    answer = await calls.endorser.ProcessProposal(elsewhere)
    assert (answer.response.status, answer.response.message) == (500, "channel 'elsewhere' not found")
    nothing = raw.proposal(somebody, "get", "k", chaincode="nothing")
    refusal = await raw.refusal_of(calls.gateway.Evaluate(raw.evaluate(nothing)))
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal.message == "no peers available to evaluate chaincode nothing in channel care"
    answer = await calls.endorser.ProcessProposal(nothing)
    assert answer.response.message == (
        "make sure the chaincode nothing has been successfully defined on channel care and try again: "
        "chaincode nothing not found"
    )


async def test_an_endorser_signs_what_it_simulated_and_tells_nothing_more_of_refusals(
    calls: raw.Calls, somebody: SigningIdentity
) -> None:
    answer = await calls.endorser.ProcessProposal(raw.proposal(somebody, "put", "k", "v"))
    assert (answer.version, answer.response.status) == (1, 200)
    assert answer.endorsement.signature
    refused = await calls.endorser.ProcessProposal(raw.proposal(somebody, "refuse", "404", "NOT_THERE", "nothing"))
    assert (refused.response.status, refused.payload, refused.HasField("endorsement")) == (404, b"", False)
    failed = await calls.endorser.ProcessProposal(raw.proposal(somebody, "refuse", "500", "BROKEN", "badly"))
    assert (failed.response.status, failed.HasField("endorsement")) == (500, False)
    assert failed.payload


@pytest.mark.parametrize(
    ("envelope", "message"),
    [(None, "a prepared transaction is required"), (b"payload", "prepared transaction must be signed")],
)
async def test_only_signed_transactions_can_be_submitted(
    calls: raw.Calls, envelope: bytes | None, message: str
) -> None:
    request = gateway_pb2.SubmitRequest(channel_id="care")
    if envelope is not None:
        request.prepared_transaction.payload = envelope
    refusal = await raw.refusal_of(calls.gateway.Submit(request))
    assert (refusal.code, refusal.message) == (grpc.StatusCode.INVALID_ARGUMENT, message)


async def test_the_orderer_refuses_envelopes_that_their_creator_did_not_sign(
    calls: raw.Calls, gateway: Gateway, somebody: SigningIdentity, network: Network
) -> None:
    transaction = await Client(gateway, somebody).endorse("put", "forged", "v")
    prepared = gateway_pb2.PreparedTransaction.FromString(transaction.bytes).envelope
    prepared.signature = network.member("HospitalA").sign(prepared.payload)
    refusal = await raw.refusal_of(
        calls.gateway.Submit(gateway_pb2.SubmitRequest(channel_id="care", prepared_transaction=prepared))
    )
    assert refusal.code is grpc.StatusCode.ABORTED
    assert refusal.message.startswith("received unsuccessful response from orderer: status=FORBIDDEN")
    assert refusal.details == ()


async def test_a_commit_status_is_for_readers_who_sign(
    calls: raw.Calls, somebody: SigningIdentity, tmp_path: Path
) -> None:
    stranger = new_member("HospitalX", tmp_path).identity()
    forged = raw.commit_status(somebody, "abc")
    forged.signature = b"forged"
    for request in (raw.commit_status(stranger, "abc"), forged, raw.commit_status(somebody, "abc", channel="nowhere")):
        refusal = await raw.refusal_of(calls.gateway.CommitStatus(request))
        assert refusal.code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("request_bytes", "message"),
    [
        (b"", "a commit status request is required"),
        (b"\xff", "invalid status request: "),
        (gateway_pb2.CommitStatusRequest(channel_id="care").SerializeToString(), "no identity provided"),
        (gateway_pb2.CommitStatusRequest(identity=b"x").SerializeToString(), "no channel ID provided"),
        (
            gateway_pb2.CommitStatusRequest(identity=b"x", channel_id="care").SerializeToString(),
            "transaction ID should not be empty",
        ),
    ],
)
async def test_incomplete_commit_status_requests_are_invalid(
    calls: raw.Calls, request_bytes: bytes, message: str
) -> None:
    refusal = await raw.refusal_of(
        calls.gateway.CommitStatus(gateway_pb2.SignedCommitStatusRequest(request=request_bytes))
    )
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.message.startswith(message)


async def test_the_status_of_an_unknown_transaction_is_awaited_until_the_deadline(
    calls: raw.Calls, somebody: SigningIdentity
) -> None:
    refusal = await raw.refusal_of(calls.gateway.CommitStatus(raw.commit_status(somebody, "unknown"), timeout=0.3))
    assert refusal.code is grpc.StatusCode.DEADLINE_EXCEEDED
