"""The ledger as services use it: evaluate on own peers, submit with every hospital's endorsement, settle by one block
stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc
from emr_model.ledger.answers import OrganizationList, OrganizationView
from emr_model.ledger.codec import JsonValue
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function
from fabric_protos.common import ledger_pb2
from hlf.commits import Commit, CommitTracker
from hlf.errors import EndorseError, ErrorDetail, EvaluateError, HlfError, SubmitError, TransactionInvalid
from hlf.evidence import collect
from hlf.gateway import Gateway, Proposal, Transaction
from hlf.identity import Creator, Signer

from emr_common import problems, telemetry, tracing
from emr_common.calls import Argument, Call
from emr_common.endorsers import EndorserChoice
from emr_common.problems import OutcomePending, Problem
from emr_common.receipts import ReceiptProof, proof_of
from emr_common.settings import LedgerSettings
from emr_common.transactions import TransactionStore
from emr_common.wallet import Caller

PAGE_SIZE = 100
LAG_WAITS_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, None)
PAYLOADS_DIFFER = "ProposalResponsePayloads do not match"

A = TypeVar("A", bound=JsonValue)


@dataclass(frozen=True)
class Committed:
    """A transaction that stands in a block as valid. ``result`` is the chaincode's answer."""

    transaction_id: str
    block: int
    result: bytes

    def answer(self, kind: type[A]) -> A:
        """``result`` as the class of ``emr_model.ledger.answers`` that the function answers."""
        return kind.from_json(self.result)

    def ids(self) -> dict[str, Any]:
        """What the answer to every write carries."""
        return {"transactionId": self.transaction_id, "block": self.block}


class Journal(Protocol):
    """Whoever must know a transaction's id before it is handed in, to look for its outcome after a crash."""

    async def submitting(self, transaction_id: str, result: bytes) -> None:
        """Called once the transaction is endorsed and before it is submitted; raising keeps it from being submitted."""


