"""Masks what must not be read in logs, agent output and errors: keys, tokens, passwords in URLs."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "•••"

# Each pattern keeps group 1 (the harmless start) and drops the rest.
_PATTERNS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        # Credentials inside any URL: scheme://user:password@host and scheme://token@host.
        r"(\b[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s/@\"'<>]+(?=@)",
        # Our own keys, secrets and capability links.
        r"(\btt_)[A-Za-z0-9_-]{16,}",
        r"(\bwh(?:sec|sk)_)[A-Za-z0-9+/=_-]{8,}",
        r"(/a/)[A-Za-z0-9_.-]{24,}",
        # Well-known vendors' keys.
        r"(\bsk-)[A-Za-z0-9_-]{16,}",
        r"(\bgh[pousr]_)[A-Za-z0-9]{20,}",
        r"(\bgithub_pat_)[A-Za-z0-9_]{20,}",
        r"(\bxox[abprs]-)[A-Za-z0-9-]{10,}",
        r"(\bglpat-)[A-Za-z0-9_-]{16,}",
        r"(\bAKIA)[A-Z0-9]{16}\b",
        r"(\bAIza)[A-Za-z0-9_-]{30,}",
        r"(\bnpm_)[A-Za-z0-9]{30,}",
        # Headers and assignments whose name says that the value is secret.
        r"(?i)(\bauthorization\b[\"']?\s*[:=]\s*[\"']?(?:bearer|basic|token)?\s*)[^\s\"',;]+",
        r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/=-]{16,}",
        (
            r"(?i)(\b[a-z0-9_-]*(?:password|passwd|secret|api[_-]?key|token)[\"']?\s*[:=]\s*[\"']?)"
            r"[^\s\"',;&]{8,}"
        ),
        r"(-----BEGIN [A-Z ]*PRIVATE KEY-----)[\s\S]*?(?=-----END|$)",
    )
)

# Where none of these occurs, no pattern can match: most of what is logged are names of ours.
_HINTS: Final = (
    "://", "tt_", "whs", "/a/", "sk-", "gh", "github_pat_", "xox", "glpat-", "akia", "aiza", "npm_",
    "authorization", "bearer", "passw", "secret", "api", "token", "-----begin",
)  # fmt: skip


def redact(text: str, known: tuple[str, ...] = ()) -> str:
    """Mask known secrets literally, and everything that looks like one."""
    for secret in known:
        if secret:
            text = text.replace(secret, MASK)
    folded = text.casefold()
    if not any(hint in folded for hint in _HINTS):
        return text
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<1>{MASK}", text)
    return text
