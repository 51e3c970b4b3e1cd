"""URLs from workflows and servers: checks them before use, and makes them safe to show."""

from __future__ import annotations

import re

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

__all__ = ["parse_address", "shortened", "shown_address"]

_LONGEST_SHOWN = 200
_CREDENTIALS = re.compile(r"//[^/?#\\]*@")
_SECRET = re.compile(r"(?i)([?&][^=&#]*(?:token|key|secret|sig|signature|password|credential)[^=&#]*=)[^&#]+")


def parse_address(url: str) -> Url | None:
    """Returns the normalized URL without `user:password@`; None if it is not a valid http or https URL with a host.

    urllib3's parser is used because urllib3 makes the connection: another parser may find another host in a malformed
    URL, and a token would be sent to the wrong host.
    """
    try:
        found = parse_url(url)
    except (LocationParseError, ValueError):
        return None
    if found.scheme not in ("http", "https") or not found.host:
        return None
    return found._replace(auth=None)


def shown_address(url: str) -> str:
    """Returns the URL for messages: without passwords and tokens, and shortened."""
    return shortened(_SECRET.sub(r"\1…", _CREDENTIALS.sub("//", url)))


def shortened(text: str, longest: int = _LONGEST_SHOWN) -> str:
    """Cuts text to `longest` characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
