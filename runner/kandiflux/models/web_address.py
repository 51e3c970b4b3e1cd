"""Web addresses that a workflow or a server names: checked before they are used, and safe to show."""

from __future__ import annotations

import re

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

__all__ = ["parse_address", "shortened", "shown_address"]

_LONGEST_SHOWN = 200
_CREDENTIALS = re.compile(r"//[^/?#\\]*@")
_SECRET = re.compile(r"(?i)([?&][^=&#]*(?:token|key|secret|sig|signature|password|credential)[^=&#]*=)[^&#]+")


def parse_address(url: str) -> Url | None:
    """The normalized URL without `user:password@`; None if it is not a valid http or https URL with a host.

    urllib3's parser decides, because urllib3 makes the connection: another parser may find another host in a malformed
    URL, and a token would go to the wrong one.
    """
    try:
        found = parse_url(url)
    except (LocationParseError, ValueError):
        return None
    if found.scheme not in ("http", "https") or not found.host:
        return None
    return found._replace(auth=None)


def shown_address(url: str) -> str:
    """The URL for messages: without a password, without the values of tokens in its query, and not too long."""
    return shortened(_SECRET.sub(r"\1…", _CREDENTIALS.sub("//", url)))


def shortened(text: str, longest: int = _LONGEST_SHOWN) -> str:
    """Text from outside, cut to `longest` characters."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
