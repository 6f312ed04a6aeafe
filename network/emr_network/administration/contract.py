"""The contract's definition on a running channel: installed, approved by each member from here, put in force."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hlf.admin.errors import LifecycleError
from hlf.admin.lifecycle import ChaincodeDefinition, CommittedDefinition, Lifecycle, is_passing
from hlf.admin.packaging import ChaincodePackage
from hlf.admin.peer import PeerAdmin
from hlf.errors import HlfError
from hlf.gateway import Gateway

from emr_network.administration.consortium import Administrator, Consortium
from emr_network.waiting import eventually

T = TypeVar("T")


@dataclass(frozen=True)
class Contract:
    """The chaincode `name` of a consortium. All raise HlfError."""

    consortium: Consortium
    name: str

    async def in_force(self) -> CommittedDefinition:
        """Raises LifecycleError when nothing is."""
        anybody = next(iter(self.consortium.administrators.values()))
        committed = await self._asked(anybody, lambda one: one.committed(self.name))
        if committed is None:
            raise LifecycleError(f"{self.name} is not deployed on {self.consortium.channel}")
        return committed

    async def install(self, msp_id: str, package: ChaincodePackage) -> None:
        """On every peer of a member."""
        administrator = self.consortium.administrators[msp_id]
        for endpoint in administrator.peers:
            async with PeerAdmin(endpoint, administrator.identity) as peer:
                if await eventually(lambda peer=peer: peer.install(package)):  # type: ignore[misc]
                    self.consortium.say(f"made   {package.label} installed at {msp_id}, {endpoint.address}")

    async def approve(self, msp_id: str, definition: ChaincodeDefinition, package_id: str) -> None:
        administrator = self.consortium.administrators[msp_id]
        if await self._asked(administrator, lambda one: one.approve(definition, package_id)):
            self.consortium.say(f"made   {msp_id}'s approval of {_told(definition)}")

    async def redefine(
        self,
        version: str,
        policy: bytes | str,
        approving: Sequence[str],
        packages: Mapping[str, ChaincodePackage] | None = None,
    ) -> ChaincodeDefinition:
        """Puts another version or endorsement policy in force as the next sequence, and gives what is in force then.

        `approving` approve it, with the package of `packages` or the one that each has approved so far. A network that
        has just this in force is left alone.
        """
        current = (await self.in_force()).definition
        if (current.version, current.policy) == (version, policy):
            return current
        following = ChaincodeDefinition(self.name, version, current.sequence + 1, policy)
        for msp_id in approving:
            package_id = packages[msp_id].package_id if packages else await self._package_of(msp_id, current)
            await self.approve(msp_id, following, package_id)
        first = self.consortium.administrators[approving[0]]
        if await self._asked(first, lambda one: one.commit(following, approving), _is_behind):
            self.consortium.say(f"made   {_told(following)} in force")
        return following

    async def _package_of(self, msp_id: str, definition: ChaincodeDefinition) -> str:
        """Looks back: an organization need not have approved anew what only changed the policy."""
        administrator = self.consortium.administrators[msp_id]
        for sequence in range(definition.sequence, 0, -1):
            found = await self._asked(administrator, lambda one, at=sequence: one.approved(self.name, at))  # type: ignore[misc]
            if found is not None:
                return str(found[1])
        raise LifecycleError(f"{msp_id} has approved no {self.name}")

    async def _asked(
        self,
        administrator: Administrator,
        step: Callable[[Lifecycle], Awaitable[T]],
        passes: Callable[[HlfError], bool] = is_passing,
    ) -> T:
        async with Gateway(administrator.peers) as gateway:
            lifecycle = Lifecycle(gateway, administrator.identity, self.consortium.channel)
            return await eventually(lambda: step(lifecycle), passes)


def _is_behind(error: HlfError) -> bool:
    """A peer that has not committed yet what another hospital's has does not know that hospital's approval."""
    return is_passing(error) or "is not approved by" in error.message


def _told(definition: ChaincodeDefinition) -> str:
    return f"{definition.name} {definition.version}, sequence {definition.sequence}"
