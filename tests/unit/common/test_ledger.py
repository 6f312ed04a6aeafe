"""The ledger as services use it, against a peer whose answers each test chooses; the database is real."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from emr_common import endorsers
from emr_common.ledger import Ledger
from emr_common.positions import Positions
from emr_common.problems import OutcomePending, Problem
from emr_common.settings import LedgerSettings
from emr_common.transaction_routes import status_of
from emr_common.transactions import TransactionStore
from emr_common.wallet import Caller
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Function, Role
from emr_readmodel.care import position
from emr_readmodel.hospital import transaction as table
from fabric_protos.peer.lifecycle import lifecycle_pb2
from hlf import policies
from hlf.admin.lifecycle import ChaincodeDefinition
from hlf.commits import CommitTracker
from hlf.gateway import Gateway
from hlf.identity import SigningIdentity
from sqlalchemy.ext.asyncio import AsyncEngine
from support.hlf_blocks import Chain, new_envelope, new_member
from support.hlf_peer import ScriptedPeer, endorsed, evaluated, failing, gateway_to, hanging, scripted_peer, submitted

SERVICE: SigningIdentity = new_member("HospitalA")
VALID, MVCC, POLICY_FAILURE = b"\x00", b"\x0b", b"\x0a"
HOSPITALS = ["HospitalB", "HospitalA", "HospitalC"]


@dataclass
class Network:
    peer: ScriptedPeer
    gateway: Gateway
    chain: Chain
    ledger: Ledger
    transactions: TransactionStore
    engine: AsyncEngine

    async def add_block(self, ids: Sequence[str], codes: bytes) -> None:
        block = self.chain.add([new_envelope(SERVICE)[1] for _ in ids], codes)
        await self.peer.add_block(block, ids)

    def orders_with(self, code: bytes) -> None:
        """The next submission ends in a block with this validation code."""

        async def order(request: Any, context: Any) -> Any:
            await self.add_block([request.transaction_id], code)
            return await submitted(request, context)

        self.peer.script.setdefault("Submit", []).append(order)

    def endorsers_asked(self) -> list[list[str]]:
        return [list(request.endorsing_organizations) for name, request in self.peer.calls if name == "Endorse"]


def defined(policy: bytes | str, approved: Sequence[str] = HOSPITALS) -> Any:
    """QueryChaincodeDefinition, with that endorsement policy."""
    definition = ChaincodeDefinition("emr", "1.0", 1, policy)

    async def answer(request: Any, context: Any) -> Any:
        response = await evaluated(request, context)
        response.result.payload = lifecycle_pb2.QueryChaincodeDefinitionResult(
            sequence=1,
            version="1.0",
            validation_parameter=definition.validation_parameter,
            approvals=dict.fromkeys(approved, True),
        ).SerializeToString()
        return response

    return answer


ALL = defined(policies.parse("AND('HospitalB.peer','HospitalA.peer','HospitalC.peer')"))
TWO = defined(policies.parse("AND('HospitalB.peer','HospitalA.peer')"))
MAJORITY = defined("/Channel/Application/Endorsement")


@asynccontextmanager
async def network(engine: AsyncEngine, *, commit_timeout_seconds: float = 5) -> AsyncIterator[Network]:
    settings = LedgerSettings(
        endpoints=("127.0.0.1:1",),
        tls_ca_file=Path("/none"),
        identity_dir=Path("/none"),
        commit_timeout_seconds=commit_timeout_seconds,
    )
    async with (
        scripted_peer() as peer,
        gateway_to(peer) as gateway,
        TransactionStore(engine).running() as transactions,
    ):
        chain = Chain()
        await peer.add_block(chain.add([new_envelope(SERVICE)[1]], VALID), ["genesis"])
        peer.script["Evaluate"] = [ALL]
        async with CommitTracker(gateway, SERVICE, "care") as tracker:
            ledger = Ledger(settings, gateway, tracker, SERVICE, transactions)
            yield Network(peer, gateway, chain, ledger, transactions, engine)


@pytest.fixture
async def net(engine: AsyncEngine) -> AsyncIterator[Network]:
    async with network(engine) as running:
        yield running


@pytest.fixture
def caller() -> Caller:
    signer = new_member("HospitalA")
    return Caller("i", "s", f"h-{secrets.token_hex(8)}", Role.HEALTHCENTER, None, None, signer.certificate_pem, signer)


async def row_of(net: Network, transaction_id: str, state: str) -> Any:
    """The transaction's row once it has that state: outcomes are written a little later."""
    query = sa.select(table).where(table.c.transaction_id == transaction_id)
    async with asyncio.timeout(5):
        while True:
            async with net.engine.connect() as connection:
                row = (await connection.execute(query)).mappings().one_or_none()
            if row is not None and row["state"] == state:
                return row
            await asyncio.sleep(0.02)


