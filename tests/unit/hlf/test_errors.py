"""The texts are those that official 3.1.5 peers answered."""

import grpc
import pytest
from hlf.errors import (
    EndorseError,
    ErrorDetail,
    EvaluateError,
    HlfError,
    SubmitError,
    TransactionInvalid,
    is_over_limit,
    validation_name,
)
from support.hlf_blocks import new_member
from support.hlf_peer import failing, gateway_to, scripted_peer

ABORTED, UNKNOWN = grpc.StatusCode.ABORTED, grpc.StatusCode.UNKNOWN
NOT_FOUND = ("127.0.0.1:1", "HospitalA", "chaincode response 404, EMR_NOT_FOUND: no such EMR")


async def test_the_details_of_every_peer_are_part_of_the_error() -> None:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        answer = failing(ABORTED, "failed to collect enough", NOT_FOUND, ("127.0.0.1:2", "HospitalB", "other"))
        peer.script["Endorse"] = [answer]
        proposal = gateway.contract(new_member(), "care", "kv").propose("put")
        with pytest.raises(EndorseError) as raised:
            await proposal.endorse()
    error = raised.value
    assert error.code is ABORTED
    assert error.transaction_id == proposal.transaction_id
    assert error.details == (ErrorDetail(*NOT_FOUND), ErrorDetail("127.0.0.1:2", "HospitalB", "other"))
    assert error.chaincode_response == (404, "EMR_NOT_FOUND: no such EMR")
    assert not error.retriable


@pytest.mark.parametrize(
    ("message", "details", "response"),
    [
        ("UNKNOWN: evaluate call to endorser returned error: chaincode response 500, ", (), (500, "")),
        ("UNKNOWN: x", ("chaincode response 409, CONFLICT: a\nb",), (409, "CONFLICT: a\nb")),
        ("ABORTED: x", ("rpc error: code = Unavailable desc = gone", "chaincode response 403, NO: n"), (403, "NO: n")),
        ("ABORTED: x", ("ProposalResponsePayloads do not match",), None),
        ("DEADLINE_EXCEEDED: endorsement timeout expired", (), None),
    ],
)
def test_the_chaincodes_answer(message: str, details: tuple[str, ...], response: tuple[int, str] | None) -> None:
    error = HlfError(message, details=tuple(ErrorDetail("", "HospitalA", detail) for detail in details))
    assert error.chaincode_response == response


@pytest.mark.parametrize(
    ("message", "details", "organizations"),
    [
        ("UNAVAILABLE: failed to find any endorsing peers for org(s): HospitalC", {}, {"HospitalC"}),
        ("UNAVAILABLE: failed to find any endorsing peers for org(s): B, C", {}, {"B", "C"}),
        ("ABORTED: x", {"B": "rpc error: code = Unavailable desc = connection error"}, {"B"}),
        ("ABORTED: x", {"B": "rpc error: code = DeadlineExceeded desc = context deadline exceeded"}, {"B"}),
        (
            "ABORTED: x",
            {
                "B": "error in simulation: failed to execute transaction 1f: could not launch chaincode kv_1:2a: "
                "connection to kv_1:2a failed: error cannot create connection"
            },
            {"B"},
        ),
        ("ABORTED: x", {"B": "error in simulation: failed to execute transaction 1f: timeout expired while "
                             "executing transaction"}, {"B"}),
        ("ABORTED: x", {"B": "error in simulation: failed to execute transaction 1f: chaincode stream terminated"},
         {"B"}),
        ("ABORTED: x", {"A": "chaincode response 404, X: y", "B": "rpc error: code = Unavailable"}, {"B"}),
        ("ABORTED: x", {"B": "ProposalResponsePayloads do not match"}, set()),
        ("UNKNOWN: x", {"B": "chaincode response 500, oh"}, set()),
    ],
)  # fmt: skip
def test_organizations_that_could_not_be_reached(
    message: str, details: dict[str, str], organizations: set[str]
) -> None:
    error = HlfError(message, details=tuple(ErrorDetail("", msp_id, text) for msp_id, text in details.items()))
    assert error.unavailable_organizations == organizations


