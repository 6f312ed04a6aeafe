"""Short calls of a chaincode for tests, through hlf's client."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hlf.errors import HlfError
from hlf.gateway import CommitStatus, Gateway, Transaction
from hlf.identity import SigningIdentity

BOTH = ("HospitalA", "HospitalB")


@dataclass(frozen=True)
class Client:
    """`signer` calling one chaincode through `gateway`."""

    gateway: Gateway
    signer: SigningIdentity
    channel: str = "care"
    chaincode: str = "conformance"

    async def evaluate(
        self, name: str, *args: str, transient: Mapping[str, bytes] | None = None, targets: Sequence[str] = ()
    ) -> str:
        contract = self.gateway.contract(self.signer, self.channel, self.chaincode)
        return (await contract.evaluate(name, *args, transient=transient, target_organizations=targets)).decode()

    async def json(self, name: str, *args: str, **options: Any) -> Any:
        return json.loads(await self.evaluate(name, *args, **options))

    async def endorse(
        self, name: str, *args: str, transient: Mapping[str, bytes] | None = None, endorsers: Sequence[str] = BOTH
    ) -> Transaction:
        """With no `endorsers` the gateway plans by itself."""
        contract = self.gateway.contract(self.signer, self.channel, self.chaincode)
        return await contract.propose(name, *args, transient=transient, endorsing_organizations=endorsers).endorse()

    async def commit(self, transaction: Transaction) -> CommitStatus:
        await transaction.submit()
        return await self.status(transaction.transaction_id)

    async def status(self, transaction_id: str) -> CommitStatus:
        return await self.gateway.commit_status(self.signer, self.channel, transaction_id)

    async def submit(self, name: str, *args: str, **options: Any) -> CommitStatus:
        """A transaction that has to be valid."""
        status = await self.commit(await self.endorse(name, *args, **options))
        assert status.validation_code == 0, status
        return status

    async def refusal(self, name: str, *args: str, **options: Any) -> HlfError:
        """The error of an evaluation that has to fail."""
        with pytest.raises(HlfError) as caught:
            await self.evaluate(name, *args, **options)
        return caught.value
