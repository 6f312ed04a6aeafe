"""``GET /v1/transactions/{id}``, the same in registration, records and consent."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Protocol

from emr_model.ledger.codes import Code
from fastapi import APIRouter, Path, Request

from emr_common.auth import CallerDep
from emr_common.ledger import Ledger
from emr_common.problems import Problem
from emr_common.routing import JsonRoute
from emr_common.transactions import COMMITTED, INVALID, PENDING, Status, TransactionStore
from emr_common.wallet import Caller

router = APIRouter(route_class=JsonRoute, tags=["transactions"])


class Services(Protocol):
    """What ``app.state.services`` must give."""

    @property
    def ledger(self) -> Ledger: ...
    @property
    def transactions(self) -> TransactionStore: ...


@router.get("/transactions/{transaction_id}")
async def get_transaction(
    request: Request, transaction_id: Annotated[str, Path(pattern="^[0-9a-f]{64}$")], caller: CallerDep
) -> dict[str, Any]:
    """What became of a transaction that the caller signed, through whichever service of the hospital."""
    services: Services = request.app.state.services
    return (await status_of(services.ledger, services.transactions, caller, transaction_id)).document()


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
