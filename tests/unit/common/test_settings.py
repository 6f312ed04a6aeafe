from __future__ import annotations

from pathlib import Path

import pytest
from emr_common.settings import (
    DatabaseSettings,
    LedgerSettings,
    ServiceSettings,
    Settings,
    SettingsInvalid,
    known_variables,
    load,
    read_secret,
)

ENVIRONMENT = {
    "EMR_ORG_MSP_ID": "HospitalA",
    "EMR_HTTP__PORT": "7001",
    "EMR_LEDGER__ENDPOINTS": "127.0.0.1:7051, 127.0.0.1:7052",
    "EMR_LEDGER__TLS_CA_FILE": "/ca.pem",
    "EMR_LEDGER__IDENTITY_DIR": "/msp",
    "EMR_DATABASE__URL_FILE": "/secrets/database-url",
    "EMR_AUTH__ISSUER": "https://issuer.example",
    "EMR_AUTH__AUDIENCE": "urn:careledger:HospitalA",
    "EMR_AUTH__JWKS_URL": "https://issuer.example/jwks.json",
    "EMR_WALLET__KEYSET_FILE": "/secrets/wallet.keyset",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_service_reads_its_groups_from_the_environment(environment: pytest.MonkeyPatch) -> None:
    settings = load(ServiceSettings)
    assert settings.org_msp_id == "HospitalA"
    assert settings.http.port == 7001
    assert settings.ledger == LedgerSettings(
        endpoints=("127.0.0.1:7051", "127.0.0.1:7052"), tls_ca_file=Path("/ca.pem"), identity_dir=Path("/msp")
    )
    assert settings.database == DatabaseSettings(url_file=Path("/secrets/database-url"))
    assert settings.kafka is None


@pytest.mark.parametrize("name", ["EMR_LEDGR__CHANNEL", "EMR_LEDGER__CHANEL", "EMR_SECRET", "emr_http__prot"])
def test_an_unknown_variable_stops_the_start(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.setenv(name, "private-value")
    with pytest.raises(SettingsInvalid) as refusal:
        load(ServiceSettings)
    assert name in str(refusal.value)
    assert "private-value" not in str(refusal.value)


def test_a_variable_of_another_service_is_no_mistake(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("EMR_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    environment.setenv("EMR_KAFKA__TOPIC_PREFIX", "a")
    environment.setenv("EMR_HOME", "/somewhere")
    assert load(ServiceSettings).kafka is not None


@pytest.mark.parametrize("missing", ["EMR_ORG_MSP_ID", "EMR_AUTH__ISSUER", "EMR_WALLET__KEYSET_FILE"])
def test_a_missing_setting_is_named(environment: pytest.MonkeyPatch, missing: str) -> None:
    environment.delenv(missing)
    with pytest.raises(SettingsInvalid, match=missing.split("__", maxsplit=1)[0]):
        load(ServiceSettings)


def test_a_malformed_value_is_not_repeated_in_the_error(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("EMR_HTTP__PORT", "private-value")
    with pytest.raises(SettingsInvalid) as refusal:
        load(Settings)
    assert "EMR_HTTP__PORT" in str(refusal.value)
    assert "private-value" not in str(refusal.value)


def test_the_vocabulary_is_the_documented_one() -> None:
    documented = {
        "EMR_ORG_MSP_ID",
        *(f"EMR_HTTP__{name}" for name in ("HOST", "PORT", "MAX_BODY_BYTES")),
        *(f"EMR_RATE__{who}_{what}" for who in ("TOKEN", "HOSPITAL") for what in ("PER_SECOND", "BURST")),
        *(
            f"EMR_LEDGER__{name}"
            for name in ("ENDPOINTS", "CHANNEL", "CHAINCODE", "TLS_CA_FILE", "IDENTITY_DIR", "COMMIT_TIMEOUT_SECONDS")
        ),
        *(f"EMR_DATABASE__{name}" for name in ("URL_FILE", "POOL_SIZE")),
        *(f"EMR_KAFKA__{name}" for name in ("BOOTSTRAP_SERVERS", "TOPIC_PREFIX", "PARTITIONS")),
        *(f"EMR_AUTH__{name}" for name in ("ISSUER", "AUDIENCE", "JWKS_URL")),
        "EMR_WALLET__KEYSET_FILE",
        *(f"EMR_SEALING__{name}" for name in ("WRAPPING_KEYSET_FILE", "PRIVATE_KEYSET_FILE")),
        *(f"EMR_CA__{name}" for name in ("URL", "TLS_CA_FILE", "REGISTRAR_DIR")),
        *(f"EMR_PSEUDONYM__{name}" for name in ("KEY_FILE", "IDENTIFIER_KEY_FILE", "IDENTIFIER_SYSTEMS")),
        *(f"EMR_WEBHOOKS__{name}" for name in ("ALLOWED_NETWORKS", "CA_FILE", "GIVE_UP_AFTER_SECONDS")),
        *(
            f"EMR_RETENTION__{name}_DAYS"
            for name in ("ANSWERED_KEYS", "TRANSACTIONS", "QUEUED_NOTES", "IMPORTS", "JOBS")
        ),
        *(f"EMR_LOG__{name}" for name in ("LEVEL", "FORMAT")),
        "EMR_TELEMETRY__OTLP_ENDPOINT",
    }
    assert set(known_variables()) == documented


def test_a_secret_is_read_without_its_line_break(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    assert read_secret(tmp_path / "secret") == "s3cret"
