"""What people who keep their own key may prepare at a service: one operation a contract function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from fastapi import Response
from pydantic import BaseModel, RootModel

from emr_common.calls import Call
from emr_common.idempotency import Attempt
from emr_common.ledger import Committed
from emr_common.problems import Problem
from emr_common.wallet import Caller

Ids = Mapping[str, Any]


@dataclass(frozen=True)
class Intention:
    """What a caller wants to have prepared. ``key`` is the request's Idempotency-Key, from which ids may follow."""

    caller: Caller
    body: Any
    key: str
    attempt: Attempt


@dataclass(frozen=True)
class Write:
    """``prepare`` makes and seals what the transaction carries; ``answer`` does what follows a commit, repeatably, and
    gives what is answered beside transaction and block. The first argument of each is the service's ``Services``.
    """

    prepare: Callable[[Any, Intention], Awaitable[Call]]
    answer: Callable[[Any, Caller, Ids, Committed], Awaitable[Ids]]


@dataclass(frozen=True)
class Read:
    """``answer`` opens, verifies and logs what the chaincode answered."""

    prepare: Callable[[Any, Intention], Awaitable[Call]]
    answer: Callable[[Any, Caller, Ids, bytes], Awaitable[Response]]


@dataclass(frozen=True)
class Operations:
    """``body`` is a union by ``function``, the contract's name of it."""

    body: type[RootModel[Any]]
    by_function: Mapping[Function, Write | Read]

    def of(self, caller: Caller, body: BaseModel) -> Write | Read:
        """Raises Problem ROLE_NOT_ALLOWED, which the chaincode would answer too, or KEY_HELD_HERE."""
        function = Function.by_wire_name(body.root.function)  # type: ignore[attr-defined]
        assert function is not None
        if caller.role not in function.spec.roles:
            raise Problem(Code.ROLE_NOT_ALLOWED)
        if caller.held_signer is not None:
            raise Problem(Code.KEY_HELD_HERE)
        return self.by_function[function]


async def only_ids(_services: Any, _caller: Caller, ids: Ids, _committed: Committed) -> Ids:
    """The answer of an operation after which nothing is left to do."""
    return ids
