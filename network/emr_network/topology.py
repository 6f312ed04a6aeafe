"""Which hospitals take part in a network, and under which names and ports: `network/topology.yaml`, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import yaml
from hlf import policies
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

T = TypeVar("T", bound=BaseModel)
Port = Annotated[int, Field(ge=1024, le=65535)]
Domain = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$")]
MspId = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9.-]{0,62}$")]
Ledger = Literal["devnet", "fabric"]
ENDORSEMENT_SECONDS = 8
"""So long a gateway waits for another hospital's endorsement: one whose peer hangs is named within ten seconds."""
CHANNEL_ENDORSEMENT = "/Channel/Application/Endorsement"
"""The channel's own endorsement policy: a majority of its organizations."""


class TopologyError(Exception):
    """The topology cannot be read or contradicts itself; the text names file and field."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Batch(_Section):
    timeout_ms: int = Field(default=40, ge=1)
    max_messages: int = Field(default=24, ge=1)
    max_bytes: int = Field(default=8 * 1024 * 1024, ge=1024)


class Chaincode(_Section):
    """`slot` tells which of a hospital's two chaincode processes serves this version: an upgrade changes it, so that
    the old and the new one run side by side. `packaged` once it was deployed by the lifecycle's own packages, which on
    Fabric it always is."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9]+([-_][a-zA-Z0-9]+)*$")]
    version: Annotated[str, Field(pattern=r"^[a-zA-Z0-9]+([.+_-][a-zA-Z0-9]+)*$", max_length=64)]
    sequence: int = Field(ge=1)
    endorsement: Literal["all", "majority"] = "all"
    slot: Literal[1, 2] = 1
    packaged: bool = False

    def port_of(self, organization: str) -> str:
        """The name of the port, and of the process, of a hospital's contract."""
        return f"chaincode-{organization}" if self.slot == 1 else f"chaincode-{organization}-2"


class Orderer(_Section):
    """Devnet has one orderer whatever `nodes` says. Node N of Fabric listens at `port` + 10 * (N - 1); the two ports
    after it are for its administration and its metrics."""

    msp_id: MspId
    domain: Domain
    nodes: Literal[1, 3] = 1
    port: Port = 6050

    def node_name(self, number: int) -> str:
        """The host name of node `number`, which counts from 1."""
        return f"orderer{number - 1}.{self.domain}"


class SharedPorts(_Section):
    """Of processes that there is one of, whatever the number of hospitals."""

    devnet_control: Port
    issuer: Port
    kafka: Port
    kafka_controller: Port
    postgres: Port


class OrganizationPorts(_Section):
    """`services` is the first of a hundred: see `emr_network.ports`. A second peer listens 10 above the first."""

    peer: Port
    chaincode: Port
    ca: Port
    services: Port


class Organization(_Section):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,15}$")]
    msp_id: MspId
    title: Annotated[str, Field(min_length=1, max_length=100)]
    domain: Domain
    peers: int = Field(default=1, ge=1, le=4)
    joined: bool = False
    """Whether it came to a running network: its development CA is then a process of its own."""
    ports: OrganizationPorts

    @property
    def peer_name(self) -> str:
        """The host name of the first peer."""
        return self.peer_host(1)

    def peer_host(self, number: int) -> str:
        """The host name of peer `number`, which counts from 1."""
        return f"peer{number - 1}.{self.domain}"

    @property
    def ca_name(self) -> str:
        return f"ca.{self.domain}"


class Topology(_Section):
    """`ledger` is chosen when EMR_HOME is made, and stays."""

    ledger: Ledger = "devnet"
    channel: Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]{0,248}$")]
    chaincode: Chaincode
    batch: Batch = Batch()
    orderer: Orderer
    ports: SharedPorts
    organizations: Annotated[tuple[Organization, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for what, names in (
            ("name", [one.name for one in self.organizations]),
            ("mspId", [*(one.msp_id for one in self.organizations), self.orderer.msp_id]),
            ("domain", [*(one.domain for one in self.organizations), self.orderer.domain]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"two organizations share a {what}")
        return self

    @model_validator(mode="after")
    def _devnet_has_one_peer_a_hospital(self) -> Self:
        if self.ledger == "devnet" and any(one.peers > 1 for one in self.organizations):
            raise ValueError("several peers a hospital need ledger fabric")
        return self

    def with_organization(self, organization: Organization) -> Self:
        """Raises TopologyError, also for one that shares a name, an MSP id or a domain with another."""
        content = self.model_dump(by_alias=True)
        content["organizations"] = [*content["organizations"], organization.model_dump(by_alias=True)]
        return _validated(type(self), content, organization.name)

    def without_organization(self, name: str) -> Self:
        """Raises TopologyError for the last one."""
        content = self.model_dump(by_alias=True)
        content["organizations"] = [one for one in content["organizations"] if one["name"] != name]
        return _validated(type(self), content, "the topology")

    def with_chaincode(self, **changes: object) -> Self:
        content = self.model_dump(by_alias=True)
        return _validated(type(self), content | {"chaincode": content["chaincode"] | changes}, "chaincode")

    def organization(self, name_or_msp_id: str) -> Organization:
        """Raises TopologyError for a hospital that does not take part."""
        for organization in self.organizations:
            if name_or_msp_id in (organization.name, organization.msp_id):
                return organization
        known = ", ".join(one.name for one in self.organizations)
        raise TopologyError(f"no hospital is called {name_or_msp_id!r}; there are {known}")

    @property
    def endorsement(self) -> dict[str, str]:
        """The chaincode's endorsement policy as devnet's configuration writes it."""
        if self.chaincode.endorsement == "majority":
            return {"channel": CHANNEL_ENDORSEMENT}
        return {"signature": self._all_peers()}

    @property
    def endorsement_policy(self) -> bytes | str:
        """The same as `hlf.admin.lifecycle.ChaincodeDefinition` takes it."""
        if self.chaincode.endorsement == "majority":
            return CHANNEL_ENDORSEMENT
        return policies.parse(self._all_peers())

    def _all_peers(self) -> str:
        peers = ",".join(f"'{one.msp_id}.peer'" for one in self.organizations)
        return f"AND({peers})"


def organization_of(content: object) -> Organization:
    """Raises TopologyError."""
    return _validated(Organization, content, "the hospital")


def load(path: Path, ledger: Ledger | None = None) -> Topology:
    """On `ledger`, or on the one that the file names. Raises TopologyError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise TopologyError(f"{path}: {error}") from error
    if ledger is not None and isinstance(content, dict):
        content["ledger"] = ledger
    return _validated(Topology, content, str(path))


def _validated(kind: type[T], content: object, source: str) -> T:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise TopologyError(f"{source}: {faults}") from error


def save(topology: Topology, path: Path) -> None:
    """Writes the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    content = topology.model_dump(mode="json", by_alias=True)
    partial.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    partial.replace(path)
