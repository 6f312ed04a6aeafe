"""The system chaincode `_lifecycle`: packages of one peer, approvals of its organization, definitions of the channel.

What it reads and writes, and its texts, are those of `core/chaincode/lifecycle` (scc.go, lifecycle.go).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from fabric_protos.peer.lifecycle import db_pb2, lifecycle_pb2
from google.protobuf.message import DecodeError
from hlf import crypto
from hlf.admin.errors import PackageInvalid
from hlf.channel_config import IMPLICIT_PREFIX

from hlf_devnet import lifecycle
from hlf_devnet.lifecycle import (
    DEFINITIONS,
    ENDORSEMENT_PLUGIN,
    NAMESPACE,
    SOURCES,
    VALIDATION_PLUGIN,
    ChaincodeDefinition,
    Structure,
)
from hlf_devnet.packages import AlreadyInstalled, BuildFailed
from hlf_devnet.peer import Peer
from hlf_devnet.policy import channel_policy
from hlf_devnet.simulator import Simulator

FOR_ADMINISTRATORS: Final = frozenset(
    {
        "InstallChaincode",
        "QueryInstalledChaincode",
        "QueryInstalledChaincodes",
        "GetInstalledChaincodePackage",
        "ApproveChaincodeDefinitionForMyOrg",
        "QueryApprovedChaincodeDefinition",
        "QueryApprovedChaincodeDefinitions",
    }
)
"""Those that the peer's own MSP decides about; the others are resources of the channel."""
_NAME: Final = re.compile(r"[a-zA-Z0-9]+([-_][a-zA-Z0-9]+)*")
_VERSION: Final = re.compile(r"[A-Za-z0-9_.+-]+")
_SYSTEM_NAMES: Final = frozenset({"cscc", "escc", "lscc", "qscc", "vscc"})
_DEFAULT_POLICY: Final = channel_policy("/Channel/Application/Endorsement")


