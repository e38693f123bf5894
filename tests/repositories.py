"""Git repositories and a host for them, for tests of those who clone and push."""

from __future__ import annotations

import base64
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_ENV = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Agent",
    "GIT_AUTHOR_EMAIL": "agent@example.org",
    "GIT_COMMITTER_NAME": "Agent",
    "GIT_COMMITTER_EMAIL": "agent@example.org",
}


def git(where: Path, *arguments: str, env: dict[str, str] | None = None) -> str:
    """Run git as the agent, or a person, would."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=where,
        env=_ENV | (env or {}),
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def make_origin(there: Path) -> Path:
    """Make a repository with two commits on `main`, a tag and another branch."""
    there.mkdir()
    git(there, "init", "-q", "-b", "main")
    (there / "README").write_text("hello\n")
    (there / "src").mkdir()
    (there / "src" / "a.txt").write_text("a\n")
    git(there, "add", "-A")
    git(there, "commit", "-qm", "first")
    git(there, "tag", "-a", "v1", "-m", "v1")
    (there / "README").write_text("hello again\n")
    git(there, "commit", "-qam", "second")
    git(there, "branch", "side", "HEAD~1")
    return there


class GitOverHttp(BaseHTTPRequestHandler):
    """git's own http-backend behind Basic authentication."""

    root: Path
    password = ""
    seen: list[str]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.serve()

    def do_POST(self) -> None:
        self.serve()

    def serve(self) -> None:
        given = self.headers.get("Authorization", "")
        self.seen.append(given)
        if base64.b64encode(f"x-access-token:{self.password}".encode()).decode() not in given:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        done = subprocess.run(
            ["git", "http-backend"],
            input=body,
            capture_output=True,
            check=True,
            env=_ENV
            | {
                "GIT_PROJECT_ROOT": str(self.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REMOTE_USER": "someone",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            },
        )
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n"))
        self.send_response(int(fields.pop(b"Status", b"200").split()[0]))
        for name, value in fields.items():
            self.send_header(name.decode(), value.decode())
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest)


@contextmanager
def git_host(root: Path) -> Iterator[tuple[str, type[GitOverHttp]]]:
    """Serve the repositories under `root` on loopback; yields the address and the handler."""
    handler = type("Handler", (GitOverHttp,), {"root": root, "seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()
        thread.join()
