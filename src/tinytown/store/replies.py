"""What scripts reply: a closed set, turned into values or errors of the town."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from tinytown.errors import IllegalMove, LeaseLost, NotFound

DONE: Final = 1
REFUSED: Final = 0
MISSING: Final = -1
NOT_YOURS: Final = -2
TOO_MANY: Final = -3


def refuse(reply: Any, missing: type[NotFound], what: str, move: str) -> NoReturn:
    """Raise what a reply other than "done" means."""
    code = reply[0]
    if code == MISSING:
        raise missing(f"there is no {what} with this id")
    if code == NOT_YOURS:
        raise LeaseLost(f"the lease on this {what} is held by another attempt, or it has ended")
    if code == REFUSED:
        state = str(reply[1])
        article = "an" if what[0] in "aeiou" else "a"
        raise IllegalMove(f"cannot {move} {article} {what} that is {state}", state=state)
    message = f"unexpected reply {reply!r}"
    raise RuntimeError(message)