class LifecycleRefused(Exception):
    """The text is Fabric's; `status` is like HTTP's."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class _State:
    """A part of the ledger's `_lifecycle` namespace as a transaction sees it: public, or an organization's."""

    get: Callable[[str], bytes]
    put: Callable[[str, bytes], None]

    @classmethod
    def public(cls, simulator: Simulator) -> "_State":
        return cls(
            lambda key: simulator.get_state(NAMESPACE, key),
            lambda key, value: simulator.put_state(NAMESPACE, key, value),
        )

    @classmethod
    def of_organization(cls, simulator: Simulator, collection: str) -> "_State":
        return cls(
            lambda key: simulator.get_private(NAMESPACE, collection, key),
            lambda key, value: simulator.put_private(NAMESPACE, collection, key, value),
        )

    def serialize(self, namespace: str, name: str, structure: Structure) -> None:
        """Writes only what differs from what is there."""
        entries = structure.entries(namespace, name)
        metadata = lifecycle.metadata_key(namespace, name)
        present = db_pb2.StateMetadata.FromString(self.get(metadata))
        existing = {
            key: self.get(key) for key in (lifecycle.field_key(namespace, name, field) for field in present.fields)
        }
        for key, value in entries.items():
            if key != metadata and existing.pop(key, None) != value:
                self.put(key, value)
        if existing or (present.datatype, list(present.fields)) != (structure.datatype, list(structure.fields)):
            self.put(metadata, entries[metadata])
        for key in existing:
            self.put(key, b"")


class LifecycleScc:
    """That of one peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        of_peer: dict[str, tuple[Any, Callable[[Any], Any]]] = {
            "InstallChaincode": (lifecycle_pb2.InstallChaincodeArgs, self._install),
            "QueryInstalledChaincode": (lifecycle_pb2.QueryInstalledChaincodeArgs, self._query_installed),
            "QueryInstalledChaincodes": (lifecycle_pb2.QueryInstalledChaincodesArgs, self._query_all_installed),
            "GetInstalledChaincodePackage": (lifecycle_pb2.GetInstalledChaincodePackageArgs, self._get_package),
        }
        of_channel: dict[str, tuple[Any, Callable[[Any, Simulator], Any]]] = {
            "ApproveChaincodeDefinitionForMyOrg": (lifecycle_pb2.ApproveChaincodeDefinitionForMyOrgArgs, self._approve),
            "QueryApprovedChaincodeDefinition": (
                lifecycle_pb2.QueryApprovedChaincodeDefinitionArgs,
                self._query_approved,
            ),
            "QueryApprovedChaincodeDefinitions": (
                lifecycle_pb2.QueryApprovedChaincodeDefinitionsArgs,
                self._query_all_approved,
            ),
            "CheckCommitReadiness": (lifecycle_pb2.CheckCommitReadinessArgs, self._check_readiness),
            "CommitChaincodeDefinition": (lifecycle_pb2.CommitChaincodeDefinitionArgs, self._commit),
            "QueryChaincodeDefinition": (lifecycle_pb2.QueryChaincodeDefinitionArgs, self._query_definition),
            "QueryChaincodeDefinitions": (lifecycle_pb2.QueryChaincodeDefinitionsArgs, self._query_definitions),
        }
        self._of_peer = of_peer
        self._of_channel = of_channel

    def knows(self, function: str) -> bool:
        return function in self._of_peer or function in self._of_channel

    def invoke(self, function: str, argument: bytes, simulator: Simulator | None) -> bytes:
        """The function's result, serialized. `simulator` is None in a call without a channel. LifecycleRefused."""
        failed = f"failed to invoke backing implementation of '{function}': "
        try:
            return bytes(self._result(function, argument, simulator).SerializeToString())
        except LifecycleRefused as refused:
            if refused.status == 500:
                raise LifecycleRefused(failed + str(refused)) from refused
            raise
        except DecodeError as error:
            raise LifecycleRefused(f"{failed}could not decode input arg for {function}: malformed") from error

    def _result(self, function: str, argument: bytes, simulator: Simulator | None) -> Any:
        if function in self._of_peer:
            message, answer = self._of_peer[function]
            return answer(message.FromString(argument))
        if simulator is None:
            raise LifecycleRefused("could not get channelconfig for channel ''")
        message, judge = self._of_channel[function]
        return judge(message.FromString(argument), simulator)

    def _install(self, asked: Any) -> Any:
        try:
            package_id = self._peer.chaincodes.packages.install(asked.chaincode_install_package)
        except (AlreadyInstalled, BuildFailed) as error:
            raise LifecycleRefused(str(error)) from error
        except PackageInvalid as error:
            raise LifecycleRefused(f"could not parse as a chaincode install package: {error}") from error
        self._peer.chaincodes.refresh()
        return lifecycle_pb2.InstallChaincodeResult(label=package_id.rpartition(":")[0], package_id=package_id)

    def _query_installed(self, asked: Any) -> Any:
        label = self._peer.chaincodes.installed().get(asked.package_id)
        if label is None:
            raise LifecycleRefused(f"could not find chaincode with package id '{asked.package_id}'")
        result = lifecycle_pb2.QueryInstalledChaincodeResult(label=label, package_id=asked.package_id)
        self._refer(result)
        return result

    def _query_all_installed(self, _: Any) -> Any:
        result = lifecycle_pb2.QueryInstalledChaincodesResult()
        for package_id, label in sorted(self._peer.chaincodes.installed().items()):
            self._refer(result.installed_chaincodes.add(label=label, package_id=package_id))
        return result

    def _refer(self, installed: Any) -> None:
        for definition in self._peer.chaincodes.references(installed.package_id):
            reference = installed.references[self._peer.channel]
            reference.chaincodes.add(name=definition.name, version=definition.version)

    def _get_package(self, asked: Any) -> Any:
        try:
            content = self._peer.chaincodes.packages.content(asked.package_id)
        except KeyError as error:
            raise LifecycleRefused(
                f"could not load cc install package: chaincode install package '{asked.package_id}' not found"
            ) from error
        return lifecycle_pb2.GetInstalledChaincodePackageResult(chaincode_install_package=content)

    def _approve(self, asked: Any, simulator: Simulator) -> Any:
        definition = self._validated(asked, simulator)
        public, own = _State.public(simulator), self._own(simulator)
        current = _current_sequence(definition.name, public)
        self._check_sequence(definition, current)
        package_id = asked.source.local_package.package_id
        if definition.sequence == current:
            defined = lifecycle.read_definition(definition.name, public.get)
            if defined is not None and (difference := _difference(defined, definition)):
                raise LifecycleRefused(
                    f"attempted to redefine the current committed sequence ({current}) for namespace "
                    f"{definition.name} with different parameters: {difference}"
                )
        if self._is_approved_so(definition, package_id, own):
            raise LifecycleRefused(
                f"attempted to redefine the current committed sequence ({current}) for namespace {definition.name}"
                if definition.sequence == current
                else f"attempted to redefine uncommitted sequence ({definition.sequence}) for namespace "
                f"{definition.name} with unchanged content"
            )
        own.serialize(DEFINITIONS, definition.private_name, lifecycle.parameters_structure(definition))
        own.serialize(SOURCES, definition.private_name, lifecycle.source_structure(package_id))
        return lifecycle_pb2.ApproveChaincodeDefinitionForMyOrgResult()

    def _check_sequence(self, definition: ChaincodeDefinition, current: int) -> None:
        requested = definition.sequence
        if requested == current == 0:
            raise LifecycleRefused("requested sequence is 0, but first definable sequence number is 1")
        if requested < current:
            raise LifecycleRefused(
                f"currently defined sequence {current} is larger than requested sequence {requested}"
            )
        if requested > current + 1:
            raise LifecycleRefused(
                f"requested sequence {requested} is larger than the next available sequence number {current + 1}"
            )

    def _is_approved_so(self, definition: ChaincodeDefinition, package_id: str, own: _State) -> bool:
        approved = lifecycle.read_approved(definition.name, definition.sequence, own.get)
        if approved != definition:
            return False
        return lifecycle.read_source(definition.name, definition.sequence, own.get) == package_id

    def _query_approved(self, asked: Any, simulator: Simulator) -> Any:
        public, own = _State.public(simulator), self._own(simulator)
        sequence = asked.sequence
        if sequence == 0:
            sequence = _current_sequence(asked.name, public)
            following = lifecycle.metadata_key(DEFINITIONS, f"{asked.name}#{sequence + 1}")
            sequence += bool(own.get(following))
        found = self._approved(asked.name, sequence, own)
        if found is None:
            raise LifecycleRefused(
                f"could not fetch approved chaincode definition (name: '{asked.name}', sequence: '{sequence}') on "
                f"channel '{self._peer.channel}'"
            )
        return lifecycle_pb2.QueryApprovedChaincodeDefinitionResult(**found)

    def _query_all_approved(self, _: Any, simulator: Simulator) -> Any:
        own, prefix = self._own(simulator), lifecycle.metadata_key(DEFINITIONS, "")
        rows = simulator.private_range(NAMESPACE, self._peer.ledger.collection, prefix, prefix[:-1] + "0")
        result = lifecycle_pb2.QueryApprovedChaincodeDefinitionsResult()
        while (row := rows.next()) is not None:
            name, _, sequence = row.key.removeprefix(prefix).rpartition("#")
            found = self._approved(name, int(sequence), own)
            result.approved_chaincode_definitions.add(name=name, **(found or {}))
        return result

    def _approved(self, name: str, sequence: int, own: _State) -> dict[str, Any] | None:
        definition = lifecycle.read_approved(name, sequence, own.get)
        package_id = lifecycle.read_source(name, sequence, own.get) if definition is not None else None
        if definition is None or package_id is None:
            return None
        source = lifecycle_pb2.ChaincodeSource()
        if package_id:
            source.local_package.package_id = package_id
        else:
            source.unavailable.SetInParent()
        return {"source": source, **_fields(definition)}

    def _check_readiness(self, asked: Any, simulator: Simulator) -> Any:
        approvals, mismatches = self._readiness(_definition(asked), simulator)
        result = lifecycle_pb2.CheckCommitReadinessResult(approvals=approvals)
        for msp_id, items in mismatches.items():
            result.mismatches[msp_id].items.extend(items)
        return result

    def _readiness(
        self, definition: ChaincodeDefinition, simulator: Simulator
    ) -> tuple[dict[str, bool], dict[str, list[str]]]:
        current = _current_sequence(definition.name, _State.public(simulator))
        if definition.sequence != current + 1:
            raise LifecycleRefused(
                f"requested sequence is {definition.sequence}, but new definition must be sequence {current + 1}"
            )
        return self._approvals(definition, simulator)

    def _approvals(
        self, definition: ChaincodeDefinition, simulator: Simulator
    ) -> tuple[dict[str, bool], dict[str, list[str]]]:
        """Who has approved just this definition, and where the others differ. Hashes suffice."""
        structure = lifecycle.parameters_structure(definition)
        approvals, mismatches = {}, {}
        for msp_id in self._peer.access.organizations:
            found = _mismatches(structure, definition.private_name, simulator, IMPLICIT_PREFIX + msp_id)
            approvals[msp_id] = not found
            if found:
                mismatches[msp_id] = found
        return approvals, mismatches

    def _commit(self, asked: Any, simulator: Simulator) -> Any:
        definition = self._validated(asked, simulator)
        approvals, _ = self._readiness(definition, simulator)
        structure = lifecycle.definition_structure(definition)
        _State.public(simulator).serialize(DEFINITIONS, definition.name, structure)
        if not approvals.get(self._peer.msp_id):
            raise LifecycleRefused(f"chaincode definition not agreed to by this org ({self._peer.msp_id})")
        return lifecycle_pb2.CommitChaincodeDefinitionResult()

    def _query_definition(self, asked: Any, simulator: Simulator) -> Any:
        definition = lifecycle.read_definition(asked.name, _State.public(simulator).get)
        if definition is None:
            raise LifecycleRefused(f"namespace {asked.name} is not defined", status=404)
        approvals, _ = self._approvals(definition, simulator)
        return lifecycle_pb2.QueryChaincodeDefinitionResult(approvals=approvals, **_fields(definition))

    def _query_definitions(self, _: Any, simulator: Simulator) -> Any:
        result = lifecycle_pb2.QueryChaincodeDefinitionsResult()
        for name in lifecycle.defined_names(self._peer.ledger):
            definition = lifecycle.read_definition(name, _State.public(simulator).get)
            if definition is not None:
                result.chaincode_definitions.add(name=name, **_fields(definition))
        return result

    def _own(self, simulator: Simulator) -> _State:
        return _State.of_organization(simulator, self._peer.ledger.collection)

    def _validated(self, asked: Any, simulator: Simulator) -> ChaincodeDefinition:
        """Reads the definition in force, as Fabric does to compare collections; where there is none it asks its old
        lifecycle."""
        definition = _definition(asked)
        failed = "error validating chaincode definition: "
        if _NAME.fullmatch(asked.name) is None:
            raise LifecycleRefused(
                f"{failed}invalid chaincode name '{asked.name}'. Names can only consist of alphanumerics, '_', and '-' "
                "and can only begin with alphanumerics"
            )
        if asked.name in _SYSTEM_NAMES:
            raise LifecycleRefused(f"{failed}chaincode name '{asked.name}' is the name of a system chaincode")
        if _VERSION.fullmatch(asked.version) is None:
            raise LifecycleRefused(
                f"{failed}invalid chaincode version '{asked.version}'. Versions can only consist of alphanumerics, "
                "'_', '-', '+', and '.'"
            )
        if lifecycle.read_definition(asked.name, _State.public(simulator).get) is None:
            simulator.get_state("lscc", asked.name)
        return definition


