"""Chaincode definitions and approvals as they stand on the ledger, in the `_lifecycle` namespace.

A structure is stored field by field, under `namespaces` or `chaincode-sources`, beside a metadata entry that lists its
fields (`core/chaincode/lifecycle/serializer.go`). Definitions are public; what an organization approves, and with
which package, stands in its implicit collection, so that others can compare hashes and see no more.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

from fabric_protos.peer.lifecycle import chaincode_definition_pb2, db_pb2
from hlf import crypto

from hlf_devnet.ledger import PeerLedger
from hlf_devnet.rwset import key_hash
from hlf_devnet.state import Snapshot

NAMESPACE = "_lifecycle"
POLICY = "/Channel/Application/LifecycleEndorsement"
DEFINITIONS: Final = "namespaces"
SOURCES: Final = "chaincode-sources"
ENDORSEMENT_PLUGIN: Final = "escc"
VALIDATION_PLUGIN: Final = "vscc"
_SOURCE_KEY: Final = re.compile(rf"{SOURCES}/fields/(?P<name>[^/#]+)#(?P<sequence>\d+)/PackageID")


@dataclass(frozen=True, slots=True)
class ChaincodeDefinition:
    """`policy`: bytes of a `peer.ApplicationPolicy` (`policy.signature_policy`, `policy.channel_policy`)."""

    name: str
    version: str
    sequence: int
    policy: bytes

    @property
    def private_name(self) -> str:
        """Under which an organization approves it."""
        return f"{self.name}#{self.sequence}"


class Structure(NamedTuple):
    """`fields`: serialized `lifecycle.StateData` by name, in Fabric's order."""

    datatype: str
    fields: Mapping[str, bytes]

    def entries(self, namespace: str, name: str) -> dict[str, bytes]:
        """Every key with its value, the metadata entry included."""
        metadata = db_pb2.StateMetadata(datatype=self.datatype, fields=list(self.fields)).SerializeToString()
        fields = {field_key(namespace, name, field): value for field, value in self.fields.items()}
        return {metadata_key(namespace, name): metadata, **fields}


class Approval(NamedTuple):
    """`package_id` is empty when none was named, or none that the peer has."""

    is_given: bool
    package_id: str


def metadata_key(namespace: str, name: str) -> str:
    return f"{namespace}/metadata/{name}"


def field_key(namespace: str, name: str, field: str) -> str:
    return f"{namespace}/fields/{name}/{field}"


def sequence_key(chaincode: str) -> str:
    """The key that every transaction of a chaincode reads, so that one endorsed before an upgrade fails after it."""
    return field_key(DEFINITIONS, chaincode, "Sequence")


def definition_keys(chaincode: str) -> list[str]:
    """Every key of a definition: a peer reads them all when it looks up a chaincode's collections."""
    fields = ("Sequence", "EndorsementInfo", "ValidationInfo", "Collections")
    return [metadata_key(DEFINITIONS, chaincode), *(field_key(DEFINITIONS, chaincode, field) for field in fields)]


def definition_structure(definition: ChaincodeDefinition) -> Structure:
    sequence = db_pb2.StateData(Int64=definition.sequence).SerializeToString()
    return Structure("ChaincodeDefinition", {"Sequence": sequence, **_parameters(definition)})


def parameters_structure(definition: ChaincodeDefinition) -> Structure:
    """What an organization approves."""
    return Structure("ChaincodeParameters", _parameters(definition))


def source_structure(package_id: str) -> Structure:
    """With which package it does."""
    return Structure("ChaincodeLocalPackage", {"PackageID": db_pb2.StateData(String=package_id).SerializeToString()})


def _parameters(definition: ChaincodeDefinition) -> dict[str, bytes]:
    endorsement = chaincode_definition_pb2.ChaincodeEndorsementInfo(
        version=definition.version, endorsement_plugin=ENDORSEMENT_PLUGIN
    )
    validation = chaincode_definition_pb2.ChaincodeValidationInfo(
        validation_plugin=VALIDATION_PLUGIN, validation_parameter=definition.policy
    )
    contents = {
        "EndorsementInfo": endorsement.SerializeToString(),
        "ValidationInfo": validation.SerializeToString(),
        "Collections": b"",
    }
    return {name: db_pb2.StateData(Bytes=content).SerializeToString() for name, content in contents.items()}


