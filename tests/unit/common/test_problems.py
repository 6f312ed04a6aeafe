from __future__ import annotations

import grpc
import pytest
from emr_common.problems import OutcomePending, Problem, from_ledger_error
from emr_common.telemetry import SERVICE_IDENTITY_REFUSED
from emr_model.ledger.codes import Code
from hlf.errors import (
    CommitUnknown,
    ConnectionFailed,
    EndorseError,
    ErrorDetail,
    EvaluateError,
    HlfError,
    SubmitError,
    TransactionInvalid,
)

ID = "ab" * 32


def said(message: str, msp_id: str = "HospitalB") -> tuple[ErrorDetail, ...]:
    return (ErrorDetail("127.0.0.1:7051", msp_id, message),)


def refusal(message: str) -> EndorseError:
    return EndorseError(
        "ABORTED: failed to endorse", code=grpc.StatusCode.ABORTED, details=said(message), transaction_id=ID
    )


MEANINGS: dict[str, tuple[HlfError, Code]] = {
    "a refusal of the contract": (refusal("chaincode response 404, EMR_NOT_FOUND: no such EMR"), Code.EMR_NOT_FOUND),
    "a refusal with a version": (
        refusal("chaincode response 412, VERSION_CONFLICT: another version (version=7)"),
        Code.VERSION_CONFLICT,
    ),
    "a refused evaluation": (
        EvaluateError(
            "UNKNOWN: evaluate call to endorser returned error: chaincode response 403, ROLE_NOT_ALLOWED: no",
            code=grpc.StatusCode.UNKNOWN,
        ),
        Code.ROLE_NOT_ALLOWED,
    ),
    "a code that nobody knows": (refusal("chaincode response 500, NO_SUCH_CODE: text"), Code.ENDORSEMENT_MISMATCH),
    "a hospital without a peer": (
        EndorseError(
            "UNAVAILABLE: failed to find any endorsing peers for org(s): HospitalB", code=grpc.StatusCode.UNAVAILABLE
        ),
        Code.HOSPITAL_UNAVAILABLE,
    ),
    "a lost race": (TransactionInvalid(ID, 11, 5), Code.CONFLICT),
    "a phantom": (TransactionInvalid(ID, 12, 5), Code.CONFLICT),
    "an endorsement that does not suffice": (TransactionInvalid(ID, 10, 5), Code.TRANSACTION_INVALID),
    "peers that disagree": (
        EndorseError("ABORTED: ProposalResponsePayloads do not match", code=grpc.StatusCode.ABORTED),
        Code.ENDORSEMENT_MISMATCH,
    ),
    "no connection": (ConnectionFailed("no peer"), Code.LEDGER_UNAVAILABLE),
    "a deadline": (EvaluateError("late", code=grpc.StatusCode.DEADLINE_EXCEEDED), Code.LEDGER_UNAVAILABLE),
    "a refused submission": (SubmitError("no", code=grpc.StatusCode.PERMISSION_DENIED), Code.LEDGER_UNAVAILABLE),
}


@pytest.mark.parametrize("name", MEANINGS)
def test_a_failed_ledger_call_means(name: str) -> None:
    error, code = MEANINGS[name]
    problem = from_ledger_error(error)
    assert isinstance(problem, Problem)
    assert problem.code is code
    assert problem.transaction_id == error.transaction_id


CREATOR_REFUSED: dict[str, HlfError] = {
    "by a peer": EndorseError("ABORTED: x", details=said("access denied: channel [care] creator org [HospitalA]")),
    "by an orderer": SubmitError("ABORTED: received unsuccessful response from orderer: status=FORBIDDEN, info=x"),
    "in its block": TransactionInvalid(ID, 4, 5),
}


@pytest.mark.parametrize("name", CREATOR_REFUSED)
def test_a_refused_certificate_is_the_callers_affair_and_an_alarm_where_it_is_the_hospitals_own(name: str) -> None:
    alarms = SERVICE_IDENTITY_REFUSED._value.get()
    callers, own = (from_ledger_error(CREATOR_REFUSED[name], is_callers=whose) for whose in (True, False))
    assert isinstance(callers, Problem)
    assert isinstance(own, Problem)
    assert (callers.code, callers.retriable) == (Code.CERTIFICATE_REFUSED, False)
    assert (own.code, own.retriable) == (Code.LEDGER_UNAVAILABLE, True)
    assert SERVICE_IDENTITY_REFUSED._value.get() == alarms + 1


def test_a_missing_hospital_is_named() -> None:
    error = MEANINGS["a hospital without a peer"][0]
    problem = from_ledger_error(error)
    assert isinstance(problem, Problem)
    document = problem.document()
    assert document["hospital"] == "HospitalB"
    assert "HospitalB" in document["detail"]
    assert problem.retriable


def test_a_version_in_a_refusal_is_a_member() -> None:
    problem = from_ledger_error(MEANINGS["a refusal with a version"][0])
    assert isinstance(problem, Problem)
    assert problem.document()["version"] == 7


def test_an_unknown_outcome_is_no_failure() -> None:
    pending = from_ledger_error(CommitUnknown("no outcome yet", transaction_id=ID))
    assert isinstance(pending, OutcomePending)
    assert pending.transaction_id == ID


@pytest.mark.parametrize("code", Code)
def test_every_code_makes_a_complete_document(code: Code) -> None:
    document = Problem(code).document()
    assert document["code"] == code.name
    assert document["title"]
    assert document["detail"]
    assert document["type"] == f"urn:careledger:problem:{code.name.lower().replace('_', '-')}"
    assert ("Retry-After" in Problem(code).headers) == (document["status"] == 503)
