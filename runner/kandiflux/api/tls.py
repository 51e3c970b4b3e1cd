"""TLS: which certificates are trusted, and the client's own; the same for every request and for the websocket."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import certifi

__all__ = ["tls_context"]

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Environment variables that name a CA bundle, as other programs read them."""


def tls_context(verify: bool | str, cert: str | tuple[str, str] | None) -> ssl.SSLContext:
    """The context for connections to a server.

    verify: False, or a CA bundle's path (a PEM file, or a folder of hashed ones). cert: a PEM file with certificate and
    key, or one for each. If no bundle is named, here or in the environment, the system's certificates ($SSL_CERT_FILE,
    if that is set) and certifi's are trusted. OSError, of which ssl.SSLError is one, if a file cannot be read.
    """
    named = verify if isinstance(verify, str) else next(filter(None, map(os.environ.get, _BUNDLES)), None)
    if named is not None and verify is not False:
        folder = Path(named).is_dir()
        context = ssl.create_default_context(cafile=None if folder else named, capath=named if folder else None)
    else:
        context = ssl.create_default_context()
        # The system's own list may be missing, as with Python's installer for macOS.
        context.load_verify_locations(certifi.where())
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        certificate, key = (cert, None) if isinstance(cert, str) else cert
        context.load_cert_chain(certificate, key)
    return context