def read_definition(name: str, get: Callable[[str], bytes]) -> ChaincodeDefinition | None:
    """The public definition of `name`, its keys read through `get` (empty: no value)."""
    metadata, *fields = definition_keys(name)
    if not get(metadata):
        return None
    sequence, endorsement, validation, _ = (db_pb2.StateData.FromString(get(field)) for field in fields)
    return _definition(name, sequence.Int64, endorsement.Bytes, validation.Bytes)


def read_approved(name: str, sequence: int, get: Callable[[str], bytes]) -> ChaincodeDefinition | None:
    """What an organization has approved, read in its collection."""
    private_name = f"{name}#{sequence}"
    if not get(metadata_key(DEFINITIONS, private_name)):
        return None
    fields = ("EndorsementInfo", "ValidationInfo", "Collections")
    endorsement, validation, _ = (
        db_pb2.StateData.FromString(get(field_key(DEFINITIONS, private_name, field))).Bytes for field in fields
    )
    return _definition(name, sequence, endorsement, validation)


def read_source(name: str, sequence: int, get: Callable[[str], bytes]) -> str | None:
    """The package that an organization has approved with, read in its collection; None when it approved nothing."""
    private_name = f"{name}#{sequence}"
    if not get(metadata_key(SOURCES, private_name)):
        return None
    return str(db_pb2.StateData.FromString(get(field_key(SOURCES, private_name, "PackageID"))).String)


def _definition(name: str, sequence: int, endorsement: bytes, validation: bytes) -> ChaincodeDefinition:
    version = chaincode_definition_pb2.ChaincodeEndorsementInfo.FromString(endorsement).version
    policy = chaincode_definition_pb2.ChaincodeValidationInfo.FromString(validation).validation_parameter
    return ChaincodeDefinition(name, version, sequence, policy)


def committed_definition(ledger: PeerLedger, name: str) -> ChaincodeDefinition | None:
    """The newest definition; remembered until a block changes one."""
    if name not in ledger.definitions:
        with ledger.snapshot() as snapshot:
            ledger.definitions[name] = definition_at(snapshot, name)
    return cast("ChaincodeDefinition | None", ledger.definitions[name])


def definition_at(snapshot: Snapshot, name: str) -> ChaincodeDefinition | None:
    """The definition that stands at the snapshot's height."""

    def get(key: str) -> bytes:
        value = snapshot.get(NAMESPACE, key)
        return b"" if value is None else value.value

    return read_definition(name, get)


def committed_names(snapshot: Snapshot) -> list[str]:
    """Every chaincode that is defined, by name."""
    prefix = metadata_key(DEFINITIONS, "")
    return [key.removeprefix(prefix) for key, _ in snapshot.range(NAMESPACE, prefix, prefix[:-1] + "0")]


def defined_names(ledger: PeerLedger) -> list[str]:
    if not ledger.height:
        return []
    with ledger.snapshot() as snapshot:
        return committed_names(snapshot)


def approval_at(ledger: PeerLedger, definition: ChaincodeDefinition, package_ids: Sequence[str]) -> Approval:
    """Whether the ledger's own organization has approved just this definition, and with which of these packages. Only
    hashes are looked at: they are there even where the private values are not."""
    with ledger.snapshot() as snapshot:

        def is_there(key: str, value: bytes) -> bool:
            found = snapshot.get_hash(NAMESPACE, ledger.collection, key_hash(key))
            return found is not None and found.value == crypto.sha256(value)

        approved = parameters_structure(definition).entries(DEFINITIONS, definition.private_name)
        if not all(is_there(key, value) for key, value in approved.items()):
            return Approval(is_given=False, package_id="")
        key = field_key(SOURCES, definition.private_name, "PackageID")
        named = (one for one in package_ids if is_there(key, source_structure(one).fields["PackageID"]))
        return Approval(is_given=True, package_id=next(named, ""))


def approved_packages(ledger: PeerLedger) -> list[tuple[str, str]]:
    """Chaincode and package of everything that the own organization has approved for the next sequence."""
    if not ledger.height:
        return []
    prefix, found = f"{SOURCES}/fields/", []
    with ledger.snapshot() as snapshot:
        for key, value in snapshot.private_range(NAMESPACE, ledger.collection, prefix, prefix[:-1] + "0"):
            match = _SOURCE_KEY.fullmatch(key)
            if match is None:
                continue
            defined = definition_at(snapshot, match["name"])
            if int(match["sequence"]) == (defined.sequence if defined else 0) + 1:
                found.append((match["name"], str(db_pb2.StateData.FromString(value.value).String)))
    return [(name, package_id) for name, package_id in found if package_id]
