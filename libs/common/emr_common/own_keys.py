"""Callers who keep their own key: each step is prepared here, signed by them, and only then taken.

What they sign is bound to them and to its bytes: a signature counts for one step of one preparation. A step that is
repeated answers the same, through any instance.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Any

from emr_model.ledger.codes import Code
from fabric_protos.gateway import gateway_pb2
from hlf import crypto
from hlf.commits import Commit
from hlf.errors import TransactionInvalid
from hlf.identity import Identity
from sqlalchemy.ext.asyncio import AsyncEngine

from emr_common import problems
from emr_common.calls import Call
from emr_common.ledger import Committed, Ledger
from emr_common.preparations import VOID, Preparation, PreparationStore
from emr_common.problems import OutcomePending, Problem
from emr_common.wallet import Caller

POLL_SECONDS = 0.05


class OwnKeys:
    """Everything raises Problem: TRANSACTION_NOT_FOUND (also for what another caller prepared), SIGNATURE_INVALID,
    STEP_NOT_READY, PREPARATION_EXPIRED, or what the ledger says.
    """

    def __init__(self, engine: AsyncEngine, ledger: Ledger) -> None:
        self._store = PreparationStore(engine)
        self._ledger = ledger

    async def prepare(self, caller: Caller, call: Call) -> Preparation:
        proposal = self._ledger.propose(self._identity(caller), call)
        return await self._store.add(
            proposal.transaction_id, caller.enrolment_id, call.function, call.ids, proposal.bytes
        )

    async def find(self, caller: Caller, transaction_id: str) -> Preparation | None:
        found = await self._store.find(transaction_id)
        return found if found is not None and found.caller == caller.enrolment_id else None

    async def own(self, caller: Caller, transaction_id: str) -> Preparation:
        found = await self.find(caller, transaction_id)
        if found is None:
            raise Problem(Code.TRANSACTION_NOT_FOUND)
        return found

    async def evaluate(self, preparation: Preparation, caller: Caller, signature: str) -> bytes:
        """Asks own peers what was prepared to be asked."""
        _require_step(preparation, is_read=True)
        signed = self._checked(caller, signature, proposal_bytes(preparation))
        return await self._ledger.evaluate_signed(preparation.function, preparation.proposal, signed)

    async def endorse(self, preparation: Preparation, caller: Caller, signature: str) -> Preparation:
        _require_step(preparation, is_read=False)
        signed = self._checked(caller, signature, proposal_bytes(preparation))
        while preparation.transaction is None:
            if await self._store.take_endorsement(preparation.transaction_id):
                await self._endorse(preparation, signed)
            else:
                await asyncio.sleep(POLL_SECONDS)
            preparation = await self.own(caller, preparation.transaction_id)
            _require_step(preparation, is_read=False)
        return preparation

    async def _endorse(self, preparation: Preparation, signature: bytes) -> None:
        try:
            endorsed = await self._ledger.endorse_signed(preparation.function, preparation.proposal, signature)
        except BaseException:
            await asyncio.shield(self._store.not_endorsed(preparation.transaction_id))
            raise
        await self._store.keep_endorsed(preparation.transaction_id, endorsed)

    async def submit(self, preparation: Preparation, caller: Caller, signature: str) -> Committed:
        """Hands the transaction in, once, and waits for its block; who comes later waits for the same block.

        Raises OutcomePending too. When nothing is known of it after half a minute, a repetition hands in the same bytes
        again: a transaction id commits once.
        """
        _require_step(preparation, is_read=False)
        if preparation.transaction is None:
            raise Problem(Code.STEP_NOT_READY, "the proposal has not been endorsed")
        signed = self._checked(caller, signature, payload_bytes(preparation.transaction))
        if preparation.answer is None:
            is_mine = await self._store.take_submission(preparation.transaction_id)
        else:
            is_mine = False
        if not is_mine and (await self.own(caller, preparation.transaction_id)).state == VOID:
            raise Problem(Code.PREPARATION_EXPIRED)
        return await (self._handed_in if is_mine else self._awaited)(preparation, caller, signed)

    async def _handed_in(self, preparation: Preparation, caller: Caller, signature: bytes) -> Committed:
        assert preparation.transaction is not None
        if preparation.submitted_at is not None:
            known = await self._ledger.find(preparation.transaction_id)
            if known is not None:
                return self._committed(preparation, known)
        try:
            return await self._ledger.submit_signed(caller, preparation.function, preparation.transaction, signature)
        except Problem as problem:
            if problem.code not in (Code.CONFLICT, Code.TRANSACTION_INVALID):
                await self._store.not_submitted(preparation.transaction_id)
            raise

    async def _awaited(self, preparation: Preparation, _caller: Caller, _signature: bytes) -> Committed:
        commit = await self._ledger.wait_for(preparation.transaction_id)
        if commit is None:
            raise OutcomePending(preparation.transaction_id)
        return self._committed(preparation, commit)

    def _committed(self, preparation: Preparation, commit: Commit) -> Committed:
        assert preparation.transaction is not None
        if not commit.is_valid:
            invalid = TransactionInvalid(commit.transaction_id, commit.validation_code, commit.block_number)
            raise problems.from_ledger_error(invalid, is_callers=True)
        result = self._ledger.result_of(preparation.transaction)
        return Committed(commit.transaction_id, commit.block_number, result)

    async def keep_answer(self, preparation: Preparation, answer: dict[str, Any]) -> None:
        await self._store.keep_answer(preparation.transaction_id, answer)

    def _identity(self, caller: Caller) -> Identity:
        return Identity(self._ledger.msp_id, caller.certificate_pem)

    def _checked(self, caller: Caller, signature: str, signed: bytes) -> bytes:
        return checked_signature(self._identity(caller), signature, signed)


def checked_signature(identity: Identity, signature: str, signed: bytes) -> bytes:
    """The signature (base64 of DER) in the form that Fabric takes. OpenSSL makes one with a large ``s`` half of the
    time: the smaller one, which everybody can compute from it, is the same signature.

    Raises Problem SIGNATURE_INVALID.
    """
    try:
        low_s = crypto.to_low_s(base64.b64decode(signature, validate=True))
    except (binascii.Error, ValueError):
        raise Problem(Code.SIGNATURE_INVALID, "the signature is not base64 of DER") from None
    if not identity.verify(low_s, signed):
        raise Problem(Code.SIGNATURE_INVALID)
    return low_s


def proposal_bytes(preparation: Preparation) -> bytes:
    """What the caller signs first: a serialized ``protos.Proposal``."""
    return bytes(gateway_pb2.ProposedTransaction.FromString(preparation.proposal).proposal.proposal_bytes)


def payload_bytes(transaction: bytes) -> bytes:
    """What the caller signs second: a serialized ``common.Payload``."""
    return bytes(gateway_pb2.PreparedTransaction.FromString(transaction).envelope.payload)


def to_sign(preparation: Preparation, signed: bytes) -> dict[str, Any]:
    """What the caller is told of a step: the bytes to sign, and until when."""
    return {
        "transactionId": preparation.transaction_id,
        "function": preparation.function.wire_name,
        **_times(preparation),
        "bytes": base64.b64encode(signed).decode(),
        "digest": crypto.sha256(signed).hex(),
    }


def _times(preparation: Preparation) -> dict[str, str]:
    if preparation.is_read:
        return {"evaluateBefore": preparation.endorse_before.isoformat()}
    return {
        "endorseBefore": preparation.endorse_before.isoformat(),
        "submitBefore": preparation.submit_before.isoformat(),
    }


def _require_step(preparation: Preparation, *, is_read: bool) -> None:
    if preparation.is_read != is_read:
        raise Problem(Code.STEP_NOT_READY, "a read is evaluated, everything else endorsed and submitted")
    if preparation.state == VOID:
        raise Problem(Code.PREPARATION_EXPIRED)
