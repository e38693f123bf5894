"""Tells whether a hook is really from its source, and what it says; every sender's own way.

The order is the same for all: the proof over the raw body, then the replay window where the time
is signed, and only then is anything decoded (Linear writes its time into the body, which is decoded
in between). A rejection says why to our books, never to the sender.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from tinytown.errors import Invalid
from tinytown.schemes import github, linear, shown, signed, slack, standard, stripe
from tinytown.schemes.hook import (
    HEADER_OPTIONS,
    MOST_BYTES,
    Hook,
    Recognised,
    Rejected,
    Scheme,
    SchemeOptions,
)

__all__ = [
    "MOST_BYTES",
    "SCHEMES",
    "Hook",
    "Recognised",
    "Rejected",
    "Scheme",
    "SchemeOptions",
    "check_options",
    "new_secret",
    "recognise",
]

SCHEMES: Final[Mapping[str, Scheme]] = MappingProxyType(
    {
        "github": github.SCHEME,
        "stripe": stripe.SCHEME,
        "slack": slack.SCHEME,
        "linear": linear.SCHEME,
        "standard": standard.SCHEME,
        "hmac": signed.SCHEME,
        "token": shown.TOKEN,
        "basic": shown.BASIC,
    }
)

_SECRET_CHARACTERS: Final = range(16, 513)  # 16 of base64 are 96 bits; senders choose no fewer
_MOST_SECRETS: Final = 4  # one that is used, one that is rotated out, and room to err
_MOST_TEXT: Final = 256
_TOLERANCE_SECONDS: Final = range(1, 3601)  # a window of hours would be no window
_TOKEN: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, 5.6.2
_TEXTS: Final = (*HEADER_OPTIONS, "prefix", "template", "id_field", "kind_field", "username")


def recognise(
    scheme: str, options: SchemeOptions, secrets: Sequence[str], hook: Hook, *, now: float
) -> Recognised:
    """Prove a hook with any of the secrets and read it; `now` is in Unix seconds.

    Raises Rejected, and nothing else whatever the bytes of the hook.
    """
    if not secrets or not all(secrets):  # an empty key is one that everybody knows
        raise Rejected("secret")
    if len(hook.body) > MOST_BYTES:
        raise Rejected("too_large")
    return SCHEMES[scheme].read(options, secrets, hook, now)


def check_options(scheme: str, options: SchemeOptions, secrets: Sequence[str]) -> None:
    """Raise Invalid for an unknown scheme, or for options and secrets that cannot work with it."""
    known = _known(scheme)
    _check_options(scheme, known, options)
    if not 1 <= len(secrets) <= _MOST_SECRETS:
        raise Invalid(f"a source has 1 to {_MOST_SECRETS} secrets at a time")
    for secret in secrets:
        if len(secret) not in _SECRET_CHARACTERS or not secret.isprintable():
            least, most = _SECRET_CHARACTERS[0], _SECRET_CHARACTERS[-1]
            raise Invalid(f"a source's secret is {least} to {most} printable characters")
    known.check(options, secrets)


def new_secret(scheme: str) -> str:
    """Make a secret for a new source; raises Invalid where the sender is the one who makes it."""
    make = _known(scheme).new_secret
    if make is None:
        raise Invalid(f"{scheme.capitalize()} makes the secret itself: give the source that one")
    return make()


def _check_options(scheme: str, known: Scheme, options: SchemeOptions) -> None:
    for name in SchemeOptions.__struct_fields__:
        if getattr(options, name) is not None and name not in known.takes:
            raise Invalid(f"the scheme {scheme} takes no option `{name}`")
    for name in _TEXTS:
        text = getattr(options, name)
        if text is not None and not (0 < len(text) <= _MOST_TEXT and text.isprintable()):
            raise Invalid(f"`{name}` is 1 to {_MOST_TEXT} printable characters")
    for name in HEADER_OPTIONS:
        if getattr(options, name) is not None and not _TOKEN.fullmatch(getattr(options, name)):
            raise Invalid(f"`{name}` is the name of a header")
    tolerance = options.tolerance_seconds
    if tolerance is not None and tolerance not in _TOLERANCE_SECONDS:
        raise Invalid(f"`tolerance_seconds` is 1 to {_TOLERANCE_SECONDS[-1]}")


def _known(scheme: str) -> Scheme:
    if scheme not in SCHEMES:
        raise Invalid(f"a source's scheme is one of {', '.join(SCHEMES)}")
    return SCHEMES[scheme]
