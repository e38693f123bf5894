"""What others made, to hold ours against: npm packages by their folder, and Node to run them.

    ask_node("const { Webhook } = require('standardwebhooks'); …", {"secret": …})

A script is CommonJS and brings in the rest with `await import(…)`; `input` is what it is given,
and what it hands to `done` comes back.
"""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from tools.install_agents import node_root
from tools.install_packages import install

_AROUND = """
const input = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
const done = (value) => process.stdout.write(JSON.stringify(value));
(async () => {
%s
})().catch((error) => { console.error(error); process.exit(1); });
"""


@cache
def node_modules() -> Path:
    """Find the pinned packages' folder; what is missing is installed first."""
    return install(os.environ)


def node() -> Path:
    """Find the pinned Node."""
    return node_root() / "bin" / "node"


def ask_node(script: str, given: Any) -> Any:
    """Run a script among the pinned packages and return what it is done with."""
    ran = subprocess.run(
        [node(), "-e", _AROUND % script],
        cwd=node_modules().parent,  # where `import()` looks, as `require` does by NODE_PATH
        env={"PATH": os.defpath, "NODE_PATH": str(node_modules())},
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not ran.returncode, ran.stderr
    return json.loads(ran.stdout)


@cache
def github_examples() -> dict[str, list[dict[str, Any]]]:
    """Read the real payloads of GitHub's: event (`issues`) -> examples."""
    index = node_modules() / "@octokit" / "webhooks-examples" / "api.github.com" / "index.json"
    listed = json.loads(index.read_text(encoding="utf-8"))
    return {entry["name"]: entry["examples"] for entry in listed}
