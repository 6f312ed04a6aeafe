import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hlf import certs
from hlf.certs import CertificateAuthority, Purpose
from hypothesis import given, settings
from hypothesis import strategies as st

CA = CertificateAuthority.create("ca.a.care.example", "a.care.example")
KEY = certs.new_private_key()


def openssl(folder: Path, *arguments: str, check: bool = True) -> str:
    result = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert not check or result.returncode == 0, result.stderr
    return result.stdout + result.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ca.pem").write_bytes(CA.certificate_pem)
    return tmp_path


def write(folder: Path, name: str, certificate: x509.Certificate) -> None:
    (folder / name).write_bytes(certs.certificate_to_pem(certificate))


def test_openssl_accepts_a_client_certificate(folder: Path) -> None:
    write(folder, "client.pem", CA.issue("p-1", KEY.public_key(), organizational_units=["client"]))
    assert "client.pem: OK" in openssl(folder, "verify", "-x509_strict", "-CAfile", "ca.pem", "client.pem")
    text = openssl(folder, "x509", "-in", "client.pem", "-noout", "-text", "-nameopt", "RFC2253")
    assert "Subject: CN=p-1,OU=client" in text
    assert "Digital Signature" in text
    assert "Key Encipherment" not in text


def test_openssl_accepts_a_server_certificate_under_each_of_its_names(folder: Path) -> None:
    names = ["peer0.a.care.example", "localhost", "127.0.0.1"]
    write(folder, "tls.pem", CA.issue(names[0], KEY.public_key(), purpose=Purpose.TLS, sans=names))
    verify = ["verify", "-x509_strict", "-CAfile", "ca.pem", "-purpose", "sslserver"]
    for option in (["-verify_hostname", names[0]], ["-verify_hostname", "localhost"], ["-verify_ip", "127.0.0.1"]):
        assert "tls.pem: OK" in openssl(folder, *verify, *option, "tls.pem")
    assert "OK" not in openssl(folder, *verify, "-verify_hostname", "b.care.example", "tls.pem", check=False)
    assert "OK" in openssl(folder, "verify", "-CAfile", "ca.pem", "-purpose", "sslclient", "tls.pem")


def test_openssl_finds_a_revoked_certificate_in_the_list_and_no_other(folder: Path) -> None:
    gone, stays = (CA.issue(name, KEY.public_key()) for name in ("gone", "stays"))
    write(folder, "gone.pem", gone)
    write(folder, "stays.pem", stays)
    (folder / "crl.pem").write_bytes(CA.crl([(gone.serial_number, datetime.now(UTC))]))
    check = ["verify", "-crl_check", "-CAfile", "ca.pem", "-CRLfile", "crl.pem"]
    assert "certificate revoked" in openssl(folder, *check, "gone.pem", check=False)
    assert "stays.pem: OK" in openssl(folder, *check, "stays.pem")


def test_an_empty_revocation_list_is_valid(folder: Path) -> None:
    (folder / "crl.pem").write_bytes(CA.crl([]))
    assert "verify OK" in openssl(folder, "crl", "-in", "crl.pem", "-CAfile", "ca.pem", "-noout")


def test_fabric_attributes_are_json_in_their_extension(folder: Path) -> None:
    write(folder, "client.pem", CA.issue("p-1", KEY.public_key(), attributes={"emr.role": "patient"}))
    text = openssl(folder, "x509", "-in", "client.pem", "-noout", "-text")
    assert '{"attrs":{"emr.role":"patient"}}' in text.split("1.2.3.4.5.6.7.8.1:")[1]


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=20), st.text(max_size=40), max_size=5))
def test_attributes_survive_the_certificate(attributes: dict[str, str]) -> None:
    assert certs.attributes_of(CA.issue("p-1", KEY.public_key(), attributes=attributes)) == attributes