async def test_a_write_is_endorsed_by_all_hospitals_and_settled_by_its_block(net: Network, caller: Caller) -> None:
    net.orders_with(VALID)
    committed = await net.ledger.submit(caller, Function.CREATE_EMR, "e", "p", "k", "c", "s")
    assert (committed.block, committed.result) == (1, b"result")
    assert committed.ids() == {"transactionId": committed.transaction_id, "block": 1}
    assert net.endorsers_asked() == [["HospitalA", "HospitalB", "HospitalC"]]
    assert net.peer.count("CommitStatus") == 0
    row = await row_of(net, committed.transaction_id, "committed")
    assert (row["caller"], row["function"], row["block"]) == (caller.enrolment_id, "CreateEmr", 1)


async def test_an_ending_is_endorsed_by_the_own_hospital_alone(net: Network, caller: Caller) -> None:
    net.orders_with(VALID)
    await net.ledger.submit(caller, Function.ERASE_EMR, "e")
    assert net.endorsers_asked() == [["HospitalA"]]


async def test_an_evaluation_asks_own_peers_only(net: Network, caller: Caller) -> None:
    net.peer.script["Evaluate"] = []
    assert await net.ledger.evaluate(caller, Function.READ_EMR, "e") == b"answer"
    (request,) = [request for name, request in net.peer.calls if name == "Evaluate"]
    assert list(request.target_organizations) == ["HospitalA"]


async def test_the_definition_is_asked_for_once_a_minute(net: Network, caller: Caller) -> None:
    for _ in range(3):
        net.orders_with(VALID)
        await net.ledger.submit(caller, Function.CREATE_EMR)
    assert net.peer.count("Evaluate") == 1


def silent(*msp_ids: str) -> Any:
    details = [(f"{one}:7051", one, "code = Unavailable desc = connection refused") for one in msp_ids]
    return failing(grpc.StatusCode.ABORTED, "failed to collect enough transaction endorsements", *details)


async def test_a_write_that_missed_a_new_hospital_is_endorsed_anew_by_all(net: Network, caller: Caller) -> None:
    net.peer.script["Evaluate"] = [TWO, ALL]
    net.orders_with(POLICY_FAILURE)
    net.orders_with(VALID)
    committed = await net.ledger.submit(caller, Function.ADD_EMR_NOTE)
    assert committed.block == 2
    assert net.endorsers_asked() == [["HospitalA", "HospitalB"], ["HospitalA", "HospitalB", "HospitalC"]]


async def test_where_all_endorse_a_silent_hospital_is_named(net: Network, caller: Caller) -> None:
    net.peer.script["Endorse"] = [silent("HospitalC")]
    with pytest.raises(Problem) as failure:
        await net.ledger.submit(caller, Function.ADD_EMR_NOTE)
    assert failure.value.code is Code.HOSPITAL_UNAVAILABLE
    assert failure.value.members["hospital"] == "HospitalC"


