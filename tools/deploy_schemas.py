"""Finds the public schemas that deploy files are checked against, or fetches them, by hash.

They are other people's (SchemaStore: Apache-2.0; CRDs-catalog: MIT) and large, so the repository
holds their addresses at a commit and their hashes, not their text. They are looked for in
$DEPLOY_SCHEMAS (a folder, for a machine without a network), then in .cache/schemas, and fetched
into that once otherwise.

    python tools/deploy_schemas.py            # fetch what is missing, say where each stands
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
CACHE: Final = ROOT / ".cache" / "schemas"
FETCH_SECONDS: Final = 30


class Schema(NamedTuple):
    """Where a schema comes from, and what it must hash to."""

    url: str
    sha256: str


_STORE: Final = (
    "https://raw.githubusercontent.com/SchemaStore/schemastore/"
    "3b6446ad8a077bac56f4a4796c0b7fd88927fc8e/src/schemas/json/"
)
_CATALOG: Final = (
    "https://raw.githubusercontent.com/datreeio/CRDs-catalog/"
    "7b1e26ef9deea49293714d204c1a2270aab1178f/keda.sh/"
)
SCHEMAS: Final[Mapping[str, Schema]] = {
    "fly.json": Schema(
        _STORE + "fly.json", "eeb33ca37afc2db32fd108d9fa3b26625ca2798463fa64e533e41cc80a2997fb"
    ),
    "cloud-run-v1.json": Schema(
        _STORE + "cloud-run-v1.json",
        "6a59cf1ab15205fc09e926d705c5d2c15e00a4e801d99244fb836cbb1b6c7db0",
    ),
    "scaledjob_v1alpha1.json": Schema(
        _CATALOG + "scaledjob_v1alpha1.json",
        "1576233840e65143b4cf2da7e0beb417c8fa938ae30849ff63cb326f0aa0f334",
    ),
    "scaledobject_v1alpha1.json": Schema(
        _CATALOG + "scaledobject_v1alpha1.json",
        "f0e0801dd04d22c875ab14b2de908143d0b293430b8c2d5d71bafcf1a4e05b4e",
    ),
}


class SchemaError(Exception):
    """A schema is not to be had, or is not the one that was asked for."""


def obtain(
    name: str,
    *,
    folder: Path | None = None,
    cache: Path = CACHE,
    schemas: Mapping[str, Schema] = SCHEMAS,
) -> Path:
    """Give the path of a schema whose hash is right; raises SchemaError."""
    wanted = schemas[name]
    for place in (folder, cache):
        if place is not None and (place / name).is_file():
            found = hashlib.sha256((place / name).read_bytes()).hexdigest()
            if found != wanted.sha256:
                raise SchemaError(f"{place / name} is another version: sha256 {found}")
            return place / name
    try:
        with urllib.request.urlopen(wanted.url, timeout=FETCH_SECONDS) as reply:  # noqa: S310 - ours
            text = reply.read()
    except OSError as error:
        raise SchemaError(
            f"{name} cannot be fetched from {wanted.url} ({error}); "
            "put it into .cache/schemas, or name a folder that has it in DEPLOY_SCHEMAS"
        ) from error
    if hashlib.sha256(text).hexdigest() != wanted.sha256:
        raise SchemaError(f"what came from {wanted.url} is not what it was")
    cache.mkdir(parents=True, exist_ok=True)
    # Renamed at the end: tests that run side by side may fetch the same one.
    with tempfile.NamedTemporaryFile(dir=cache, delete=False) as part:
        part.write(text)
    return Path(part.name).rename(cache / name)


def given_folder() -> Path | None:
    """Read DEPLOY_SCHEMAS."""
    given = os.environ.get("DEPLOY_SCHEMAS")
    return Path(given) if given else None


def main() -> int:
    """Obtain all of them."""
    try:
        for name in SCHEMAS:
            sys.stdout.write(f"{name}: {obtain(name, folder=given_folder())}\n")
    except SchemaError as error:
        sys.stderr.write(f"deploy_schemas: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