def _definition(asked: Any) -> ChaincodeDefinition:
    """With Fabric's defaults for what is left out. LifecycleRefused for what devnet does not have."""
    if asked.init_required or asked.collections.config:
        what = "init-required chaincode" if asked.init_required else "collections of a chaincode's own"
        raise LifecycleRefused(f"devnet has no {what}")
    for plugin, only in (
        (asked.endorsement_plugin, ENDORSEMENT_PLUGIN),
        (asked.validation_plugin, VALIDATION_PLUGIN),
    ):
        if plugin not in ("", only):
            raise LifecycleRefused(f"devnet has no plugin {plugin}, only {only}")
    return ChaincodeDefinition(asked.name, asked.version, asked.sequence, asked.validation_parameter or _DEFAULT_POLICY)


def _current_sequence(name: str, public: _State) -> int:
    return int(db_pb2.StateData.FromString(public.get(lifecycle.sequence_key(name))).Int64)


def _difference(defined: ChaincodeDefinition, asked: ChaincodeDefinition) -> str:
    if defined.version != asked.version:
        return f"expected Version '{defined.version}' does not match passed Version '{asked.version}'"
    if defined.policy != asked.policy:
        return (
            f"expected ValidationParameter '{defined.policy.hex()}' does not match passed ValidationParameter "
            f"'{asked.policy.hex()}'"
        )
    return ""


def _mismatches(structure: Structure, name: str, simulator: Simulator, collection: str) -> list[str]:
    """Which fields an organization has not approved so; the datatype where it has approved nothing."""
    entries = structure.entries(DEFINITIONS, name)
    same = {
        key: simulator.get_private_hash(NAMESPACE, collection, key) == crypto.sha256(value)
        for key, value in entries.items()
    }
    if not same[lifecycle.metadata_key(DEFINITIONS, name)]:
        return [structure.datatype]
    return [field for field in structure.fields if not same[lifecycle.field_key(DEFINITIONS, name, field)]]


def _fields(definition: ChaincodeDefinition) -> dict[str, Any]:
    return {
        "sequence": definition.sequence,
        "version": definition.version,
        "endorsement_plugin": ENDORSEMENT_PLUGIN,
        "validation_plugin": VALIDATION_PLUGIN,
        "validation_parameter": definition.policy,
    }
