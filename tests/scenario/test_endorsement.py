"""No hospital writes alone: what is not endorsed by all is not committed, and who is missing is named."""

from __future__ import annotations

import json
from dataclasses import replace

from emr_chaincode.contract import EmrContract
from emr_model.ledger.functions import Function
from fabric_protos.common import common_pb2
from fabric_protos.gateway import gateway_pb2
from fabric_protos.peer import transaction_pb2
from hlf.certs import CertificateAuthority, certificate_to_pem, new_private_key
from hlf.chaincode import ChaincodeServer, Response, Stub
from hlf.crypto import sign
from hlf.gateway import Transaction
from hlf.identity import Identity
from support.ledger_access import ENDORSEMENT_POLICY_FAILURE, LedgerAccess
from support.sharing_steps import Cast, Steps
from support.stack import Stack


class Dissenter:
    """The contract, which answers something else whenever it is asked to add a note."""

    def __init__(self) -> None:
        self._contract = EmrContract()

    async def invoke(self, stub: Stub) -> Response:
        response = await self._contract.invoke(stub)
        if stub.function != Function.ADD_EMR_NOTE.wire_name:
            return response
        return replace(response, payload=json.dumps({"version": 7}).encode())


async def test_a_hospital_whose_chaincode_is_down_is_named(stack: Stack, steps: Steps) -> None:
    async with stack.stopped("chaincode-b"):
        answer = await steps.post_note("Seen today.")
    assert (answer.status, answer.code) == (503, "HOSPITAL_UNAVAILABLE")
    assert answer.body["hospital"] == "HospitalB"
    assert "retry-after" in answer.headers


async def test_hospitals_that_disagree_commit_nothing(stack: Stack, steps: Steps) -> None:
    chaincode_id = stack.process("chaincode-b").program.environment["CHAINCODE_ID"]
    async with stack.stopped("chaincode-b"):
        address = stack.system.ports.address("chaincode-b")
        async with ChaincodeServer(Dissenter(), address, chaincode_id, stop_grace_seconds=0.1):
            await _until_connected(stack)
            answer = await steps.post_note("Seen today.")
    assert answer.code == "ENDORSEMENT_MISMATCH"
    await _until_connected(stack)
    assert (await steps.read())["version"] == 1


async def _until_connected(stack: Stack) -> None:
    """Devnet connects by itself after a while; an official peer does when it is asked to endorse."""
    if stack.ledger != "devnet":
        return

    async def is_connected() -> bool:
        members = stack.devnet.status()["organizations"]
        return all(one["chaincodes"]["emr"] for one in members)

    await stack.until(is_connected, "devnet is connected to both chaincodes")


async def test_what_one_hospital_endorsed_is_invalid_with_or_without_a_forged_second_endorsement(
    stack: Stack, cast: Cast, ledger: LedgerAccess
) -> None:
    patient = await stack.patient(cast.healthcenter)
    signer = await ledger.signer(cast.other_physician)
    contract = ledger.gateways["b"].contract(
        signer, stack.system.topology.channel, stack.system.topology.chaincode.name
    )
    arguments = (stack.msp_id("a"), patient.patient_id, "TREAT")
    function = Function.REQUEST_EMR_ACCESS
    for forge in (lambda transaction: transaction, lambda transaction: _with_forged_endorsement(stack, transaction)):
        proposal = contract.propose(function.wire_name, *arguments, endorsing_organizations=["HospitalB"])
        commit = await ledger.commit("b", forge(await proposal.endorse()))
        assert commit.validation_name == ENDORSEMENT_POLICY_FAILURE
    honest = await ledger.endorse(cast.other_physician, function, *arguments)
    assert (await ledger.commit("b", honest)).is_valid


def _with_forged_endorsement(stack: Stack, transaction: Transaction) -> Transaction:
    """Adds an endorsement in A's name, with a certificate of an authority that only has the same name."""
    hospital = stack.hospital("a")
    authority = CertificateAuthority.create(f"ca.{hospital.domain}", hospital.domain)
    key = new_private_key()
    certificate = authority.issue(hospital.peer_name, key.public_key(), organizational_units=["peer"])
    endorser = Identity(hospital.msp_id, certificate_to_pem(certificate)).serialized
    prepared = gateway_pb2.PreparedTransaction.FromString(transaction.bytes)
    payload = common_pb2.Payload.FromString(prepared.envelope.payload)
    content = transaction_pb2.Transaction.FromString(payload.data)
    action = transaction_pb2.ChaincodeActionPayload.FromString(content.actions[0].payload)
    result = action.action.proposal_response_payload
    action.action.endorsements.add(endorser=endorser, signature=sign(key, result + endorser))
    content.actions[0].payload = action.SerializeToString()
    payload.data = content.SerializeToString()
    prepared.envelope.payload = payload.SerializeToString()
    return Transaction(prepared, transaction._connections, transaction._creator)
