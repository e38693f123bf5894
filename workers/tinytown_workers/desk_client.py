"""The agent's side of the desk, with nothing but the standard library: it starts in an instant."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from typing import Any, Final

_CONNECT_SECONDS: Final = 10.0
_LINE_BYTES: Final = 200 * 1024  # the desk takes a little more
_LONGEST: Final = 30 * 86_400  # a question may stay open for a month
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class DeskGone(Exception):
    """The worker behind the desk is not there (any more)."""


class DeskRefused(Exception):
    """The desk understood the request and refuses it; `code` says which way."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Call:
    """One request to the desk: sent at once, waited for in pieces, confirmed when passed on."""

    def __init__(self, card: str, op: str, **fields: Any) -> None:
        """Send the request; raises `DeskGone`, and `DeskRefused` when it is far too long."""
        self._buffer = b""
        try:
            with open(card, "rb") as file:  # noqa: PTH123 - pathlib costs 8 ms at every start
                where = json.load(file)
            address, secret = where["socket"], where["secret"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DeskGone(f"the worker cannot be reached: {error}") from None
        request = json.dumps({"op": op, "secret": secret, **fields}).encode()
        if len(request) > _LINE_BYTES:
            raise DeskRefused("invalid", "that is too long: nobody reads it on a phone")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(_CONNECT_SECONDS)
            self._socket.connect(address)
            self._socket.sendall(request + b"\n")
        except OSError as error:
            self._socket.close()
            raise DeskGone(f"the worker cannot be reached: {error}") from None

    def wait(self, seconds: float | None) -> dict[str, Any] | None:
        """Return the reply, or None when it is not there after so long (None: wait for ever).

        Raises `DeskRefused`, and `DeskGone` when the worker (or `close`) ended the call.
        """
        try:
            self._socket.settimeout(seconds)
            while not self._buffer.endswith(b"\n"):
                self._buffer += self._receive()
            reply = json.loads(self._buffer)
        except TimeoutError:
            return None
        except DeskGone:
            self.close()
            raise
        except (OSError, ValueError) as error:
            self.close()
            raise DeskGone(f"the worker cannot be reached: {error}") from None
        if not isinstance(reply, dict) or "error" in reply:
            self.close()
            reply = reply if isinstance(reply, dict) else {}
            raise DeskRefused(str(reply.get("error")), str(reply.get("detail")))
        return reply

    def _receive(self) -> bytes:
        piece = self._socket.recv(65_536)
        if not piece:
            raise DeskGone("the worker ended this session")
        return piece

    def confirm(self) -> None:
        """Say that the reply was passed on; without it the next asker gets it again."""
        with contextlib.suppress(OSError):  # the worker is gone and needs to know nothing
            self._socket.sendall(b"{}\n")
        self.close()

    def close(self) -> None:
        """End the call, also from another thread; an unanswered question stays open."""
        with contextlib.suppress(OSError):  # not connected any more
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def words(reply: dict[str, Any]) -> str:
    """Say what became of a question so that no reader takes silence for consent."""
    outcome, answer = reply["outcome"], reply.get("answer")
    if outcome == "answered":
        who = reply.get("by") or "a person"
        how = f" via {reply['via']}" if reply.get("via") else ""
        return f"ANSWERED by {who}{how}: {answer}"
    if outcome == "defaulted":
        return (
            "DEFAULTED: nobody answered in time, so the default that was set beforehand applies: "
            f"{answer}\nNo person chose this; do not report it as a person's decision."
        )
    if outcome == "no_answer":
        return (
            "NO ANSWER: nobody answered in time. Silence is not consent: do not do what you asked "
            "about. Take the safe way, or end your turn and say what is undecided."
        )
    if outcome == "withdrawn":
        return (
            "WITHDRAWN: the question was taken back and nobody will answer it. That is not "
            "consent. Do not ask it again."
        )
    return (
        f"PARKED {reply.get('question_id', '')}: end your turn now and do nothing else. "
        "The person was notified; you will be called again with the answer."
    )


def messages(reply: dict[str, Any]) -> str:
    """Show what people wrote to the agent; empty when nobody did."""
    lines = [
        f"- {message.get('by') or 'a person'}: {message['text']}"
        for message in reply.get("messages", ())
    ]
    return "\n".join(["MESSAGES FROM PEOPLE:", *lines]) if lines else ""


def seconds_of(text: str) -> float:
    """Read a duration: 90, 90s, 15m, 2h or 1d. Raises ValueError saying so."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)", text.strip())
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= _LONGEST:
        raise ValueError(f"{text!r} is no duration; write 90, 90s, 15m, 2h or 1d (at most 30d)")
    return seconds
