"""The chaincode lifecycle of a channel: organizations approve a definition each, and then one commits it.

Every step goes through an organization's own gateway (`core/chaincode/lifecycle/scc.go`), none to an orderer. Doing
a step twice changes nothing and says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from fabric_protos.peer import policy_pb2
from fabric_protos.peer.lifecycle import lifecycle_pb2

from hlf.admin.errors import LifecycleError
from hlf.errors import EndorseError, EvaluateError, HlfError, TransactionInvalid
from hlf.gateway import Gateway
from hlf.identity import Signer

_CHAINCODE = "_lifecycle"
_NOT_DEFINED = "is not defined"
_NOT_APPROVED = "could not fetch approved chaincode definition"


@dataclass(frozen=True)
class ChaincodeDefinition:
    """What the organizations agree on.

    `policy` is a serialized `common.SignaturePolicyEnvelope` (see `hlf.policies`), or the path of a policy in the
    channel's configuration.
    """

    name: str
    version: str
    sequence: int
    policy: bytes | str

    @property
    def validation_parameter(self) -> bytes:
        """A serialized `protos.ApplicationPolicy`."""
        if isinstance(self.policy, str):
            policy = policy_pb2.ApplicationPolicy(channel_config_policy_reference=self.policy)
        else:
            policy = policy_pb2.ApplicationPolicy()
            policy.signature_policy.MergeFromString(self.policy)
        return bytes(policy.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class CommittedDefinition:
    """A definition in force, and which organizations have approved it (the others cannot endorse with it)."""

    definition: ChaincodeDefinition
    approvals: Mapping[str, bool]


class Lifecycle:
    """The lifecycle as seen by an administrator of one organization through its gateway."""

    def __init__(self, gateway: Gateway, admin: Signer, channel: str) -> None:
        self._gateway = gateway
        self._admin = admin
        self._channel = channel

    async def approve(self, definition: ChaincodeDefinition, package_id: str) -> bool:
        """Approves for the own organization, naming the package that its peers run. False if it had approved just that.

        Raises LifecycleError, which names the next sequence where another one was asked for.
        """
        if await self.approved(definition.name, definition.sequence) == (definition, package_id):
            return False
        source = lifecycle_pb2.ChaincodeSource(local_package=lifecycle_pb2.ChaincodeSource.Local(package_id=package_id))
        arguments = lifecycle_pb2.ApproveChaincodeDefinitionForMyOrgArgs(source=source, **_fields(definition))
        await self._submit("ApproveChaincodeDefinitionForMyOrg", arguments, [self._admin.msp_id])
        return True

    async def approved(self, name: str, sequence: int) -> tuple[ChaincodeDefinition, str] | None:
        """What the own organization has approved for `name` at that sequence, and with which package; None if nothing.

        Raises LifecycleError.
        """
        arguments = lifecycle_pb2.QueryApprovedChaincodeDefinitionArgs(name=name, sequence=sequence)
        try:
            answer = await self._evaluate("QueryApprovedChaincodeDefinition", arguments)
        except LifecycleError as error:
            if _NOT_APPROVED in str(error):
                return None
            raise
        found = lifecycle_pb2.QueryApprovedChaincodeDefinitionResult.FromString(answer)
        definition = ChaincodeDefinition(name, found.version, found.sequence, _policy(found.validation_parameter))
        return definition, found.source.local_package.package_id

    async def readiness(self, definition: ChaincodeDefinition) -> Mapping[str, bool]:
        """Which organizations have approved just this definition, the next to be committed. Raises LifecycleError."""
        arguments = lifecycle_pb2.CheckCommitReadinessArgs(**_fields(definition))
        answer = await self._evaluate("CheckCommitReadiness", arguments)
        return dict(lifecycle_pb2.CheckCommitReadinessResult.FromString(answer).approvals)

    async def commit(self, definition: ChaincodeDefinition, organizations: Sequence[str]) -> bool:
        """Puts the definition in force, endorsed by `organizations`. False if it is in force already.

        Raises LifecycleError, which names those who have not approved.
        """
        current = await self.committed(definition.name)
        if current is not None and current.definition == definition:
            return False
        await self._require_readiness(definition, organizations)
        arguments = lifecycle_pb2.CommitChaincodeDefinitionArgs(**_fields(definition))
        await self._submit("CommitChaincodeDefinition", arguments, organizations)
        return True

    async def committed(self, name: str) -> CommittedDefinition | None:
        """The definition in force, None if there is none. Raises LifecycleError."""
        try:
            answer = await self._evaluate(
                "QueryChaincodeDefinition", lifecycle_pb2.QueryChaincodeDefinitionArgs(name=name)
            )
        except LifecycleError as error:
            if _NOT_DEFINED in str(error):
                return None
            raise
        found = lifecycle_pb2.QueryChaincodeDefinitionResult.FromString(answer)
        definition = ChaincodeDefinition(name, found.version, found.sequence, _policy(found.validation_parameter))
        return CommittedDefinition(definition, dict(found.approvals))

    async def _require_readiness(self, definition: ChaincodeDefinition, organizations: Sequence[str]) -> None:
        ready = await self.readiness(definition)
        missing = sorted(msp_id for msp_id in organizations if not ready.get(msp_id))
        if missing:
            raise LifecycleError(
                f"{definition.name} sequence {definition.sequence} is not approved by {', '.join(missing)}"
            )

    async def _submit(self, function: str, arguments: Any, endorsing_organizations: Sequence[str]) -> None:
        contract = self._gateway.contract(self._admin, self._channel, _CHAINCODE)
        proposal = contract.propose(
            function, arguments.SerializeToString(), endorsing_organizations=endorsing_organizations
        )
        try:
            transaction = await proposal.endorse()
        except EndorseError as error:
            raise LifecycleError.of(error) from error
        await transaction.submit()
        status = await self._gateway.commit_status(self._admin, self._channel, transaction.transaction_id)
        if not status.is_valid:
            raise TransactionInvalid(transaction.transaction_id, status.validation_code, status.block_number)

    async def _evaluate(self, function: str, arguments: Any) -> bytes:
        contract = self._gateway.contract(self._admin, self._channel, _CHAINCODE)
        try:
            return await contract.evaluate(
                function, arguments.SerializeToString(), target_organizations=[self._admin.msp_id]
            )
        except EvaluateError as error:
            raise LifecycleError.of(error) from error


def is_passing(error: HlfError) -> bool:
    """Whether a step failed only because a network that has just started has not found itself yet."""
    return error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION)


def _fields(definition: ChaincodeDefinition) -> dict[str, Any]:
    return {
        "name": definition.name,
        "version": definition.version,
        "sequence": definition.sequence,
        "endorsement_plugin": "escc",
        "validation_plugin": "vscc",
        "validation_parameter": definition.validation_parameter,
    }


def _policy(validation_parameter: bytes) -> bytes | str:
    policy = policy_pb2.ApplicationPolicy.FromString(validation_parameter)
    if policy.WhichOneof("Type") == "channel_config_policy_reference":
        return str(policy.channel_config_policy_reference)
    return bytes(policy.signature_policy.SerializeToString(deterministic=True))