async def test_where_a_majority_suffices_a_write_goes_on_without_a_silent_hospital(
    net: Network, caller: Caller
) -> None:
    net.peer.script["Evaluate"] = [MAJORITY]
    net.peer.script["Endorse"] = [silent("HospitalC")]
    for _ in range(2):
        net.orders_with(VALID)
        await net.ledger.submit(caller, Function.ADD_EMR_NOTE)
    without = ["HospitalA", "HospitalB"]
    assert net.endorsers_asked() == [["HospitalA", "HospitalB", "HospitalC"], without, without]


async def test_a_hospital_that_hung_is_waited_for_only_shortly_until_it_answers(
    net: Network, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endorsers, "SHORT_SECONDS", 0.3)
    hung = ("c:7051", "HospitalC", "rpc error: code = DeadlineExceeded desc = context deadline exceeded")
    net.peer.script["Endorse"] = [failing(grpc.StatusCode.ABORTED, "failed to collect", hung), hanging()]
    for _ in range(2):
        with pytest.raises(Problem) as failure:
            await net.ledger.submit(caller, Function.ADD_EMR_NOTE)
        assert (failure.value.code, failure.value.members["hospitals"]) == (Code.HOSPITAL_UNAVAILABLE, ["HospitalC"])
    monkeypatch.setattr(endorsers, "SHORT_SECONDS", 30)
    net.orders_with(VALID)
    await net.ledger.submit(caller, Function.ADD_EMR_NOTE)
    monkeypatch.setattr(endorsers, "SHORT_SECONDS", 0)
    net.orders_with(VALID)
    await net.ledger.submit(caller, Function.ADD_EMR_NOTE)


async def test_by_a_majority_a_hospital_that_hangs_still_is_left_out_for_longer(
    net: Network, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endorsers, "ABSENT_SECONDS", (0.0, 600.0))
    monkeypatch.setattr(endorsers, "SHORT_SECONDS", 0.3)
    net.peer.script["Evaluate"] = [MAJORITY]
    net.peer.script["Endorse"] = [silent("HospitalC"), hanging()]
    for _ in range(2):
        net.orders_with(VALID)
        await net.ledger.submit(caller, Function.ADD_EMR_NOTE)
    everybody, without = ["HospitalA", "HospitalB", "HospitalC"], ["HospitalA", "HospitalB"]
    assert net.endorsers_asked() == [everybody, everybody, without, without]


@pytest.mark.parametrize(
    ("function", "arguments", "owner"),
    [
        (Function.REQUEST_EMR_ACCESS, ("HospitalC", "p", "TREAT"), "HospitalC"),
        (Function.GET_SHARED_EMR, ("HospitalC", "p", "TREAT"), "HospitalC"),
        (Function.SHARE_EMR_SNAPSHOT, ("e", "HospitalB", "1", "s"), "HospitalB"),
    ],
)
async def test_no_majority_writes_without_the_hospital_that_it_is_about(
    net: Network, caller: Caller, function: Function, arguments: tuple[str, ...], owner: str
) -> None:
    net.peer.script["Evaluate"] = [MAJORITY]
    net.peer.script["Endorse"] = [silent(owner)]
    with pytest.raises(Problem) as failure:
        await net.ledger.submit(caller, function, *arguments)
    assert (failure.value.code, failure.value.members["hospital"]) == (Code.HOSPITAL_UNAVAILABLE, owner)


@pytest.mark.parametrize(("definition", "is_sure"), [(ALL, True), (MAJORITY, False)])
async def test_only_where_all_endorse_is_a_fact_sure_to_be_the_owners(
    net: Network, definition: Any, is_sure: bool
) -> None:
    net.peer.script["Evaluate"] = [definition]
    assert await net.ledger.is_endorsed_by_all() is is_sure


async def test_less_than_a_majority_writes_nothing(net: Network, caller: Caller) -> None:
    net.peer.script["Evaluate"] = [MAJORITY]
    net.peer.script["Endorse"] = [silent("HospitalB", "HospitalC")]
    with pytest.raises(Problem) as failure:
        await net.ledger.submit(caller, Function.ADD_EMR_NOTE)
    assert failure.value.code is Code.HOSPITAL_UNAVAILABLE


