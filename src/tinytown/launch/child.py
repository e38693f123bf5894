"""Becomes a worker that lives no longer than its town: `python -m tinytown.launch.child`.

Standard input is a pipe whose other end only the town holds. The kernel closes it when the town
dies, however it dies; the worker then hands its task back and goes, as at SIGTERM. That works on
every Unix, where a signal at the parent's death (PR_SET_PDEATHSIG) is Linux alone.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

_PIPE = 0


def main() -> None:
    """Watch the pipe from a thread, and become the worker."""
    watched = os.dup(_PIPE)
    # The worker's own children must not inherit the pipe as their standard input.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, _PIPE)
    os.close(null)
    threading.Thread(target=_until_closed, args=(watched,), daemon=True).start()
    sys.argv = sys.argv[:1]
    runpy.run_module("tinytown_workers", run_name="__main__", alter_sys=True)


def _until_closed(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
