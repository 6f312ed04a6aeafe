"""Chaincode packages: the same contents have the same id everywhere."""

import gzip
import io
import json
import tarfile

import pytest
from hlf.admin.errors import PackageInvalid
from hlf.admin.packaging import ServiceAddress, label_of, package


def test_the_same_contents_make_the_same_package_id() -> None:
    service = ServiceAddress("127.0.0.1:9999", code_sha256="ab" * 32)
    assert package("emr_1.0", service).package_id == package("emr_1.0", service).package_id


def test_other_code_makes_another_package_id() -> None:
    one, other = (ServiceAddress("127.0.0.1:9999", code_sha256=digit * 64) for digit in "ab")
    assert package("emr_1.0", one).package_id != package("emr_1.0", other).package_id


def test_the_package_tells_the_peer_where_the_service_is_and_how_to_verify_it() -> None:
    made = package("emr_1.0", ServiceAddress("127.0.0.1:9999", root_cert=b"PEM"))
    with tarfile.open(fileobj=io.BytesIO(made.content), mode="r:gz") as outer:
        code = outer.extractfile("code.tar.gz")
        assert code is not None
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(code.read()))) as inner:
            connection = inner.extractfile("connection.json")
            assert connection is not None
            assert json.load(connection) == {
                "address": "127.0.0.1:9999",
                "dial_timeout": "10s",
                "root_cert": "PEM",
                "tls_required": True,
            }


def test_a_package_tells_its_label() -> None:
    assert label_of(package("emr_1.0", ServiceAddress("127.0.0.1:9999")).content) == "emr_1.0"


@pytest.mark.parametrize("content", [b"", b"no archive", gzip.compress(b"no tar", mtime=0)])
def test_bytes_that_are_no_package_are_refused(content: bytes) -> None:
    with pytest.raises(PackageInvalid):
        label_of(content)


@pytest.mark.parametrize("label", ["", "a b", "../x", "é", "a__b"])
def test_a_label_that_peers_refuse_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="label"):
        package(label, ServiceAddress("127.0.0.1:9999"))
