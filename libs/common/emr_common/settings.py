"""What a service is told from outside: ``EMR_`` environment variables, the same names in every service.

A secret is never a variable's value, only the path of a file. A variable that no setting knows stops the start, because
a misspelt name would otherwise silently leave the default in force (pydantic-settings ignores it).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from emr_model.ledger.events import PARTITIONS, Topics
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "EMR_"
SEPARATOR = "__"
OF_THE_COMMAND_LINE = frozenset(
    {"EMR_HOME"}
)  # belongs to the `emr` command; services inherit it and have no use for it


class SettingsInvalid(Exception):
    """The environment does not describe a service that could start. The message names variables, never their values."""


def _split_commas(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class HttpSettings(Group):
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535, description="0 takes a free port")
    max_body_bytes: int = Field(default=1024 * 1024, gt=0, description="of every body that has no limit of its own")


class RateSettings(Group):
    """Requests that one process takes of callers; beyond these it answers 429."""

    token_per_second: float = Field(default=100.0, gt=0, description="of one caller, whatever tokens they show")
    token_burst: int = Field(default=300, ge=1)
    hospital_per_second: float = Field(default=400.0, gt=0, description="of all callers together")
    hospital_burst: int = Field(default=1200, ge=1)


class LedgerSettings(Group):
    endpoints: CommaSeparated = Field(min_length=1, description="host:port of own peers, the preferred one first")
    channel: str = "care"
    chaincode: str = "emr"
    tls_ca_file: Path
    identity_dir: Path = Field(description="MSP folder of the service's own identity")
    commit_timeout_seconds: float = Field(default=15.0, gt=0)


class DatabaseSettings(Group):
    url_file: Path
    pool_size: int = Field(default=10, gt=0)


class KafkaSettings(Group):
    bootstrap_servers: CommaSeparated = Field(min_length=1)
    topic_prefix: str
    partitions: int = Field(default=PARTITIONS, gt=0, le=1000, description="of the topic of events")

    @property
    def topics(self) -> Topics:
        return Topics(self.topic_prefix, self.partitions)


class AuthSettings(Group):
    issuer: str
    audience: str
    jwks_url: str | None = Field(default=None, description="without it, what the issuer's metadata names")


class WalletSettings(Group):
    keyset_file: Path


class SealingSettings(Group):
    wrapping_keyset_file: Path = Field(description="Tink AEAD keyset that wraps the EMRs' keys")
    private_keyset_file: Path | None = Field(
        default=None, description="Tink hybrid keyset that opens received snapshots"
    )


class CaSettings(Group):
    url: str
    tls_ca_file: Path | None = None
    registrar_dir: Path = Field(description="MSP folder of the identity that may register and revoke")


class PseudonymSettings(Group):
    key_file: Path = Field(description="32 bytes or more, secret: the HMAC key of identifiers, note ids or pseudonyms")
    identifier_key_file: Path | None = Field(default=None, description="admission's HMAC key, to search by identifier")
    identifier_systems: CommaSeparated = Field(default=(), description="systems of patient identifiers, best first")


class RetentionSettings(Group):
    """For how long is kept what became of things that have ended, in days. The access log is kept for ever."""

    answered_keys_days: float = Field(default=7.0, gt=0, description="Idempotency-Keys, with the ids of their answers")
    transactions_days: float = Field(default=90.0, gt=0, description="transactions with a known outcome")
    queued_notes_days: float = Field(default=90.0, gt=0, description="notes that waited for a hospital; no content")
    imports_days: float = Field(default=90.0, gt=0, description="imports and the results of their notes; no content")
    jobs_days: float = Field(default=90.0, gt=0, description="what administrators asked of the indexer")


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


class WebhookSettings(Group):
    """Webhooks go to public addresses alone, unless the deployment allows more."""

    allowed_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_split_commas)] = (
        Field(default=(), description="networks that webhooks may be posted to besides, such as 10.20.0.0/16")
    )
    ca_file: Annotated[Path | None, BeforeValidator(_none_if_empty)] = Field(
        default=None, description="PEM certificates of CAs that receivers' certificates may come from besides"
    )
    give_up_after_seconds: float = Field(
        default=3 * 86400.0, ge=0, description="of nothing but failures, after which a webhook is disabled"
    )


class LogSettings(Group):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class TelemetrySettings(Group):
    otlp_endpoint: str | None = None


class Settings(BaseSettings):
    """Every setting there is. A service's own class declares again, as required, the groups that it needs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=SEPARATOR, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    org_msp_id: str
    http: HttpSettings = HttpSettings()
    rate: RateSettings = RateSettings()
    ledger: LedgerSettings | None = None
    database: DatabaseSettings | None = None
    kafka: KafkaSettings | None = None
    auth: AuthSettings | None = None
    wallet: WalletSettings | None = None
    sealing: SealingSettings | None = None
    ca: CaSettings | None = None
    pseudonym: PseudonymSettings | None = None
    webhooks: WebhookSettings = WebhookSettings()
    retention: RetentionSettings = RetentionSettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()


class ServiceSettings(Settings):
    """What the three HTTP services that speak for people need: registration, records and consent."""

    ledger: LedgerSettings
    database: DatabaseSettings
    auth: AuthSettings
    wallet: WalletSettings


S = TypeVar("S", bound=Settings)


def load(kind: type[S], environment: Mapping[str, str] | None = None) -> S:
    """Reads ``kind`` from the process's environment.

    Raises SettingsInvalid for a missing or malformed setting, and for an ``EMR_`` variable that no service knows.
    ``environment`` is only looked at for unknown names; the values come from ``os.environ``.
    """
    unknown = sorted(_unknown_names(os.environ if environment is None else environment))
    if unknown:
        raise SettingsInvalid(f"unknown environment variables: {', '.join(unknown)}")
    try:
        return kind()
    except ValidationError as error:
        raise SettingsInvalid(_describe(error)) from None


def _unknown_names(environment: Mapping[str, str]) -> Iterator[str]:
    known = {name.upper() for name in known_variables()} | OF_THE_COMMAND_LINE
    return (name for name in environment if name.upper().startswith(PREFIX) and name.upper() not in known)


def known_variables() -> tuple[str, ...]:
    """The names of all variables that a service may be given, e.g. ``EMR_LEDGER__CHANNEL``."""
    return tuple(_variables(Settings, PREFIX))


def _variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        group = _group(field.annotation)
        if group is None:
            yield f"{prefix}{name}".upper()
        else:
            yield from _variables(group, f"{prefix}{name}{SEPARATOR}")


def _group(annotation: Any) -> type[Group] | None:
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    return next((one for one in candidates if isinstance(one, type) and issubclass(one, Group)), None)


def _describe(error: ValidationError) -> str:
    return "; ".join(
        f"{PREFIX}{SEPARATOR.join(str(part) for part in one['loc']).upper()}: {one['msg']}" for one in error.errors()
    )


def read_secret(path: Path) -> str:
    """The text of a secret's file without the line break at its end."""
    return path.read_text(encoding="utf-8").rstrip("\n")
