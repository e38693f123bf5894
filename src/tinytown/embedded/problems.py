"""Why there is no server of one's own: each of these is one line for the person at the terminal."""

from __future__ import annotations


class EmbeddedError(Exception):
    """The embedded server cannot be had; one line that says why and what to do."""


class NoServer(EmbeddedError):
    """No server program is installed, or only one that is too old."""


class HomeInUse(EmbeddedError):
    """Another process already runs the town of this home."""


class ServerFailed(EmbeddedError):
    """The server does not start or does not answer; the reason is from its own log."""
