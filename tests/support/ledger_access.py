"""The stack's ledger without any service in between: people's own certificates, and the blocks that peers give."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
from emr_common.sealing import WrappingKey
from emr_common.wallet import Wallet
from emr_deploy.clients import issuer_url
from emr_model.ledger.codes import Code
from emr_model.ledger.functions import Endorsers, Function
from emr_model.ledger.refusals import parse_refusal
from emr_network.enrolment import Enrolment
from emr_network.material import peer_organization
from emr_readmodel import engine as engines
from hlf.blocks import Block, BlockTransaction
from hlf.commits import Commit, CommitTracker
from hlf.deliver import deliver
from hlf.errors import HlfError
from hlf.gateway import Endpoint, Gateway, Transaction
from hlf.identity import SigningIdentity
from support.stack import Actor, Stack

CHANNEL, CHAINCODE = "care", "emr"
ENDORSEMENT_POLICY_FAILURE = "ENDORSEMENT_POLICY_FAILURE"


@dataclass
class LedgerAccess:
    """Calls go to the peer of the caller's own hospital, as those of its services do."""

    stack: Stack
    gateways: Mapping[str, Gateway]
    trackers: Mapping[str, CommitTracker]

    async def signer(self, actor: Actor) -> SigningIdentity:
        """The certificate and key that the hospital's wallet holds for somebody."""
        home, hospital = self.stack.home, actor.organization
        engine = engines.create(home.secret(hospital, "database-url").read_text(), 1)
        try:
            keyset = WrappingKey.from_file(home.secret(hospital, "wallet.keyset"))
            wallet = Wallet(engine, keyset, self.stack.msp_id(hospital))
            caller = await wallet.find(issuer_url(self.stack.system.ports, hospital), actor.subject)
        finally:
            await engine.dispose()
        assert caller is not None
        return caller.signer

    def service(self, organization: str) -> SigningIdentity:
        """The hospital's own service identity."""
        folder = Enrolment(self.stack.home, self.stack.hospital(organization), self.stack.system.ports).service_folder
        return SigningIdentity.from_msp_dir(folder, self.stack.msp_id(organization))

    async def evaluate(self, actor: Actor, function: Function, *arguments: str) -> bytes:
        gateway = self.gateways[actor.organization]
        contract = gateway.contract(await self.signer(actor), CHANNEL, CHAINCODE)
        own = [self.stack.msp_id(actor.organization)]
        return await contract.evaluate(function.wire_name, *arguments, target_organizations=own)

    async def endorse(
        self, actor: Actor, function: Function, *arguments: str, transient: Mapping[str, bytes] | None = None
    ) -> Transaction:
        """Endorsed by those whom the function's spec names."""
        own = self.stack.msp_id(actor.organization)
        everybody = [own, *(one.msp_id for one in self.stack.system.topology.organizations if one.msp_id != own)]
        endorsers = everybody if function.spec.endorsers is Endorsers.ALL else [own]
        contract = self.gateways[actor.organization].contract(await self.signer(actor), CHANNEL, CHAINCODE)
        proposal = contract.propose(
            function.wire_name, *arguments, transient=transient, endorsing_organizations=endorsers
        )
        return await proposal.endorse()

    async def refusal(self, actor: Actor, function: Function, *arguments: str) -> Code:
        """The code with which the contract refuses a call, though no service stands before it."""
        with pytest.raises(HlfError) as caught:
            await self.endorse(actor, function, *arguments)
        answer = caught.value.chaincode_response
        refusal = None if answer is None else parse_refusal(answer[1])
        assert refusal is not None, f"no refusal of the contract's: {caught.value}"
        return refusal.code

    async def commit(self, organization: str, transaction: Transaction) -> Commit:
        """How a transaction ended, valid or not."""
        pending = self.trackers[organization].expect(transaction.transaction_id)
        await transaction.submit()
        return await pending.outcome(30)

    async def blocks(self, organization: str, start: int = 0) -> list[Block]:
        """All blocks from `start` on, as the hospital's peer has them; their chain is checked on the way."""
        newest = self.stack.height - 1
        if start > newest:
            return []
        gateway, reader = self.gateways[organization], self.service(organization)
        return [block async for block in deliver(gateway, reader, CHANNEL, start=start, stop=newest)]

    async def transactions(self, organization: str, start: int = 0) -> dict[str, tuple[int, BlockTransaction]]:
        """By id: the number of its block, and the transaction; of one that was handed in again, the first."""
        found: dict[str, tuple[int, BlockTransaction]] = {}
        for block in await self.blocks(organization, start):
            for one in block.transactions:
                found.setdefault(one.transaction_id, (block.number, one))
        return found


@asynccontextmanager
async def ledger_access(stack: Stack) -> AsyncIterator[LedgerAccess]:
    async with AsyncExitStack() as running:
        access = LedgerAccess(stack, {}, {})
        gateways, trackers = {}, {}
        for organization in stack.system.topology.organizations:
            name = organization.name
            certificate = peer_organization(stack.home, organization).tls_ca_certificate.read_bytes()
            endpoint = Endpoint(stack.system.ports.address(f"peer-{name}"), certificate)
            gateways[name] = await running.enter_async_context(Gateway([endpoint]))
            tracker = CommitTracker(gateways[name], access.service(name), CHANNEL)
            trackers[name] = await running.enter_async_context(tracker)
        access.gateways, access.trackers = gateways, trackers
        yield access