class Ledger:
    """One a process: many people's identities, one connection, one stream of commits.

    Every failure leaves as a Problem (a chaincode's code kept) or as OutcomePending. What was submitted is never
    submitted again.
    """

    def __init__(
        self,
        settings: LedgerSettings,
        gateway: Gateway,
        tracker: CommitTracker,
        service: Signer,
        transactions: TransactionStore,
    ) -> None:
        self._settings = settings
        self._gateway = gateway
        self._tracker = tracker
        self._service = service
        self._transactions = transactions
        self._choice = EndorserChoice(gateway, service, settings.channel, settings.chaincode)

    @property
    def channel(self) -> str:
        return self._settings.channel

    @property
    def msp_id(self) -> str:
        return self._service.msp_id

    @property
    def service(self) -> Signer:
        """The hospital's own service identity."""
        return self._service

    @property
    def tracker(self) -> CommitTracker:
        return self._tracker

    async def evaluate(
        self,
        caller: Caller | Signer,
        function: Function,
        *arguments: Argument,
        transient: Mapping[str, bytes] | None = None,
    ) -> bytes:
        """Asks own peers only: another hospital's would see what is asked for. Raises Problem."""
        signer = _signer(caller)
        contract = self._gateway.contract(signer, self._settings.channel, self._settings.chaincode)
        with _measured(function, "evaluate", is_callers=self._is_callers(signer)):
            return await contract.evaluate(
                function.wire_name, *_texts(arguments), transient=transient, target_organizations=[self.msp_id]
            )

    async def submit(
        self,
        caller: Caller | Signer,
        function: Function,
        *arguments: Argument,
        transient: Mapping[str, bytes] | None = None,
        journal: Journal | None = None,
        wait_seconds: float | None = None,
    ) -> Committed:
        """Endorses, submits and waits for the block.

        Raises Problem: the chaincode's own code; HOSPITAL_UNAVAILABLE naming who is missing; CONFLICT when another
        transaction was faster (nothing took effect: read again and make a new one); TRANSACTION_INVALID. Raises
        OutcomePending when nothing is known after ``wait_seconds`` (default: the setting). Who endorses stands in the
        function's ``spec``.
        """
        return await self.perform(caller, Call(function, arguments, transient), journal, wait_seconds)

    async def perform(
        self,
        caller: Caller | Signer,
        call: Call,
        journal: Journal | None = None,
        wait_seconds: float | None = None,
    ) -> Committed:
        """The same for a call that was made elsewhere."""
        signer, name = _signer(caller), _name(caller)
        is_callers = self._is_callers(signer)
        endorsers = await self._endorsers(call)
        while True:
            transaction = await self._endorse(
                call, lambda chosen: self._proposal(signer, call, chosen), is_callers=is_callers
            )
            await self._announce(transaction, name, call.function, journal)
            try:
                return await self._committed(transaction, call.function, wait_seconds, is_callers=is_callers)
            except Problem as problem:
                if problem.code is not Code.TRANSACTION_INVALID:
                    raise
                known, endorsers = endorsers, await self._endorsers(call)
                if endorsers == known:
                    raise
                continue  # nothing took effect, and other hospitals endorse by now

    def propose(self, creator: Creator, call: Call) -> Proposal:
        """A call as whoever keeps the creator's key is to sign it. Who endorses is chosen when it is endorsed: no
        signature covers that.
        """
        return self._proposal(creator, call, ())

    async def evaluate_signed(self, function: Function, proposal: bytes, signature: bytes) -> bytes:
        """``evaluate`` of what ``propose`` gave. Raises Problem."""
        with _measured(function, "evaluate", is_callers=True):
            return await self._gateway.proposal(proposal, signature).evaluate(target_organizations=[self.msp_id])

    async def endorse_signed(self, function: Function, proposal: bytes, signature: bytes) -> bytes:
        """The bytes of the transaction that the hospitals' peers made of what ``propose`` gave. Raises Problem."""
        proposed = self._gateway.proposal(proposal, signature)
        arguments = tuple(argument.decode() for argument in proposed.call.arguments)
        endorsed = await self._endorse(Call(function, arguments), proposed.with_endorsers, is_callers=True)
        return endorsed.bytes

    async def submit_signed(
        self, caller: Caller, function: Function, transaction: bytes, signature: bytes
    ) -> Committed:
        """Hands in what ``endorse_signed`` gave and waits for its block. Raises as ``submit`` does."""
        signed = self._gateway.transaction(transaction, signature)
        await self._announce(signed, caller.enrolment_id, function, None)
        return await self._committed(signed, function, None, is_callers=True)

    def result_of(self, transaction: bytes) -> bytes:
        """The chaincode's answer, which counts once the transaction is committed."""
        return self._gateway.transaction(transaction).result

    async def is_endorsed_by_all(self) -> bool:
        """Whether every write on the ledger has this hospital's endorsement. Where it has not, a fact about an EMR of
        this hospital counts only once the projector, which looks at the endorsers, has let it in. Raises Problem."""
        try:
            return await self._choice.asks_everybody()
        except HlfError as error:
            raise problems.from_ledger_error(error) from error

    async def _endorsers(self, call: Call) -> tuple[str, ...]:
        with _measured(call.function, "endorsers"):
            return await self._choice.of(call.function, _texts(call.arguments))

    def _is_callers(self, creator: Creator) -> bool:
        """Whether a certificate that is refused is a caller's, and not the hospital's own."""
        return creator.serialized != self._service.serialized

    async def _endorse(self, call: Call, make: Callable[[Sequence[str]], Proposal], *, is_callers: bool) -> Transaction:
        """Waits a little for another hospital's peer that has not committed yet what this one has."""
        function, arguments = call.function, _texts(call.arguments)
        with _measured(function, "endorse", is_callers=is_callers):
            for wait_seconds in LAG_WAITS_SECONDS:
                endorsers = await self._choice.of(function, arguments)
                try:
                    return await self._endorsed_by(endorsers, make(endorsers))
                except EndorseError as error:
                    if wait_seconds is None:
                        raise
                    if await self._choice.can_do_without(error.unavailable_organizations, function, arguments):
                        continue
                    if not _may_be_behind(error, self.msp_id):
                        raise
                await asyncio.sleep(wait_seconds)
        raise AssertionError("the last wait is None")

    async def _endorsed_by(self, endorsers: Sequence[str], proposal: Proposal) -> Transaction:
        """Raises EndorseError, which names those who did not answer. One whose peer hangs is waited for long once, and
        then only shortly for a while."""
        seconds = self._choice.seconds_for(endorsers)
        try:
            transaction = await proposal.endorse(timeout=seconds)
        except EndorseError as error:
            is_cut_short = error.code is grpc.StatusCode.DEADLINE_EXCEEDED and not error.details
            silent = self._choice.expected_silent(endorsers) if is_cut_short else error.unavailable_organizations
            self._choice.did_not_answer(silent, shortly=seconds is not None)
            if is_cut_short and silent:
                raise _silent(error, silent) from error
            raise
        self._choice.answered(endorsers)
        return transaction

    def _proposal(self, creator: Creator, call: Call, organizations: Sequence[str]) -> Proposal:
        contract = self._gateway.contract(creator, self._settings.channel, self._settings.chaincode)
        return contract.propose(
            call.function.wire_name,
            *_texts(call.arguments),
            transient=call.transient,
            endorsing_organizations=organizations,
        )

    async def _announce(self, transaction: Transaction, name: str, function: Function, journal: Journal | None) -> None:
        """What must be durable before anything is submitted."""
        telemetry.note_transaction(transaction.transaction_id)
        begun = self._transactions.begin(transaction.transaction_id, name, function.wire_name)
        if journal is None:
            await begun
        else:
            noted = journal.submitting(transaction.transaction_id, transaction.result)
            for outcome in await asyncio.gather(begun, noted, return_exceptions=True):
                if outcome is not None:
                    raise outcome

    async def _committed(
        self, transaction: Transaction, function: Function, wait_seconds: float | None, *, is_callers: bool
    ) -> Committed:
        commit = await self._settled(transaction, function, wait_seconds, is_callers=is_callers)
        self._transactions.settle(commit.transaction_id, commit.validation_name, commit.block_number)
        return Committed(commit.transaction_id, commit.block_number, transaction.result)

    async def _settled(
        self, transaction: Transaction, function: Function, wait_seconds: float | None, *, is_callers: bool
    ) -> Commit:
        timeout = self._settings.commit_timeout_seconds if wait_seconds is None else wait_seconds
        with _measured(function, "commit", transaction.transaction_id, is_callers=is_callers):
            try:
                return await self._tracker.settle(transaction, timeout_seconds=timeout)
            except TransactionInvalid as error:
                self._transactions.settle(error.transaction_id or "", error.validation_name, error.block_number)
                if not error.retriable:
                    self._choice.look_again()
                raise
            except SubmitError:
                await self._transactions.withdraw(transaction.transaction_id)
                raise
            except HlfError as error:  # it was handed in: whatever failed after that, its outcome is open
                raise OutcomePending(transaction.transaction_id) from error

    async def find(self, transaction_id: str) -> Commit | None:
        """What the ledger says of a transaction, valid or not; None while it stands in no block. Raises Problem."""
        try:
            return await self._tracker.lookup(transaction_id)
        except HlfError as error:
            raise problems.from_ledger_error(error) from error

    async def wait_for(self, transaction_id: str) -> Commit | None:
        """The same for one that somebody else hands in now; None when nothing came within the commit timeout."""
        pending = self._tracker.expect(transaction_id)
        known = await self.find(transaction_id)
        if known is not None:
            pending.settle(known)
        try:
            return await pending.outcome(self._settings.commit_timeout_seconds)
        except HlfError:
            return None

    async def newest_block(self) -> int:
        """The number of the own peer's newest block: what it has answered so far is in no later one. Raises Problem."""
        info = self._gateway.contract(self._service, self.channel, "qscc")
        try:
            answer = await info.evaluate("GetChainInfo", self.channel, target_organizations=[self.msp_id])
        except HlfError as error:
            raise problems.from_ledger_error(error) from error
        return int(ledger_pb2.BlockchainInfo.FromString(answer).height) - 1

    async def receipt_proof(self, receipt: str) -> ReceiptProof:
        """What proves a disclosure off-line, from the own peer. Raises Problem TRANSACTION_NOT_FOUND."""
        try:
            evidence = await collect(self._gateway, self._service, self.channel, receipt.partition(".")[2])
        except EvaluateError as error:
            if error.chaincode_response is not None:
                raise Problem(Code.TRANSACTION_NOT_FOUND) from error
            raise problems.from_ledger_error(error) from error
        return proof_of(receipt, self.channel, self._settings.chaincode, evidence)

    async def organizations(self) -> list[OrganizationView]:
        """The profiles of all hospitals on the channel. Raises Problem."""
        organizations: list[OrganizationView] = []
        bookmark = ""
        while True:
            answer = await self.evaluate(self._service, Function.LIST_ORGANIZATIONS, PAGE_SIZE, bookmark)
            page = OrganizationList.from_json(answer)
            organizations += page.organizations
            bookmark = page.bookmark
            if not bookmark:
                return organizations


