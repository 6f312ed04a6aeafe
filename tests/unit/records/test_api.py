import json
from pathlib import Path

import pytest
from emr_common.settings import (
    AuthSettings,
    DatabaseSettings,
    LedgerSettings,
    PseudonymSettings,
    SealingSettings,
    SettingsInvalid,
    WalletSettings,
)
from emr_records.bootstrap import services
from emr_records.main import application
from emr_records.settings import RecordsSettings


def settings(folder: Path, key: bytes = b"k" * 32) -> RecordsSettings:
    (folder / "key").write_bytes(key)
    return RecordsSettings(
        org_msp_id="HospitalA",
        ledger=LedgerSettings(endpoints=("unused:1",), tls_ca_file=folder, identity_dir=folder),
        database=DatabaseSettings(url_file=folder),
        auth=AuthSettings(issuer="i", audience="a", jwks_url="u"),
        wallet=WalletSettings(keyset_file=folder),
        sealing=SealingSettings(wrapping_keyset_file=folder),
        pseudonym=PseudonymSettings(key_file=folder / "key"),
    )


def test_every_route_is_described(tmp_path: Path) -> None:
    paths = application(settings(tmp_path)).openapi()["paths"]
    described = {(method, path.removeprefix("/v1")) for path, methods in paths.items() for method in methods}
    assert described >= {
        ("get", "/emrs/{emr}"),
        ("get", "/emrs"),
        ("post", "/emrs/search"),
        ("get", "/emrs/{emr}/notes"),
        ("get", "/emrs/{emr}/notes/{version}"),
        ("post", "/emrs/{emr}/notes"),
        ("post", "/emrs/{emr}/imports"),
        ("get", "/imports/{import_id}"),
        ("post", "/disclosures"),
        ("get", "/disclosures/{receipt}/emr"),
        ("get", "/me/emr"),
        ("get", "/me/disclosures"),
        ("get", "/me/visit-count"),
        ("get", "/transactions/{transaction_id}"),
    }


def test_the_body_of_a_note_is_described_although_it_is_read_from_its_bytes(tmp_path: Path) -> None:
    operation = application(settings(tmp_path)).openapi()["paths"]["/v1/emrs/{emr}/notes"]["post"]
    schema = operation["requestBody"]["content"]["application/fhir+json"]["schema"]
    assert [one.get("title", "Bundle") for one in schema["oneOf"]] == ["Bundle", "TextNoteIn", "AmendmentIn"]


@pytest.mark.parametrize("key", [b"", b"short", b"k" * 31, b"k" * 10 + b"\n" * 30])
async def test_a_key_of_note_ids_that_is_too_short_stops_the_start(tmp_path: Path, key: bytes) -> None:
    with pytest.raises(SettingsInvalid, match="PSEUDONYM__KEY_FILE"):
        async with services(settings(tmp_path, key), None):  # type: ignore[arg-type]
            raise AssertionError("started")


async def test_a_service_that_could_not_open_snapshots_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="PRIVATE_KEYSET_FILE"):
        async with services(settings(tmp_path), None):  # type: ignore[arg-type]
            raise AssertionError("started")


def test_what_can_be_prepared_is_described_without_references_that_lead_nowhere(tmp_path: Path) -> None:
    operation = application(settings(tmp_path)).openapi()["paths"]["/v1/transactions/prepare"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert "$ref" not in json.dumps(body)
    functions = [one["properties"]["function"]["const"] for one in body["oneOf"]]
    assert functions[:2] == ["AddEmrNote", "GetSharedEMR"]
