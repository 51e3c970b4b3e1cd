"""TLS contexts: trusted certificates and the client's certificate, for all requests and the websocket."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import certifi

__all__ = ["tls_context"]

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Environment variables for a CA bundle that other programs also read."""


def tls_context(verify: bool | str, cert: str | tuple[str, str] | None) -> ssl.SSLContext:
    """Returns the TLS context for connections to a server.

    verify: False, or the path of a CA bundle (a PEM file, or a folder of hashed PEM files). If it is True and the
        environment names no bundle, the certificates of the system ($SSL_CERT_FILE, if set) and of certifi are trusted.
    cert: a PEM file with certificate and key, or one file for each.

    Raises OSError (ssl.SSLError is a subclass) if a file cannot be read.
    """
    named = verify if isinstance(verify, str) else next(filter(None, map(os.environ.get, _BUNDLES)), None)
    if named is not None and verify is not False:
        folder = Path(named).is_dir()
        context = ssl.create_default_context(cafile=None if folder else named, capath=named if folder else None)
    else:
        context = ssl.create_default_context()
        # The system's list may be missing, for example with Python's installer for macOS.
        context.load_verify_locations(certifi.where())
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        certificate, key = (cert, None) if isinstance(cert, str) else cert
        context.load_cert_chain(certificate, key)
    return context
