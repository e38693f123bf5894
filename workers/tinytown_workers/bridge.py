"""The MCP server a coding CLI starts: its agent's way to people, spoken over stdin and stdout.

It answers both generations of the protocol, request by request: the handshake of 2024-11-05 to
2025-11-25 and the stateless form of 2026-07-28 (whose requests carry their version in `_meta`).
It stores nothing: questions live behind the desk. Standard library only, so that it starts in an
instant; one thread per waiting call, because that is all the concurrency there is.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from tinytown import __version__
from tinytown_workers.bridge_tools import TOOLS, Ticket, Tools

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

_HANDSHAKES: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
_STATELESS: Final = "2026-07-28"
_META: Final = "io.modelcontextprotocol/"
_LINE_BYTES: Final = 4 * 1024 * 1024  # an approval carries a whole file that an agent writes
_CALLS: Final = 32  # waiting at once; agents call a handful of tools in parallel
_FRESH_MS: Final = 3_600_000  # the tools never change while a session lives
_SERVER: Final = {"name": "tinytown", "version": __version__}
_INSTRUCTIONS: Final = (
    "A person can be asked through ask_human and hears from you through report_progress. "
    "Only a result that begins with ANSWERED is a person's decision; silence never is."
)

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
UNSUPPORTED_VERSION: Final = -32022


class _Refused(Exception):
    """A request that gets a JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.error: Final = {"code": code, "message": message} | (
            {} if data is None else {"data": data}
        )


class _Batch:
    """The answers of one JSON-RPC batch (2025-03-26), sent together when the last is there."""

    def __init__(self, size: int, send: Callable[[Any], None]) -> None:
        self._missing = size
        self._send = send
        self._answers: list[Any] = []
        self._lock = threading.Lock()

    def add(self, answer: Any) -> None:
        """Take the answer to one message; None when it gets none."""
        with self._lock:
            self._missing -= 1
            if answer is not None:
                self._answers.append(answer)
            if self._missing == 0 and self._answers:
                self._send(self._answers)


