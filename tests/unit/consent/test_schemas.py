"""What bodies of the consent API may say of versions, moments and addresses."""

from __future__ import annotations

import pytest
from emr_consent.calls import patient_approval
from emr_consent.schemas import OwnerApprovalIn, PatientApprovalIn
from emr_consent.webhooks.schemas import WebhookIn
from pydantic import ValidationError

MOMENTS = {
    "2036-11-24T09:30:00Z": "2036-11-24T09:30:00Z",
    "2036-11-24T09:30:00+14:00": "2036-11-23T19:30:00Z",
    "9999-12-31T23:59:59Z": "9999-12-31T23:59:59Z",
}


@pytest.mark.parametrize("written", MOMENTS)
def test_an_expiry_is_a_moment_in_utc(written: str) -> None:
    body = PatientApprovalIn.model_validate({"version": 1, "expiresAt": written})
    assert patient_approval("HospitalB", body).arguments == ("HospitalB", 1, MOMENTS[written])


@pytest.mark.parametrize(
    "expiry",
    [
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2036-01-01T00:00:00", "2036-06-30T23:59:60Z",
        "4102444800", "-5", 4102444800, 1e9, True, [],
    ],
)  # fmt: skip
def test_an_expiry_that_is_no_moment_of_utc_is_refused(expiry: object) -> None:
    with pytest.raises(ValidationError):
        PatientApprovalIn.model_validate({"version": 1, "expiresAt": expiry})


@pytest.mark.parametrize("version", [True, "1", 1.0, -1, 10**10, None])
def test_only_a_number_approves_a_version(version: object) -> None:
    for kind in (OwnerApprovalIn, PatientApprovalIn):
        with pytest.raises(ValidationError):
            kind.model_validate({"version": version})


@pytest.mark.parametrize("port", ["0", "-1", "65536", "99999999999999999999"])
def test_a_webhook_has_a_port_that_there_is(port: str) -> None:
    assert WebhookIn(url="https://8.8.8.8:65535/").kinds
    with pytest.raises(ValidationError):
        WebhookIn(url=f"https://8.8.8.8:{port}/")