async def test_a_lost_race_is_a_conflict_that_may_be_tried_again(net: Network, caller: Caller) -> None:
    net.orders_with(MVCC)
    with pytest.raises(Problem) as failure:
        await net.ledger.submit(caller, Function.ADD_EMR_NOTE)
    assert failure.value.code is Code.CONFLICT
    assert failure.value.retriable
    assert failure.value.transaction_id is not None
    assert (await row_of(net, failure.value.transaction_id, "invalid"))["validation_code"] == "MVCC_READ_CONFLICT"


async def test_any_other_invalid_transaction_says_so(net: Network, caller: Caller) -> None:
    net.peer.script["Evaluate"] = [ALL, ALL]
    net.orders_with(POLICY_FAILURE)
    with pytest.raises(Problem) as failure:
        await net.ledger.submit(caller, Function.ADD_EMR_NOTE)
    assert failure.value.code is Code.TRANSACTION_INVALID
    assert failure.value.detail == "validation code ENDORSEMENT_POLICY_FAILURE"


async def test_a_submission_whose_answer_was_lost_is_settled_by_its_block(net: Network, caller: Caller) -> None:
    async def order_and_break_off(request: Any, context: Any) -> Any:
        await net.add_block([request.transaction_id], VALID)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    net.peer.script["Submit"] = [order_and_break_off]
    committed = await net.ledger.submit(caller, Function.CREATE_EMR)
    assert committed.block == 1
    assert net.peer.count("Submit") == 1


async def test_an_outcome_that_does_not_come_is_pending_and_not_submitted_again(
    engine: AsyncEngine, caller: Caller
) -> None:
    not_there = ("127.0.0.1:1", "HospitalA", "no such transaction ID [1f] in index")
    async with network(engine, commit_timeout_seconds=0.2) as net:
        net.peer.script["Evaluate"].append(failing(grpc.StatusCode.ABORTED, "failed to evaluate", not_there))
        with pytest.raises(OutcomePending) as pending:
            await net.ledger.submit(caller, Function.CREATE_EMR)
        await row_of(net, pending.value.transaction_id, "pending")
        assert net.peer.count("Submit") == 1


async def test_a_ledger_that_goes_away_after_the_submission_leaves_the_outcome_open(
    engine: AsyncEngine, caller: Caller
) -> None:
    """A definite failure would be taken for leave to undo what the transaction may still need."""
    async with network(engine, commit_timeout_seconds=0.3) as net:

        async def accept_and_leave(request: Any, context: Any) -> Any:
            asyncio.get_running_loop().call_later(0.1, lambda: stopping.append(asyncio.create_task(net.peer.stop())))
            return await submitted(request, context)

        stopping: list[asyncio.Task[None]] = []
        net.peer.script["Submit"] = [accept_and_leave]
        with pytest.raises(OutcomePending):
            await net.ledger.submit(caller, Function.CREATE_EMR)
        await asyncio.gather(*stopping)


async def test_a_refused_submission_is_a_failure_and_leaves_nothing_pending(net: Network, caller: Caller) -> None:
    net.peer.script["Submit"] = [failing(grpc.StatusCode.PERMISSION_DENIED, "no")]
    with pytest.raises(Problem) as failure:
        await net.ledger.submit(caller, Function.CREATE_EMR)
    assert failure.value.code is Code.LEDGER_UNAVAILABLE
    assert await net.transactions.find(str(failure.value.transaction_id)) is None


def denied(msp_id: str) -> Any:
    said = "error validating proposal: access denied: channel [care] creator org [HospitalA]"
    return failing(grpc.StatusCode.ABORTED, "failed to endorse", (f"{msp_id}:7051", msp_id, said))


FORBIDDEN = failing(grpc.StatusCode.ABORTED, "received unsuccessful response from orderer: status=FORBIDDEN, info=no")


