"""ETag and If-Match (RFC 9110, 8.8.3 and 13.1.1): change a record only as its caller saw it."""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

from litestar import Request
from litestar.di import NamedDependency

from tinytown.errors import Invalid

_TAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')
_MOST: Final = 20


class Expected:
    """The states of a record that a request may change."""

    def __init__(self, request: Request[Any, Any, Any]) -> None:
        """Read `If-Match`; raises Invalid for one that is none."""
        self.digests = read(request.headers.getall("if-match", []))
        """None = whatever it is; `*` = whatever it is, but it must be there."""


def read(headers: list[str]) -> tuple[str, ...] | None:
    """Read the digests of the tags; weak ones match nothing, as strong comparison wants it."""
    if not headers:
        return None
    text = ", ".join(headers).strip()
    if text == "*":
        return ("*",)
    found = [part.strip() for part in text.split(",")]
    tags = [_TAG.fullmatch(part) for part in found]
    if len(found) > _MOST or not all(tags):
        raise Invalid('If-Match is `*`, or ETags as they came: `"…"`')
    return tuple(tag[2] for tag in tags if tag and not tag[1])


def tagged(digest: str) -> dict[str, str]:
    """Write the header that names this state of a record."""
    return {"ETag": f'"{digest}"'}


IfMatch: TypeAlias = NamedDependency[Expected]
