# Every verb a person needs here. `just` alone lists them; `just sync` comes first.

set dotenv-load
set shell := ["bash", "-euo", "pipefail", "-c"]

venv := env("VENV", justfile_directory() / ".venv")
export PATH := venv / "bin" + ":" + env("PATH")

# The development town: a throw-away Redis on a socket that is not in the way of any other.
dev_socket := justfile_directory() / ".cache" / "redis.sock"
dev_redis := "unix://" + dev_socket

[private]
default:
    @just --list --unsorted

# what the system lacks, the environment from the pins, the pinned coding CLIs
[group("set up")]
sync:
    VENV={{ venv }} tools/setup

# install the pre-commit hook that runs `just check`
[group("set up")]
hooks:
    printf '#!/bin/sh\nexec just check\n' > "$(git rev-parse --git-path hooks)/pre-commit"
    chmod +x "$(git rev-parse --git-path hooks)/pre-commit"

# what CI asks, in CI's order: lint, types, rooms, generated docs, test
[group("every day")]
check: lint types rooms docs-check test

# format, and fix what ruff can fix
[group("every day")]
fmt:
    ruff check --fix --exit-zero --quiet
    ruff format

# ruff, every rule (pyproject says why one is off), the format, and shellcheck
[group("every day")]
lint:
    ruff check
    ruff format --check
    shellcheck .ci/run tools/setup

# mypy strict over packages, tests, tools and benches
[group("every day")]
types:
    mypy

# the dependency rule: import-linter's contracts
[group("every day")]
rooms:
    lint-imports

# pytest, arguments passed through
[group("every day")]
test *args:
    pytest -n 3 {{ args }}

# deploy files against other people's schemas (fetched once, or given by $DEPLOY_SCHEMAS)
[group("every day")]
schemas:
    pytest -m schemas tests/deploy

# read the town aloud: the living documentation
[group("every day")]
story:
    pytest tests/story -v -p no:randomly

# branch coverage, as text and as htmlcov/
[group("every day")]
cov *args:
    pytest -n 3 --cov --cov-report=term --cov-report=html {{ args }}

# hypothesis with ten times the examples
[group("every day")]
props *args:
    pytest -n 3 --hypothesis-profile thorough --timeout 600 {{ args }} $(grep -rl --include='test_*.py' hypothesis tests)

# bytes, steered by coverage, at whatever verifies a signature; then libFuzzer's flags (Linux)
[group("every day")]
fuzz seconds="60" *flags:
    pip install -q --require-hashes -r tests/fuzz/atheris.txt
    cd tests && python -m fuzz.hooks {{ seconds }} {{ flags }}

# a throw-away redis-server on a socket; Ctrl-C ends it
[group("run")]
redis:
    mkdir -p {{ parent_directory(dev_socket) }}
    redis-server --port 0 --unixsocket {{ dev_socket }} --unixsocketperm 700 --save "" --appendonly no

# a townhall on that Redis
[group("run")]
hall *args:
    REDIS_URL={{ dev_redis }} townhall {{ args }}

# one worker on that Redis, whose agent is any command (`just worker` runs `cat`)
[group("run")]
worker *args:
    REDIS_URL={{ dev_redis }} TINYTOWN_AGENT=command \
    TINYTOWN_AGENT_COMMAND="${TINYTOWN_AGENT_COMMAND:-cat}" tt-worker {{ args }}

# a whole mission with everything in it, from nothing to nothing; no account needed
[group("run")]
demo *args:
    tt demo {{ args }}

# every key of the development town with its type and its life
[group("look")]
keys:
    redis-cli -s {{ dev_socket }} --scan | sort | while read -r key; do \
        printf '%-8s %8s  %s\n' "$(redis-cli -s {{ dev_socket }} type "$key")" \
            "$(redis-cli -s {{ dev_socket }} ttl "$key")" "$key"; done

# tail the town's event stream
[group("look")]
events *args:
    tt events {{ args }}

# the table of promises with numbers
[group("look")]
bench *args:
    python -m bench {{ args }}

# missions under random kills of workers, townhall and Redis
[group("look")]
chaos *args:
    CHAOS=long pytest tests/chaos -s {{ args }}

# the races around zero: a thousand idle exits against a new task, two hundred killed launchers
[group("look")]
races *args:
    RACES=long pytest tests/launch/test_going_home.py -s -p no:randomly {{ args }}

# write the generated pages again: keys, settings, problems, states
[group("docs")]
docs:
    python tools/generate_docs.py

# fail if a generated page is stale
[group("docs")]
docs-check:
    python tools/generate_docs.py --check

# build sdist and wheel into dist/ and list the wheel
[group("ship")]
build:
    rm -rf dist
    python -m build --no-isolation
    python -m zipfile --list dist/*.whl

# the wheel in a fresh environment, installed with pip: the three commands start
[group("ship")]
smoke:
    python tools/smoke.py town

# the wheel in the worker's slim environment: it starts, and nothing heavy is there
[group("ship")]
slim:
    python tools/smoke.py worker

# both of them from one wheel
[group("ship")]
ship:
    python tools/smoke.py town worker

# fly.toml in both shapes, checked without an account
[group("ship")]
fly-check:
    python tools/check_fly.py fly.toml deploy/fly/suspend.toml

# the workflows, by actionlint (a Go module: Go builds it once)
[group("ship")]
workflows:
    go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.7

# both images, weighed (needs docker; tools/containers says what helps without a registry)
[group("ship")]
images:
    python -m tools.containers images

# a mission in containers of 256 MB, with things killed (`--short`: without)
[group("ship")]
container-test *args:
    python -m tools.containers test {{ args }}

# pin again, newest versions: one file for each kind of machine, no index addresses
[group("tidy")]
lock:
    #!/usr/bin/env bash
    set -euo pipefail
    pin() {
        uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
            --no-header "$@"
    }
    # The largest first; the others choose the same versions.
    pin --upgrade pyproject.toml --extra local --group pyproject.toml:development \
        --output-file requirements/development.txt
    pin --upgrade --constraint requirements/development.txt pyproject.toml \
        --output-file requirements/town.txt
    pin --upgrade --constraint requirements/development.txt --group pyproject.toml:worker \
        --output-file requirements/worker.txt

# remove what tools leave behind (not the environment)
[group("tidy")]
clean:
    rm -rf dist build htmlcov .coverage .coverage.* .cache
    rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
    find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