class Bridge:
    """One server on one pair of streams."""

    def __init__(self, tools: Tools, output: int) -> None:
        """Answer on the file descriptor `output`."""
        self._tools = tools
        self._output = output
        self._writing = threading.Lock()
        self._tickets: dict[Any, Ticket] = {}

    def run(self, source: BinaryIO) -> None:
        """Serve until the input ends."""
        while line := source.readline(_LINE_BYTES):
            if not line.endswith(b"\n") and len(line) == _LINE_BYTES:
                while line and not line.endswith(b"\n"):
                    line = source.readline(_LINE_BYTES)
                self._send(_failure(None, _Refused(INVALID_REQUEST, "the message is too long")))
            elif line.strip():
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            self._send(_failure(None, _Refused(PARSE_ERROR, "this is not JSON")))
            return
        if not isinstance(message, list):
            self._answer(message, self._send)
        elif not message:
            self._send(_failure(None, _Refused(INVALID_REQUEST, "an empty batch")))
        else:
            batch = _Batch(len(message), self._send)
            for part in message:
                self._answer(part, batch.add)

    def _answer(self, message: Any, reply: Callable[[Any], None]) -> None:
        """Answer one message by exactly one call of `reply` (with None for no answer)."""
        number = message.get("id") if isinstance(message, dict) else None
        if isinstance(number, bool) or not isinstance(number, (str, int)):
            number = None
        try:
            self._hear(message, number, reply)
        except _Refused as refused:
            reply(_failure(number, refused))

    def _hear(self, message: Any, number: str | int | None, reply: Callable[[Any], None]) -> None:
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            raise _Refused(INVALID_REQUEST, "this is not a JSON-RPC 2.0 message")
        method, params = message.get("method"), message.get("params")
        params = {} if params is None else params
        if method is None and ("result" in message or "error" in message):
            reply(None)  # an answer, though we never ask
        elif not isinstance(method, str) or ("id" in message and number is None):
            raise _Refused(INVALID_REQUEST, "a request needs a method and an id")
        elif number is None:
            self._notice(method, params)
            reply(None)
        elif not isinstance(params, dict):
            raise _Refused(INVALID_PARAMS, "params must be an object")
        else:
            self._serve(number, method, params, reply)

    def _notice(self, method: str, params: Any) -> None:
        """Hear a notification. Ids that are unknown or finished are nothing new (opencode)."""
        if method == "notifications/cancelled" and isinstance(params, dict):
            number = params.get("requestId")
            if isinstance(number, (str, int)) and (ticket := self._tickets.get(number)):
                ticket.cancel()

    def _serve(
        self, number: str | int, method: str, params: dict[str, Any], reply: Callable[[Any], None]
    ) -> None:
        stateless = _is_stateless(method, params)
        if method == "tools/call":
            self._call(number, params, reply, stateless=stateless)
        elif method == "initialize":
            wanted = params.get("protocolVersion")
            reply(
                _success(
                    number,
                    {
                        "protocolVersion": wanted if wanted in _HANDSHAKES else _HANDSHAKES[-1],
                        "capabilities": {"tools": {}},
                        "serverInfo": _SERVER,
                        "instructions": _INSTRUCTIONS,
                    },
                )
            )
        elif method == "server/discover":
            found = {
                "supportedVersions": [_STATELESS],
                "capabilities": {"tools": {}},
                "instructions": _INSTRUCTIONS,
            }
            reply(_success(number, found, stateless=True, fresh_ms=_FRESH_MS))
        elif method == "tools/list":
            listed = {"tools": [TOOLS[name] for name in self._tools.names]}
            reply(_success(number, listed, stateless=stateless, fresh_ms=_FRESH_MS))
        elif method == "ping":
            reply(_success(number, {}, stateless=stateless))
        else:
            raise _Refused(METHOD_NOT_FOUND, f"there is no method {method[:100]}")

    def _call(
        self,
        number: str | int,
        params: dict[str, Any],
        reply: Callable[[Any], None],
        *,
        stateless: bool,
    ) -> None:
        name, arguments = params.get("name"), params.get("arguments")
        if name not in self._tools.names:
            raise _Refused(INVALID_PARAMS, f"there is no tool {str(name)[:100]}")
        if arguments is not None and not isinstance(arguments, dict):
            raise _Refused(INVALID_PARAMS, "arguments must be an object")
        if number in self._tickets:
            raise _Refused(INVALID_REQUEST, "a request with this id is still running")
        if len(self._tickets) >= _CALLS:
            raise _Refused(INTERNAL_ERROR, "too many calls at once")
        meta = params.get("_meta")
        token = meta.get("progressToken") if isinstance(meta, dict) else None
        ticket = self._tickets[number] = Ticket(self._progress(token))

        def work() -> None:
            answer = None
            try:
                result = self._tools.run(name, arguments or {}, ticket)
                answer = _success(number, result, stateless=stateless)
            except Exception as error:  # noqa: BLE001 - the client must hear of it
                refused = _Refused(INTERNAL_ERROR, f"the tool failed: {type(error).__name__}")
                answer = _failure(number, refused)
            finally:
                del self._tickets[number]
                # Who cancelled expects no answer, and what was not told must be told again.
                reply(None if ticket.cancelled else answer)
                ticket.finish()

        threading.Thread(target=work, daemon=True).start()

    def _progress(self, token: Any) -> Callable[[float], None]:
        """Make the function that tells the client how long a person has been waited for."""

        def tell(seconds: float) -> None:
            if isinstance(token, (str, int)):
                params = {
                    "progressToken": token,
                    "progress": seconds,
                    "message": f"waiting for a person ({seconds:.0f} s)",
                }
                self._send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})

        return tell

    def _send(self, message: Any) -> None:
        """Write one message on a line of its own; None is no message."""
        if message is None:
            return
        rest = memoryview(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        with self._writing:
            try:
                while rest:
                    rest = rest[os.write(self._output, rest) :]
            except BrokenPipeError:
                os._exit(0)  # the CLI is gone, and so is everybody who waits


def _is_stateless(method: str, params: dict[str, Any]) -> bool:
    """Tell the generation of a request by the version it carries, if it does."""
    meta = params.get("_meta")
    version = meta.get(f"{_META}protocolVersion") if isinstance(meta, dict) else None
    if version is None:
        return method == "server/discover"
    if version != _STATELESS:
        raise _Refused(
            UNSUPPORTED_VERSION,
            "this protocol version is not spoken here",
            {"supported": [_STATELESS, *_HANDSHAKES], "requested": version},
        )
    return True


def _success(
    number: str | int, result: dict[str, Any], *, stateless: bool = False, fresh_ms: int = -1
) -> dict[str, Any]:
    if stateless:
        result = {**result, "resultType": "complete", "_meta": {f"{_META}serverInfo": _SERVER}}
        if fresh_ms >= 0:
            result |= {"ttlMs": fresh_ms, "cacheScope": "private"}
    return {"jsonrpc": "2.0", "id": number, "result": result}


def _failure(number: str | int | None, refused: _Refused) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": refused.error}


def _no_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are not JSON


def main(argv: Sequence[str], desk: str | None) -> int:
    """Serve the desk whose card is named in `argv`, or else by TINYTOWN_DESK."""
    cards = [argument for argument in argv if not argument.startswith("--")]
    card = cards[0] if cards else desk
    if not card:
        sys.stderr.write("tinytown bridge: no desk (an argument or TINYTOWN_DESK)\n")
        return 2
    # Whoever ends a turn tells all its processes at once. A CLI that lost this server first would
    # hear "connection closed" for an answer and go on without it: we leave when our input ends.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # What is printed by accident must not end up between the messages.
    output = os.dup(1)
    os.dup2(2, 1)
    Bridge(Tools(card, approvals="--approvals" in argv), output).run(sys.stdin.buffer)
    return 0


if __name__ == "__main__":
    # Not tinytown.settings: it would cost as much as everything else here together.
    code = main(sys.argv[1:], os.environ.get("TINYTOWN_DESK"))  # noqa: TID251
    sys.stderr.flush()
    os._exit(code)  # threads that still wait must not keep the process