def _silent(error: EndorseError, msp_ids: frozenset[str]) -> EndorseError:
    """The same failure, as the own peer would have told it if it had been given the time."""
    details = tuple(ErrorDetail("", msp_id, "code = DeadlineExceeded") for msp_id in sorted(msp_ids))
    return EndorseError(
        error.message, transaction_id=error.transaction_id, code=error.code, details=details, retriable=True
    )


def _may_be_behind(error: EndorseError, own_msp_id: str) -> bool:
    """Whether only other hospitals' peers refused, or gave another answer: a block behind, they know no better.

    A certificate that they refuse and the own peer does not is revoked in a block that the own peer does not have yet.
    """
    if PAYLOADS_DIFFER in str(error):
        return True
    is_refusal = error.chaincode_response is not None or error.is_creator_refused
    return is_refusal and own_msp_id not in {detail.msp_id for detail in error.details}


def _signer(caller: Caller | Signer) -> Signer:
    return caller.signer if isinstance(caller, Caller) else caller


def _name(caller: Caller | Signer) -> str:
    return caller.enrolment_id if isinstance(caller, Caller) else "service"


def _texts(arguments: Sequence[Argument]) -> list[str | bytes]:
    return [str(argument) if isinstance(argument, int) else argument for argument in arguments]


@contextmanager
def _measured(
    function: Function, step: str, transaction_id: str | None = None, *, is_callers: bool = False
) -> Iterator[None]:
    """Times a step, traces it, and turns the client's errors into what the caller is told."""
    started, outcome = time.perf_counter(), "failed"
    attributes = {"careledger.function": function.wire_name}
    if transaction_id is not None:
        attributes["careledger.transaction_id"] = transaction_id
    try:
        with tracing.span(f"ledger {step}", "client", attributes):
            yield
        outcome = "ok"
    except HlfError as error:
        raise problems.from_ledger_error(error, is_callers=is_callers) from error
    finally:
        telemetry.LEDGER_SECONDS.labels(function.wire_name, step, outcome).observe(time.perf_counter() - started)
