"""Fuzzes the verifiers, steered by their coverage, until the time is over or something is found.

    just fuzz                # a minute; what is learned stays in .cache/fuzz
    just fuzz 600 -jobs=2    # ten minutes; libFuzzer's own flags may follow

atheris is asked for by name at run time and by no pin of the town's: it is made for Linux alone.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Final

LEARNED: Final = Path(__file__).resolve().parents[2] / ".cache" / "fuzz"


def main() -> None:
    """Run for as many seconds as the first argument says; ends with 0 only if nothing was found."""
    seconds, *flags = sys.argv[1:] or ["60"]
    corpus = LEARNED / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["tinytown.schemes", "tinytown.standard_webhooks"]):
        throwing = importlib.import_module("fuzz.throwing")
    for number, seed in enumerate(throwing.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = [
        f"-max_total_time={int(seconds)}",
        "-max_len=2048",
        "-timeout=5",  # seconds for one hook; a thousandth of that is already slow
        f"-artifact_prefix={LEARNED}/",
    ]
    atheris.Setup([sys.argv[0], *limits, *flags, str(corpus)], lambda data: _throw(throwing, data))
    atheris.Fuzz()


def _throw(throwing: object, data: bytes) -> None:
    throwing.throw(data)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