@pytest.mark.parametrize("value", [b"", b"null", b"[]", b"{}", b'{"attrs":[]}', b'{"attrs":{"a":1}}', b"\xff"])
def test_malformed_attributes_do_not_pass_for_none(value: bytes) -> None:
    now = datetime.now(UTC)
    name = x509.Name([])
    certificate = (
        x509.CertificateBuilder(name, name, KEY.public_key(), 1, now, now + timedelta(days=1))
        .add_extension(x509.UnrecognizedExtension(certs.ATTRIBUTES_OID, value), critical=False)
        .sign(KEY, hashes.SHA256())
    )
    with pytest.raises(ValueError):
        certs.attributes_of(certificate)


def test_a_certificate_without_attributes_has_none() -> None:
    assert certs.attributes_of(CA.issue("p-1", KEY.public_key())) == {}


def test_organizational_units_keep_their_order() -> None:
    certificate = CA.issue("p-1", KEY.public_key(), organizational_units=["client", "ward"])
    assert certs.organizational_units_of(certificate) == ("client", "ward")
    assert certs.common_name_of(certificate) == "p-1"


def test_a_certificate_never_outlives_its_authority() -> None:
    brief = CertificateAuthority.create("ca", "o", lifetime=timedelta(days=1))
    certificate = brief.issue("p-1", KEY.public_key(), not_after=datetime.now(UTC) + timedelta(days=9))
    assert certificate.not_valid_after_utc == brief.certificate.not_valid_after_utc
    assert certificate.not_valid_before_utc >= brief.certificate.not_valid_before_utc


def test_a_certificate_counts_a_little_before_it_was_made() -> None:
    now = datetime.now(UTC)
    lead = now - CertificateAuthority.create("ca", "o").certificate.not_valid_before_utc
    assert timedelta(minutes=4) < lead < timedelta(minutes=6)


def test_an_authority_survives_its_pem() -> None:
    loaded = CertificateAuthority.load(CA.certificate_pem, CA.key_pem)
    assert certs.is_issued_by(loaded.issue("p-1", KEY.public_key()), CA.certificate)


def test_an_authority_with_a_foreign_key_is_refused() -> None:
    with pytest.raises(ValueError, match="does not belong"):
        CertificateAuthority.load(CA.certificate_pem, certs.private_key_to_pem(KEY))


def test_another_authority_did_not_issue_it() -> None:
    other = CertificateAuthority.create("ca.a.care.example", "a.care.example")
    certificate = CA.issue("p-1", KEY.public_key())
    assert certs.is_issued_by(certificate, CA.certificate)
    assert not certs.is_issued_by(certificate, other.certificate)


def test_key_identifiers_link_certificate_and_authority() -> None:
    certificate = CA.issue("p-1", KEY.public_key())
    assert certs.authority_key_id_of(certificate) == certs.subject_key_id_of(CA.certificate) != ""
    assert int(certs.serial_of(certificate), 16) == certificate.serial_number


def test_a_request_becomes_a_certificate_for_its_key_and_names() -> None:
    request = certs.csr_from_pem(certs.new_csr("p-1", KEY, ["localhost", "127.0.0.1"]))
    certificate = CA.issue_for_csr(request, common_name="p-1", organizational_units=["client"])
    assert certs.public_key_of(certificate) == KEY.public_key()
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_openssl_accepts_our_requests(folder: Path) -> None:
    (folder / "csr.pem").write_bytes(certs.new_csr("p-1", KEY))
    assert "verify OK" in openssl(folder, "req", "-in", "csr.pem", "-verify", "-noout")


def test_a_request_for_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="another common name"):
        CA.issue_for_csr(certs.csr_from_pem(certs.new_csr("p-2", KEY)), common_name="p-1")


def test_a_request_for_a_key_of_another_curve_is_refused() -> None:
    request = certs.csr_from_pem(certs.new_csr("p-1", ec.generate_private_key(ec.SECP384R1())))
    with pytest.raises(ValueError, match="P-256"):
        CA.issue_for_csr(request, common_name="p-1")


def test_a_request_that_its_key_did_not_sign_is_refused() -> None:
    der = bytearray(certs.csr_from_pem(certs.new_csr("p-1", KEY)).public_bytes(serialization.Encoding.DER))
    der[der.index(b"p-1")] = ord("q")
    with pytest.raises(ValueError, match="not signed by its own key"):
        CA.issue_for_csr(x509.load_der_x509_csr(bytes(der)), common_name="q-1")