@pytest.mark.parametrize(
    ("message", "detail", "is_refused"),
    [
        ("FAILED_PRECONDITION: x", "error validating proposal: access denied: channel [care] creator org [A]", True),
        ("ABORTED: x", "error validating proposal: access denied: channel [care] creator org unknown, creator is "
                       "malformed", True),
        ("UNAVAILABLE: x", "rpc error: code = Unknown desc = proposal client identity expired", True),
        ("FAILED_PRECONDITION: x", "failed evaluating policy on signed data during check policy on channel [care] with "
                                   "policy [/Channel/Application/Writers]: no", True),
        ("ABORTED: received unsuccessful response from orderer: status=FORBIDDEN, info=implicit policy", "", True),
        ("ABORTED: received unsuccessful response from orderer: status=BAD_REQUEST, info=message payload is unmarshaled"
         " in error", "", False),
        ("ABORTED: received unsuccessful response from orderer: status=BAD_REQUEST, info=broadcast client identity "
         "expired", "", True),
        ("the stream of blocks ended: FORBIDDEN", "", True),
        ("UNKNOWN: x", "chaincode response 403, NO: access denied: channel [care] creator org [A]", False),
        ("ABORTED: x", "access denied for [JoinChain][care]", False),
    ],
)  # fmt: skip
def test_a_certificate_that_is_refused(message: str, detail: str, is_refused: bool) -> None:
    error = HlfError(message, details=(ErrorDetail("", "HospitalA", detail),))
    assert error.is_creator_refused == is_refused


TOO_MANY = "too many requests for /gateway.Gateway, exceeding concurrency limit (500)"


@pytest.mark.parametrize(
    ("code", "message", "details", "is_over"),
    [
        (UNKNOWN, TOO_MANY, (), True),
        (UNKNOWN, "something else", (), False),
        (grpc.StatusCode.INVALID_ARGUMENT, TOO_MANY, (), False),
        (ABORTED, "x", (f"rpc error: code = Unknown desc = {TOO_MANY}",), True),
        (UNKNOWN, "x", ("chaincode response 429, BUSY: too many requests",), False),
    ],
)
def test_a_peer_at_its_limit(code: grpc.StatusCode, message: str, details: tuple[str, ...], is_over: bool) -> None:
    assert is_over_limit(code, message, tuple(ErrorDetail("", "", text) for text in details)) == is_over


@pytest.mark.parametrize(
    ("code", "message", "is_unknown"),
    [
        (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE: no orderers could successfully process transaction", True),
        (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE: Socket closed", True),
        (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE: no orderer nodes available", False),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", True),
        (grpc.StatusCode.CANCELLED, "CANCELLED", True),
        (UNKNOWN, "UNKNOWN: what", True),
        (UNKNOWN, f"UNKNOWN: {TOO_MANY}", False),
        (ABORTED, "ABORTED: received unsuccessful response from orderer: status=FORBIDDEN", False),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT: prepared transaction must be signed", False),
    ],
)
def test_whether_a_transaction_may_have_been_received(code: grpc.StatusCode, message: str, is_unknown: bool) -> None:
    assert SubmitError(message, code=code).is_outcome_unknown == is_unknown


@pytest.mark.parametrize(
    ("code", "name", "is_retriable"),
    [
        (11, "MVCC_READ_CONFLICT", True),
        (12, "PHANTOM_READ_CONFLICT", True),
        (10, "ENDORSEMENT_POLICY_FAILURE", False),
        (9, "DUPLICATE_TXID", False),
        (99, "CODE_99", False),
    ],
)
def test_an_invalid_transaction_names_its_code(code: int, name: str, is_retriable: bool) -> None:
    error = TransactionInvalid("1f", code, 7)
    assert (error.validation_name, error.retriable, error.block_number) == (name, is_retriable, 7)
    assert str(error) == f"invalid: {name} [transaction 1f]"
    assert validation_name(code) == name


async def test_a_failure_without_details_is_the_gateways_own() -> None:
    async with scripted_peer() as peer, gateway_to(peer) as gateway:
        peer.script["Evaluate"] = [failing(grpc.StatusCode.FAILED_PRECONDITION, "no combination of peers")]
        with pytest.raises(EvaluateError) as raised:
            await gateway.contract(new_member(), "care", "kv").evaluate("get")
    assert raised.value.details == ()
    assert "FAILED_PRECONDITION: no combination of peers" in str(raised.value)
