"""Opens every connection of a push: each address is asked about, and that very one is dialled.

Apprise's plugins speak through `requests` and `smtplib`. Both get their sockets from here.
"""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Callable
from typing import Any, Protocol

from tinytown.egress import Blocked


class Guarded(Protocol):
    """Whom a connection belongs to, and who decides where it may go."""

    def check(self, peer: tuple[Any, ...], *, secure: bool) -> None:
        """Raise Blocked where this address may not be dialled."""

    def blocked(self) -> None:
        """Hear that a name led nowhere else than to blocked addresses."""

    def watch(self, sock: socket.socket) -> None:
        """Be able to cut the connection."""


def dial(guarded: Guarded, host: str, port: int, timeout: Any, *, secure: bool) -> socket.socket:
    """Connect to the first address of a host that may be dialled and answers.

    Raises Blocked when none may be; else the last address's own error, or gaierror.
    """
    trouble: OSError = Blocked()
    dialled = False
    try:
        infos = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "this cannot be a name") from error
    for family, kind, protocol, _, peer in infos:
        try:
            guarded.check(peer, secure=secure)
        except Blocked:
            continue
        dialled = True
        sock = socket.socket(family, kind, protocol)
        try:
            guarded.watch(sock)
            if timeout is None or isinstance(timeout, int | float):
                sock.settimeout(timeout)
            sock.connect(peer)
        except OSError as error:
            sock.close()
            trouble = error
        else:
            return sock
    if not dialled:
        guarded.blocked()
    raise trouble


class Mail:
    """Stands where the mail plugin expects `smtplib`: the same, with sockets from here."""

    def __init__(self, guarded: Callable[[], Guarded]) -> None:
        """Ask for whoever sends at the moment of dialling."""

        class Plain(smtplib.SMTP):
            def _get_socket(self, host: str, port: int, timeout: Any) -> socket.socket:
                # Mail has ports of its own, and TLS may begin later: only the address counts.
                return dial(guarded(), host, port, timeout, secure=True)

        class Secure(smtplib.SMTP_SSL, Plain):
            """smtplib's own: it wraps what the next in line, Plain, has dialled."""

        self.SMTP = Plain
        self.SMTP_SSL = Secure

    def __getattr__(self, name: str) -> Any:
        """Everything but connecting (exceptions) is the library's own."""
        return getattr(smtplib, name)
