"""What a devnet is made of, read from one YAML file; relative paths count from that file's folder."""

from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, model_validator


class ConfigError(Exception):
    """The configuration file cannot be read or contradicts itself; the text names the field, never its value."""


def _resolved(path: Path, info: ValidationInfo) -> Path:
    folder = (info.context or {}).get("folder")
    return path if folder is None else Path(folder) / path


def _host_and_port(address: str) -> str:
    host, separator, port = address.rpartition(":")
    if not (host and separator and port.isdigit() and int(port) < 65536):
        raise ValueError("must be host:port")
    return address


ConfigPath = Annotated[Path, AfterValidator(_resolved)]
Model = TypeVar("Model", bound=BaseModel)
Address = Annotated[str, AfterValidator(_host_and_port)]
Name = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Batch(Section):
    """When the orderer cuts a block: a batch is full, or this long after its first transaction."""

    timeout_ms: int = Field(default=50, ge=1)
    max_messages: int = Field(default=24, ge=1)
    max_bytes: int = Field(default=2 * 1024 * 1024, ge=1024)


class KeyPair(Section):
    cert: ConfigPath
    key: ConfigPath


class Orderer(Section):
    msp_id: Name
    msp_dir: ConfigPath
    signing: KeyPair
    listen: Address | None = None
    """The port of `orderer.AtomicBroadcast`; without it there is none."""
    tls_cert: ConfigPath | None = None
    tls_key: ConfigPath | None = None
    address: Address | None = None
    """What the channel configuration calls the ordering service; `listen` if nothing else is said."""

    @model_validator(mode="after")
    def _a_port_has_a_certificate(self) -> Self:
        if self.listen is not None and (self.tls_cert is None or self.tls_key is None):
            raise ValueError("listen needs tls_cert and tls_key")
        return self


class ChaincodeAddress(Section):
    """Where an organization's chaincode server listens; with `tls_ca_file` the call is made over TLS. How long a
    transaction waits for a connection is Fabric's `dial_timeout` in connection.json."""

    address: Address
    tls_ca_file: ConfigPath | None = None
    server_name: str | None = None
    dial_timeout_seconds: float = Field(default=3, gt=0)


class Peer(Section):
    listen: Address
    identity_dir: ConfigPath
    tls_cert: ConfigPath
    tls_key: ConfigPath
    name: Name


class Organization(Section):
    """A peer that this process runs. Whether its organization is a member, the channel's configuration says.
    `chaincodes`: servers of those that the configuration file defines; others are where their packages say."""

    msp_id: Name
    msp_dir: ConfigPath
    peer: Peer
    chaincodes: dict[str, ChaincodeAddress] = Field(default_factory=dict)


class Endorsement(Section):
    """Exactly one of: `signature`, such as `AND('A.peer','B.peer')`, or `channel`, the path of a channel policy."""

    signature: str | None = None
    channel: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.signature is None) == (self.channel is None):
            raise ValueError("needs exactly one of signature and channel")
        return self


class Chaincode(Section):
    """Approved for every member and committed at the start, unless the ledger has its sequence or a later one: from
    then on the ledger rules."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9]+([-_][a-zA-Z0-9]+)*$")]
    version: Name = "1.0"
    sequence: int = Field(default=1, ge=1)
    endorsement: Endorsement = Endorsement(channel="/Channel/Application/Endorsement")


class Control(Section):
    listen: Address


class Limits(Section):
    """Fabric's defaults (core.yaml `peer.limits`, `peer.gateway`, `peer.authentication`, `chaincode`)."""

    gateway_calls: int = Field(default=500, ge=0)
    deliver_streams: int = Field(default=2500, ge=0)
    endorser_calls: int = Field(default=2500, ge=0)
    execute_timeout_seconds: float = Field(default=30, gt=0)
    endorsement_timeout_seconds: float = Field(default=30, gt=0)
    total_query_limit: int = Field(default=100_000, ge=1)
    time_window_seconds: float = Field(default=900, gt=0)


class DevnetConfig(Section):
    channel: Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]{0,248}$")]
    data_dir: ConfigPath
    batch: Batch = Batch()
    orderer: Orderer
    genesis_block: ConfigPath | None = None
    """A new data folder begins with this block instead of one made of this file."""
    join_peers: bool = True
    """Peers of organizations in block 0 join by themselves; others, and with false all, wait for JoinChain."""
    organizations: Annotated[tuple[Organization, ...], Field(min_length=1)]
    chaincodes: tuple[Chaincode, ...] = ()
    control: Control | None = None
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        members = [organization.msp_id for organization in self.organizations]
        for what, names in (
            ("organizations", [*members, self.orderer.msp_id]),
            ("chaincodes", [chaincode.name for chaincode in self.chaincodes]),
            ("listening addresses", [organization.peer.listen for organization in self.organizations]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"two {what} share a name")
        defined = {chaincode.name for chaincode in self.chaincodes}
        if undefined := {name for member in self.organizations for name in member.chaincodes} - defined:
            raise ValueError(f"an organization runs a chaincode that is not defined: {', '.join(sorted(undefined))}")
        return self


def read_yaml(model: type[Model], path: Path) -> Model:
    """`path` as `model`; raises ConfigError that names file and field but shows no value."""
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return validated(model, content, path.resolve().parent)
    except (OSError, yaml.YAMLError, ConfigError) as error:
        raise ConfigError(f"{path}: {error}") from error


def validated(model: type[Model], content: Any, folder: Path) -> Model:
    """`content` as `model`, its relative paths counting from `folder`. ConfigError names the field, shows no value."""
    try:
        return model.model_validate(content, context={"folder": folder})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(faults) from error


def load(path: Path) -> DevnetConfig:
    return read_yaml(DevnetConfig, path)
