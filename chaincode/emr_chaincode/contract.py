"""The contract: one table from function names to what they do, and what holds for every call."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from emr_model.ledger.codec import JsonValue
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from emr_model.ledger.refusals import Refused
from hlf.chaincode import ContractError, ProposalMalformed, Response, Stub

from emr_chaincode import disclosures, emrs, erasure, notes, organizations, patients, rules, sharings, snapshots
from emr_chaincode.arguments import Arguments
from emr_chaincode.call import Call
from emr_chaincode.caller import Caller, caller_of
from emr_chaincode.state import State

logger = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[JsonValue]]

HANDLERS: Mapping[Function, Handler] = {
    Function.REGISTER_ORGANIZATION: organizations.register_organization,
    Function.GET_ORGANIZATION: organizations.get_organization,
    Function.LIST_ORGANIZATIONS: organizations.list_organizations,
    Function.CREATE_EMR: emrs.create_emr,
    Function.CHECK_IS_PATIENT_REGISTERED: emrs.check_is_patient_registered,
    Function.UPDATE_DEMOGRAPHICS: emrs.update_demographics,
    Function.REBIND_PATIENT_KEY: emrs.rebind_patient_key,
    Function.READ_EMR: notes.read_emr,
    Function.GET_EMR_BY_PATIENT_ID: emrs.get_emr_by_patient_id,
    Function.ADD_EMR_NOTE: notes.add_emr_note,
    Function.REQUEST_EMR_ACCESS: sharings.request_emr_access,
    Function.AUTHORIZE_EMR_READING: sharings.authorize_emr_reading,
    Function.END_EMR_READING: sharings.end_emr_reading,
    Function.APPROVE_EMR_SHARING: sharings.approve_emr_sharing,
    Function.REMOVE_EMR_SHARING: sharings.remove_emr_sharing,
    Function.SHARE_EMR_SNAPSHOT: sharings.share_emr_snapshot,
    Function.EXPIRE_SHARING: sharings.expire_sharing,
    Function.GET_SHARING: sharings.get_sharing,
    Function.GET_SHARED_EMR: disclosures.get_shared_emr,
    Function.READ_SHARED_EMR: disclosures.read_shared_emr,
    Function.LIST_PURGEABLE_SNAPSHOTS: snapshots.list_purgeable_snapshots,
    Function.PURGE_SNAPSHOTS: snapshots.purge_snapshots,
    Function.GET_OWN_EMR: notes.get_own_emr,
    Function.GET_MEDICAL_VISIT_COUNT: patients.get_medical_visit_count,
    Function.GET_OWN_SHARINGS: sharings.get_own_sharings,
    Function.GET_OWN_DISCLOSURES: disclosures.get_own_disclosures,
    Function.REQUEST_ERASURE: erasure.request_erasure,
    Function.CANCEL_ERASURE: erasure.cancel_erasure,
    Function.ERASE_EMR: erasure.erase_emr,
}


class EmrContract:
    """The chaincode ``emr``. ``clock`` is this endorser's own, used only to refuse far-off transaction times."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock

    async def invoke(self, stub: Stub) -> Response:
        try:
            answer = await self._call(stub)
        except Refused as refusal:
            logger.info("transaction %s is refused: %s", stub.tx_id, refusal.code.name)
            raise ContractError(refusal.code.name, refusal.detail, refusal.code.status) from None
        except ProposalMalformed:
            raise ContractError(Code.ARGUMENT_INVALID.name, "the proposal cannot be read") from None
        return Response(payload=answer.to_json())

    async def _call(self, stub: Stub) -> JsonValue:
        function = _function(stub)
        rules.require_time(stub.timestamp, self._clock())
        caller = caller_of(stub.creator)
        rules.require_role(caller, function)
        return await HANDLERS[function](_call_of(stub, function, caller))


def _function(stub: Stub) -> Function:
    function = Function.by_wire_name(stub.function)
    if function is None:
        raise Refused(Code.FUNCTION_UNKNOWN)
    return function


def _call_of(stub: Stub, function: Function, caller: Caller) -> Call:
    return Call(
        caller=caller,
        arguments=Arguments(function.spec, stub.args, stub.transient),
        state=State(stub),
        now=stub.timestamp,
        transaction_id=stub.tx_id,
    )
