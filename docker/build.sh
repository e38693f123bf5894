#!/bin/sh
# Builds what an image carries, in its build stages; both Dockerfiles call it, so both build alike.
#
#   build.sh system PACKAGE…      packages of Debian, and nothing else of apt
#   build.sh pins worker|town     /town: an environment with exactly the pinned versions, by hash
#   build.sh town                 the town's own wheel into /town, bytecode for everything
#   build.sh user                 the user that all of it runs as
#   build.sh load                 bytecode for what /town uses of Python's own modules
set -eu
step=$1
shift

# The block of some packages, hashes included, out of a file of pins.
only() {
    awk -v names="$1" 'BEGIN { split(names, list); for (i in list) want[list[i]] = 1 }
        /^[a-z0-9]/ { name = $1; sub(/==.*/, "", name); on = (name in want) } on' "$2"
}

# --no-deps: a pins file is complete, and what is left out of it below stays out.
install_pinned() {
    python3 -m pip --python /town/bin/python install --quiet --no-cache-dir --no-compile \
        --disable-pip-version-check --root-user-action=ignore --no-deps "$@"
}

is_town() { /town/bin/python -c 'import litestar' 2> /dev/null; }

compile() {
    /town/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash "$@"
}

# What every part of a worker imports, this far and later on; without leaving bytecode.
opened() {
    /town/bin/python -B - << 'PYTHON'
import importlib, pkgutil, sys

import anyio
import nacl.secret
import tinytown.cli
import tinytown_workers

async def nothing() -> None: ...

anyio.run(nothing)
for room in pkgutil.walk_packages(tinytown_workers.__path__, "tinytown_workers."):
    importlib.import_module(room.name)
files = (getattr(module, "__file__", None) or "" for module in sys.modules.values())
print(*sorted({file for file in files if file.startswith("/town/") and file.endswith(".py")}), sep="\n")
PYTHON
}

case $step in
system)
    [ $# -gt 0 ] || exit 0
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
    ;;
pins)
    python3 -m venv --without-pip /town
    # 26 MB that nothing here imports: Litestar makes up examples with the first two, for documents
    # we do not ask it to make; its own command line and rich's tracebacks want the next two; and
    # libsodium's binding is compiled already, so of cffi it wants only the backend.
    awk '/^[a-z0-9]/ { on = !/^(faker|polyfactory|pygments|rich-click|pycparser)==/ } on' \
        "requirements/$1.txt" > /tmp/pins.txt
    install_pinned --require-hashes -r /tmp/pins.txt
    rm -r /town/lib/python3*/site-packages/cffi
    # Debug information that some wheels carry by mistake: another 17 MB of the townhall's.
    find /town -name '*.so' -exec strip --strip-debug {} +
    ;;
town)
    # The build backend comes by hash too; one that needs more than these fails here, loudly.
    only "hatchling packaging pathspec pluggy tomlkit trove-classifiers" requirements/development.txt \
        > /tmp/backend.txt
    python3 -m venv /tmp/backend
    /tmp/backend/bin/pip install --quiet --no-cache-dir --disable-pip-version-check \
        --require-hashes -r /tmp/backend.txt
    /tmp/backend/bin/pip wheel --quiet --no-cache-dir --disable-pip-version-check \
        --no-build-isolation --no-deps --wheel-dir /tmp/wheel .
    install_pinned /tmp/wheel/*.whl
    # A worker is never the townhall: what serves, launches and rings is not in its image. (If it did
    # need one of these after all, the imports below would fail.)
    is_town || for room in tinytown/http tinytown/launch tinytown_notifiers; do
        rm -r /town/lib/python3*/site-packages/$room
    done
    # Compiled here, because a machine that wakes has a fresh disk and would compile it each time;
    # unchecked, because nothing below /town ever changes again. The townhall's image has all of it,
    # for `tt` inside it; a worker's only what a worker opens, for it must stay small.
    if is_town; then
        compile /town/lib
    else
        opened > /tmp/opened.txt
        compile -i /tmp/opened.txt
    fi
    ;;
user)
    groupadd --gid 10001 town
    useradd --uid 10001 --gid 10001 --create-home --shell /usr/sbin/nologin town
    # The directories that compose and Kubernetes mount volumes on; a new volume gets their owner.
    install -d -o 10001 -g 10001 -m 700 /home/town /work
    ;;
load)
    # Python's own modules come without bytecode, and a fresh or read-only disk keeps none: import
    # once, as root, what will be imported.
    /town/bin/python -c 'import tinytown_workers.__main__, tinytown_workers.ask, nacl.secret'
    if is_town; then
        /town/bin/python -c 'import tinytown.townhall, tinytown.cli.root, apprise
import granian.server.embed, tinytown_notifiers.sinks.push'
    fi
    ;;
*)
    echo "build.sh: what is '$step'?" >&2
    exit 2
    ;;
esac
