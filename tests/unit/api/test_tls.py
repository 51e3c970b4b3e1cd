"""Which certificates are trusted, and which is the client's own."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import certifi
import pytest
from kandiflux.api.tls import tls_context

VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture
def bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three files with one certificate each."""
    for name in (*VARIABLES, "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    found: list[str] = []
    for number, text in enumerate(Path(certifi.where()).read_text("utf-8").split("-----BEGIN")[1:4]):
        file = tmp_path / f"{number}.pem"
        file.write_text(f"-----BEGIN{text.partition('-----END')[0]}-----END CERTIFICATE-----\n")
        found.append(str(file))
    return found


def serials(context: ssl.SSLContext) -> set[Any]:
    return {certificate["serialNumber"] for certificate in context.get_ca_certs()}


def test_one_bundle_is_trusted_and_nothing_else(bundles: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    said, requests, curl = ({*serials(ssl.create_default_context(cafile=file))} for file in bundles)
    everything = serials(tls_context(True, None))
    assert everything > said | requests | curl
    monkeypatch.setenv("CURL_CA_BUNDLE", bundles[2])
    assert serials(tls_context(True, None)) == curl
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundles[1])
    assert serials(tls_context(True, None)) == requests
    assert serials(tls_context(bundles[0], None)) == said
    assert tls_context(bundles[0], None).verify_mode is ssl.CERT_REQUIRED
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    assert serials(tls_context(True, None)) == everything


def test_a_folder_of_certificates(bundles: list[str]) -> None:
    context = tls_context(str(Path(bundles[0]).parent), None)
    assert context.get_ca_certs() == [], "they are read when they are needed"
    assert context.check_hostname
    with pytest.raises(FileNotFoundError):
        tls_context(f"{bundles[0]}.none", None)


def test_nothing_is_checked_on_request(bundles: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
    context = tls_context(False, None)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


def test_a_certificate_of_ones_own(bundles: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[Any, Any]] = []

    def load(_context: ssl.SSLContext, certificate: Any, key: Any) -> None:
        loaded.append((certificate, key))

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", load)
    for cert in (None, "both.pem", ("a.crt", "a.key")):
        tls_context(bundles[0], cert)
    assert loaded == [("both.pem", None), ("a.crt", "a.key")]
