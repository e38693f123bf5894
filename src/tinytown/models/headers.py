"""Headers: what an endpoint's owner may send along with every delivery, and what is not theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from tinytown.errors import Invalid

MOST: Final = 20
BYTES: Final = 4_096
"""All names and values together: servers begin to refuse at 8 KiB, and the rest is ours."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
"""RFC 9110, 5.6.2."""
_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e\t]*[\x21-\x7e])?")
"""RFC 9110, 5.5, visible ASCII only: what is beyond reads differently on every server."""

_CONNECTION: Final = frozenset(
    {
        "connection",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
    }
)
"""About the connection, not the message: another value would confuse who stands in between."""
_OURS: Final = frozenset({"accept-encoding", "cookie", "date", "user-agent"})
"""What the sender says itself; cookies are for browsers."""
_OUR_FAMILIES: Final = ("content-", "webhook-", "svix-", "sec-", "x-forwarded-")


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Give the headers back as they will be sent; raises Invalid, which never names a value."""
    if len(headers) > MOST:
        raise Invalid(f"an endpoint has at most {MOST} headers of its own, not {len(headers)}")
    checked: dict[str, str] = {}
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise Invalid(f"{name[:100]!r} is no name of a header")
        low = name.lower()
        if low in _CONNECTION or low in _OURS or low.startswith(_OUR_FAMILIES):
            raise Invalid(f"the header {name!r} is not an endpoint's to set")
        if low in {known.lower() for known in checked}:
            raise Invalid(f"the header {name!r} is there twice")
        if value and not _VALUE.fullmatch(value):
            raise Invalid(f"the header {name!r} may hold visible ASCII, no blanks at its ends")
        checked[name] = value
    size = sum(len(name) + len(value) for name, value in checked.items())
    if size > BYTES:
        raise Invalid(f"an endpoint's headers have at most {BYTES} bytes together, not {size}")
    return checked
