"""``/v1/transactions``, the same in registration, records and consent: what became of a transaction, and the steps of
people who keep their own key.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Protocol

from emr_model.ledger.codes import Code
from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from emr_common.auth import CallerDep
from emr_common.bodies import clinical_body, clinical_body_schema
from emr_common.boundary import PREFIX
from emr_common.idempotency import Answer, Attempt, Idempotency, IdempotencyKey
from emr_common.ledger import Committed, Ledger
from emr_common.operations import Intention, Operations, Read, Write
from emr_common.own_keys import OwnKeys, payload_bytes, proposal_bytes, to_sign
from emr_common.preparations import SUBMITTED, Preparation
from emr_common.problems import Problem
from emr_common.routing import JsonRoute
from emr_common.transactions import COMMITTED, INVALID, PENDING, Status, TransactionStore
from emr_common.wallet import Caller

TransactionId = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


class Services(Protocol):
    """What ``app.state.services`` must give."""

    @property
    def ledger(self) -> Ledger: ...
    @property
    def transactions(self) -> TransactionStore: ...
    @property
    def idempotency(self) -> Idempotency: ...
    @property
    def own_keys(self) -> OwnKeys: ...


class Body(BaseModel):
    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, validate_by_name=True, hide_input_in_errors=True
    )


class SignatureIn(Body):
    signature: str = Field(
        max_length=200, description="Base64 of the DER signature, ECDSA on P-256 over SHA-256 of the step's bytes"
    )


class ReadToSignOut(Body):
    transaction_id: str
    function: str
    evaluate_before: datetime
    bytes: str = Field(description="Base64 of what is to be signed: a serialized protos.Proposal")
    digest: str = Field(description="SHA-256 of these bytes, hex")


class WriteToSignOut(Body):
    transaction_id: str
    function: str
    endorse_before: datetime
    submit_before: datetime
    bytes: str = Field(description="Base64 of what is to be signed: protos.Proposal, then common.Payload, serialized")
    digest: str = Field(description="SHA-256 of these bytes, hex")


def routes(operations: Operations) -> APIRouter:
    """The routes of a service that offers ``operations``."""
    router = APIRouter(prefix=PREFIX, route_class=JsonRoute, tags=["transactions"])

    @router.post(
        "/transactions/prepare",
        status_code=201,
        response_model=WriteToSignOut | ReadToSignOut,
        openapi_extra=clinical_body_schema(operations.body),
    )
    async def prepare(request: Request, caller: CallerDep, key: IdempotencyKey) -> Response:
        """Makes the proposal of a call that the caller, who keeps the key, is to sign."""
        services: Services = request.app.state.services
        body = await clinical_body(request, operations.body)
        operation = operations.of(caller, body)

        async def once(attempt: Attempt) -> Answer:
            call = await operation.prepare(services, Intention(caller, body.root, key, attempt))
            prepared = await services.own_keys.prepare(caller, call)
            return Answer(201, {"transactionId": prepared.transaction_id})

        made = await services.idempotency.run_once(request, caller, key, once)
        found = await services.own_keys.own(caller, json.loads(bytes(made.body))["transactionId"])
        return JSONResponse(to_sign(found, proposal_bytes(found)), 201)

    @router.post("/transactions/{transaction_id}/endorse", response_model=WriteToSignOut)
    async def endorse(
        request: Request, transaction_id: TransactionId, caller: CallerDep, body: SignatureIn
    ) -> Response:
        """Takes the signature over the proposal, and gives the transaction that the hospitals' peers endorsed."""
        services: Services = request.app.state.services
        prepared = await _prepared(services, caller, transaction_id, operations)
        endorsed = await services.own_keys.endorse(prepared, caller, body.signature)
        assert endorsed.transaction is not None
        return JSONResponse(to_sign(endorsed, payload_bytes(endorsed.transaction)))

    @router.post("/transactions/{transaction_id}/submit", response_model=None)
    async def submit(request: Request, transaction_id: TransactionId, caller: CallerDep, body: SignatureIn) -> Response:
        """Takes the signature over the transaction, and hands it in. Answers what the operation itself would."""
        services: Services = request.app.state.services
        prepared = await _prepared(services, caller, transaction_id, operations)
        committed = await services.own_keys.submit(prepared, caller, body.signature)
        return JSONResponse(await _answer(services, caller, prepared, committed, operations))

    @router.post("/transactions/{transaction_id}/evaluate", response_model=None)
    async def evaluate(
        request: Request, transaction_id: TransactionId, caller: CallerDep, body: SignatureIn
    ) -> Response:
        """Takes the signature over the proposal of a read, and answers it."""
        services: Services = request.app.state.services
        prepared = await _prepared(services, caller, transaction_id, operations)
        result = await services.own_keys.evaluate(prepared, caller, body.signature)
        operation = operations.by_function[prepared.function]
        assert isinstance(operation, Read)
        return await operation.answer(services, caller, prepared.ids, result)

    @router.get("/transactions/{transaction_id}")
    async def get_transaction(request: Request, transaction_id: TransactionId, caller: CallerDep) -> dict[str, Any]:
        """What became of a transaction that the caller signed, through whichever service of the hospital."""
        services: Services = request.app.state.services
        queued = await services.transactions.queued.find(transaction_id)
        if queued is not None and queued.caller == caller.enrolment_id:
            return queued.document()
        prepared = await services.own_keys.find(caller, transaction_id)
        if prepared is not None and prepared.state != SUBMITTED:
            return _stage(prepared)
        return (await status_of(services.ledger, services.transactions, caller, transaction_id)).document()

    return router


async def _prepared(services: Services, caller: Caller, transaction_id: str, operations: Operations) -> Preparation:
    """Raises Problem TRANSACTION_NOT_FOUND, for what was prepared at another service, too."""
    prepared = await services.own_keys.own(caller, transaction_id)
    if prepared.function not in operations.by_function:
        raise Problem(Code.TRANSACTION_NOT_FOUND, "it was prepared at another service")
    return prepared


async def _answer(
    services: Services, caller: Caller, prepared: Preparation, committed: Committed, operations: Operations
) -> dict[str, Any]:
    """What was answered before, or what the operation makes of the commit now."""
    if prepared.answer is not None:
        return dict(prepared.answer)
    operation = operations.by_function[prepared.function]
    assert isinstance(operation, Write)
    answer = {**await operation.answer(services, caller, prepared.ids, committed), **committed.ids()}
    await services.own_keys.keep_answer(prepared, answer)
    return answer


def _stage(prepared: Preparation) -> dict[str, Any]:
    """``prepared``, ``endorsed`` or ``void``."""
    return {
        "transactionId": prepared.transaction_id,
        "function": prepared.function.wire_name,
        "state": prepared.state,
    }


async def status_of(ledger: Ledger, transactions: TransactionStore, caller: Caller, transaction_id: str) -> Status:
    """Raises Problem TRANSACTION_NOT_FOUND, for another person's transaction too."""
    status = await transactions.find(transaction_id)
    if status is None or status.caller != caller.enrolment_id:
        raise Problem(Code.TRANSACTION_NOT_FOUND)
    if status.state != PENDING:
        return status
    commit = await ledger.find(transaction_id)
    if commit is None:
        return status
    transactions.settle(transaction_id, commit.validation_name, commit.block_number)
    state = COMMITTED if commit.is_valid else INVALID
    return replace(status, state=state, block=commit.block_number, validation_code=commit.validation_name)