@pytest.mark.parametrize(("step", "answer"), [("Endorse", denied("HospitalA")), ("Submit", FORBIDDEN)])
async def test_a_certificate_that_is_refused_is_told_to_its_holder_alone(
    net: Network, caller: Caller, step: str, answer: Any
) -> None:
    for who, code in ((caller, Code.CERTIFICATE_REFUSED), (net.ledger.service, Code.LEDGER_UNAVAILABLE)):
        net.peer.script[step] = [answer]
        with pytest.raises(Problem) as failure:
            await net.ledger.submit(who, Function.ADD_EMR_NOTE)
        assert failure.value.code is code
    assert net.peer.count("Submit") == (2 if step == "Submit" else 0)


async def test_a_refused_query_is_told_to_its_holder_alone(net: Network, caller: Caller) -> None:
    for who, code in ((caller, Code.CERTIFICATE_REFUSED), (net.ledger.service, Code.LEDGER_UNAVAILABLE)):
        net.peer.script["Evaluate"] = [denied("HospitalA")]
        with pytest.raises(Problem) as failure:
            await net.ledger.evaluate(who, Function.READ_EMR, "e")
        assert failure.value.code is code


async def test_a_certificate_that_only_another_hospital_refuses_is_offered_again(net: Network, caller: Caller) -> None:
    """The own peer may lack the block that revokes it, or the other one the block that makes it good."""
    net.peer.script["Endorse"] = [denied("HospitalB"), denied("HospitalB"), endorsed]
    net.orders_with(VALID)
    await net.ledger.submit(caller, Function.ADD_EMR_NOTE)
    assert net.peer.count("Endorse") == 3


async def test_the_journal_knows_the_id_before_anything_is_submitted(net: Network, caller: Caller) -> None:
    class Refusing:
        async def submitting(self, transaction_id: str, result: bytes) -> None:
            assert result == b"result"
            raise RuntimeError(transaction_id)

    with pytest.raises(RuntimeError):
        await net.ledger.submit(caller, Function.CREATE_EMR, journal=Refusing())
    assert net.peer.count("Submit") == 0


async def test_a_transaction_is_shown_to_its_signer_only(net: Network, caller: Caller) -> None:
    net.orders_with(VALID)
    committed = await net.ledger.submit(caller, Function.CREATE_EMR)
    await row_of(net, committed.transaction_id, "committed")
    status = await status_of(net.ledger, net.transactions, caller, committed.transaction_id)
    assert status.document() == {
        "transactionId": committed.transaction_id,
        "function": "CreateEmr",
        "state": "committed",
        "block": 1,
        "validationCode": "VALID",
    }
    stranger = Caller("i", "s2", "h-other", Role.HEALTHCENTER, None, None, b"", None)
    for asking, transaction_id in ((stranger, committed.transaction_id), (caller, "0" * 64)):
        with pytest.raises(Problem) as failure:
            await status_of(net.ledger, net.transactions, asking, transaction_id)
        assert failure.value.code is Code.TRANSACTION_NOT_FOUND


async def test_a_block_above_the_ledger_is_unknown_and_one_not_projected_is_waited_for(net: Network) -> None:
    positions = Positions(net.engine, net.ledger.tracker)
    async with net.engine.begin() as connection:
        await connection.execute(sa.delete(position))
    await positions.wait_for(None)
    with pytest.raises(Problem) as unknown:
        await positions.wait_for(1)
    assert unknown.value.code is Code.BLOCK_UNKNOWN
    with pytest.raises(Problem) as behind:
        await positions.wait_for(0, timeout_seconds=0.1)
    assert behind.value.code is Code.INDEX_BEHIND
    waiting = asyncio.create_task(positions.wait_for(0))
    rows = [{"partition": n, "block": 3 * n, "marked_at": sa.func.now()} for n in range(2)]
    async with net.engine.begin() as connection:
        for row in rows:
            await connection.execute(sa.insert(position).values(row))
    await asyncio.wait_for(waiting, 5)
    assert await positions.as_of_block() == 0
