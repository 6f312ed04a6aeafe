"""Envelopes made by hand: the orderer takes what its creator signed, and every peer sees what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from emr_model.ledger.functions import Function
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import proposal_pb2, proposal_response_pb2, transaction_pb2
from hlf.certs import new_private_key
from hlf.crypto import sign
from hlf.gateway import Transaction
from support.ledger_access import ENDORSEMENT_POLICY_FAILURE, LedgerAccess
from support.sharing_steps import PURPOSE, Steps

Forge = Callable[[Any], None]


def _another_key_signs(action: Any) -> None:
    """For the genuine endorser whose certificate stands beside the signature."""
    endorsement = _of(action, "HospitalA")
    signed = action.proposal_response_payload + endorsement.endorser
    endorsement.signature = sign(new_private_key(), signed)


def _one_is_left_out(action: Any) -> None:
    action.endorsements.remove(_of(action, "HospitalA"))


def _one_counts_twice(action: Any) -> None:
    _of(action, "HospitalA").CopyFrom(_of(action, "HospitalB"))


def _another_answer_is_put_in(action: Any) -> None:
    """What both have signed is exchanged for something else."""
    payload = proposal_response_pb2.ProposalResponsePayload.FromString(action.proposal_response_payload)
    result = proposal_pb2.ChaincodeAction.FromString(payload.extension)
    result.response.payload = b"{}"
    payload.extension = result.SerializeToString()
    action.proposal_response_payload = payload.SerializeToString()


def _of(action: Any, msp_id: str) -> Any:
    (found,) = [
        one for one in action.endorsements if identities_pb2.SerializedIdentity.FromString(one.endorser).mspid == msp_id
    ]
    return found


@pytest.mark.parametrize("forge", [_another_key_signs, _one_is_left_out, _one_counts_twice, _another_answer_is_put_in])
async def test_a_forged_endorsement_is_seen_in_its_block(steps: Steps, ledger: LedgerAccess, forge: Forge) -> None:
    """B's physician asks for access in A's name, so to speak: without A's peer, or against what it said."""
    arguments = (steps.wanted["ownerMsp"], steps.patient.patient_id, PURPOSE)
    genuine = await ledger.endorse(steps.cast.other_physician, Function.REQUEST_EMR_ACCESS, *arguments)
    commit = await ledger.commit("b", _forged(genuine, forge))
    for hospital in ("a", "b"):
        found = await ledger.transactions(hospital, commit.block_number)
        number, transaction = found[genuine.transaction_id]
        assert (number, transaction.validation_name) == (commit.block_number, ENDORSEMENT_POLICY_FAILURE)
    assert (await steps.stack.call(steps.patient, "consent", "GET", "/me/sharings")).required()["sharings"] == []
    assert (await steps.request()).status == 201


def _forged(transaction: Transaction, forge: Forge) -> Transaction:
    """The same envelope with its endorsements changed, yet to be signed by its creator."""
    prepared = gateway_pb2.PreparedTransaction.FromString(transaction.bytes)
    payload = common_pb2.Payload.FromString(prepared.envelope.payload)
    content = transaction_pb2.Transaction.FromString(payload.data)
    action = transaction_pb2.ChaincodeActionPayload.FromString(content.actions[0].payload)
    forge(action.action)
    content.actions[0].payload = action.SerializeToString()
    payload.data = content.SerializeToString()
    prepared.envelope.payload = payload.SerializeToString()
    return Transaction(prepared, transaction._connections, transaction._creator)
