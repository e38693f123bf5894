"""Every error a caller can meet, each with its HTTP status and its problem slug.

TownError
├─ Invalid                400   well-formed but meaningless
│  └─ GraphCycle          400   tasks that wait for each other
├─ Unauthenticated        401
├─ Forbidden              403
├─ NotFound               404
│  ├─ MissionNotFound · TaskNotFound · QuestionNotFound
│  └─ EndpointNotFound · DeliveryNotFound · ReplayNotFound · WorkerNotFound · KeyNotFound
├─ Conflict               409
│  ├─ IllegalMove                the record's state does not allow the move
│  ├─ AlreadyAnswered            another answer came first
│  ├─ LeaseLost                  the attempt no longer owns its task
│  └─ InProgress                 the same idempotent request is still running
├─ Gone                   410   an answer link past its time
├─ Stale                  412   the record is not the one that If-Match names
├─ TooLarge               413
├─ UnsupportedMediaType   415
├─ Unprocessable          422
│  └─ IdempotencyMismatch        the same key with another body
├─ TooMany                429
└─ Unavailable            503   carries retry_after_seconds
   └─ StoreUnavailable           Redis cannot be reached or refuses to write

The tree knows statuses and titles but no framework; the doors translate it.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar


class TownError(Exception):
    """The root of the tree; never raised itself."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong in town"

    def __init__(self, detail: str, **extra: Any) -> None:
        """Keep one sentence for people (`detail`) and facts for programs (`extra`)."""
        super().__init__(detail)
        self.detail = detail
        self.extra = extra

    @classmethod
    def slug(cls) -> str:
        """Name this kind of problem: the class name in kebab case (stable, public)."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()


class Invalid(TownError):
    """The request is well-formed but means nothing here."""

    status = 400
    title = "The request is not valid"


class GraphCycle(Invalid):
    """The tasks of a mission wait for each other; `cycle` names them in order."""

    title = "The tasks depend on each other in a circle"


class Unauthenticated(TownError):
    """No key, or one the town does not know."""

    status = 401
    title = "A valid key is needed"


class Forbidden(TownError):
    """The key is known but its scopes do not allow this."""

    status = 403
    title = "This key may not do that"


class NotFound(TownError):
    """Nothing here has that name; another town's ids look the same as unknown ones."""

    status = 404
    title = "Not found"


class MissionNotFound(NotFound):
    """No mission has that id."""

    title = "No such mission"


class TaskNotFound(NotFound):
    """No task has that id."""

    title = "No such task"


class QuestionNotFound(NotFound):
    """No question has that id."""

    title = "No such question"


class EndpointNotFound(NotFound):
    """No endpoint has that id."""

    title = "No such endpoint"


class DeliveryNotFound(NotFound):
    """No delivery has that id."""

    title = "No such delivery"


class ReplayNotFound(NotFound):
    """No replay has that id."""

    title = "No such replay"


class WorkerNotFound(NotFound):
    """No worker has that id."""

    title = "No such worker"


class KeyNotFound(NotFound):
    """No API key has that id."""

    title = "No such key"


class SourceNotFound(NotFound):
    """No source has that id."""

    title = "No such source"


class HookNotFound(NotFound):
    """No hook has that id, or it is kept no longer."""

    title = "No such hook"


class Conflict(TownError):
    """The request collides with the present state."""

    status = 409
    title = "The present state does not allow this"


class IllegalMove(Conflict):
    """The record's state does not allow the move; `state` is the one that was found."""

    title = "Not possible in this state"


class AlreadyAnswered(Conflict):
    """Another answer came first; the extra fields say who, when and what."""

    title = "This question is already answered"


class LeaseLost(Conflict):
    """The attempt that writes no longer owns its task: somebody else does, or it ended."""

    title = "The lease on this task is lost"


class InProgress(Conflict):
    """A request with the same Idempotency-Key is still running."""

    title = "The same request is still running"


class Gone(TownError):
    """An answer link past its time, or of a question that went away."""

    status = 410
    title = "This link has expired"


class Stale(TownError):
    """The record was changed since the caller read it: If-Match names another state (RFC 9110)."""

    status = 412
    title = "This was changed meanwhile"


class TooLarge(TownError):
    """The body is larger than the door accepts."""

    status = 413
    title = "The request is too large"


class UnsupportedMediaType(TownError):
    """The body is in a form that is not read here; JSON is."""

    status = 415
    title = "The body is in a form that is not read here"


class Unprocessable(TownError):
    """Understood, but contradicting something earlier."""

    status = 422
    title = "The request contradicts an earlier one"


class IdempotencyMismatch(Unprocessable):
    """The same Idempotency-Key came with another body."""

    title = "This Idempotency-Key was used for another request"


class TooMany(TownError):
    """The caller should slow down; `retry_after_seconds` says for how long."""

    status = 429
    title = "Too many requests"


class Unavailable(TownError):
    """The town cannot do this right now; `retry_after_seconds` says when to try again."""

    status = 503
    title = "Not available right now"


class StoreUnavailable(Unavailable):
    """Redis cannot be reached, is loading, read-only or out of memory; nothing was written."""

    title = "The store is not available right now"


def tree(root: type[TownError] = TownError) -> list[type[TownError]]:
    """List every concrete error, parents first, in the order they are defined."""
    found: list[type[TownError]] = []
    for child in root.__subclasses__():
        found.append(child)
        found.extend(tree(child))
    return found
