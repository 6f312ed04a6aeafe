"""Which hospitals take part in a network, and under which names and ports: `network/topology.yaml`, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

Port = Annotated[int, Field(ge=1024, le=65535)]
Domain = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$")]
MspId = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9.-]{0,62}$")]


class TopologyError(Exception):
    """The topology cannot be read or contradicts itself; the text names file and field."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Batch(_Section):
    timeout_ms: int = Field(default=40, ge=1)
    max_messages: int = Field(default=24, ge=1)
    max_bytes: int = Field(default=8 * 1024 * 1024, ge=1024)


class Chaincode(_Section):
    name: str
    version: str
    sequence: int = Field(ge=1)
    endorsement: Literal["all", "majority"] = "all"


class Orderer(_Section):
    msp_id: MspId
    domain: Domain


class SharedPorts(_Section):
    """Of processes that there is one of, whatever the number of hospitals."""

    devnet_control: Port
    issuer: Port
    kafka: Port
    kafka_controller: Port
    postgres: Port


class OrganizationPorts(_Section):
    """`services` is the first of a hundred: see `emr_deploy.ports`."""

    peer: Port
    chaincode: Port
    ca: Port
    services: Port


class Organization(_Section):
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,15}$")]
    msp_id: MspId
    title: Annotated[str, Field(min_length=1, max_length=100)]
    domain: Domain
    ports: OrganizationPorts

    @property
    def peer_name(self) -> str:
        return f"peer0.{self.domain}"

    @property
    def ca_name(self) -> str:
        return f"ca.{self.domain}"


class Topology(_Section):
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
            return {"channel": "/Channel/Application/Endorsement"}
        peers = ",".join(f"'{one.msp_id}.peer'" for one in self.organizations)
        return {"signature": f"AND({peers})"}


def load(path: Path) -> Topology:
    """Raises TopologyError."""
    try:
        return Topology.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise TopologyError(f"{path}: {error}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise TopologyError(f"{path}: {faults}") from error
