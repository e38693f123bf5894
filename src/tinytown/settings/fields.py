"""What can be set from outside: one frozen struct, each field with its meaning and its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tinytown.redact import MASK


class Secret(str):
    """Text that must not be seen: its repr is a mask, and msgspec refuses to encode it."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show that there is a value, and nothing of it."""
        return f"Secret({MASK!r})"


def _says(description: str, *, why: str, **limits: Any) -> Meta:
    """Say what a setting means and why its default is what it is."""
    return Meta(description=description, extra={"why": why}, **limits)


Name = Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,32}$")]
Variable = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Dollars = Annotated[float, Meta(gt=0, le=1_000_000)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that can be set from outside; a process uses the part that concerns it."""

    # -- where things are ---------------------------------------------------------------------
    redis_url: Annotated[
        Secret | None,
        _says(
            "The Redis to use: `redis://`, `rediss://` (certificate and host name are verified) "
            "or `unix://`. Set, no server is ever started.",
            why="Unset means the embedded server under `TINYTOWN_HOME`: nothing to install.",
        ),
    ] = None
    home: Annotated[
        Path,
        _says(
            "Directory of the embedded server, the laptop's connection file and the logs.",
            why="One owner-only directory that is easy to find, to back up and to remove.",
        ),
    ] = Path("~/.tinytown")
    work_dir: Annotated[
        Path | None,
        _says(
            "Directory of the workers' workspaces; keep it the same on every worker.",
            why="`work` under `TINYTOWN_HOME`: coding CLIs find a session again only at the same "
            "absolute path.",
        ),
    ] = None
    town: Annotated[
        Name,
        _says(
            "Name of the town: towns on one Redis share nothing but the server.",
            why="Most people have one town.",
        ),
    ] = "main"

    # -- the doors ----------------------------------------------------------------------------
    host: Annotated[
        str,
        _says(
            "Address townhall listens on.",
            why="Loopback: opening a town to the network is a decision, not an accident.",
            min_length=1,
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        _says(
            "Port townhall listens on, 0 for any free one; `TINYTOWN_PORT` wins over `PORT`.",
            why="What platforms that set no `PORT` expect.",
            ge=0,
            le=65535,
        ),
    ] = 8080
    public_url: Annotated[
        str | None,
        _says(
            "Base of the links in pushes, as a phone reaches it.",
            why="Unset, links point at the address townhall listens on: right for a trial.",
        ),
    ] = None
    url: Annotated[
        str | None,
        _says(
            "Base URL of the town the laptop commands talk to.",
            why="Unset, the town of `tt connect` is used, else the one on this machine.",
        ),
    ] = None
    api_key: Annotated[
        Secret | None,
        _says(
            "First admin key of the town (24 characters or more), and the key `tt` sends.",
            why="Unset, the first start makes one and prints it once.",
        ),
    ] = None
    secret_key: Annotated[
        Secret | None,
        _says(
            "Signs answer links and encrypts secrets at rest (16 characters or more).",
            why="Unset, the town makes one and keeps it in its Redis.",
        ),
    ] = None
    probe_key: Annotated[
        Secret | None,
        _says(
            "Key that `/ready`, `/metrics` and `/api/scaling` then ask for (8 characters or more).",
            why="Unset: health checks and autoscalers usually cannot send one.",
        ),
    ] = None

    # -- telling people -----------------------------------------------------------------------
    notify: Annotated[
        tuple[Secret, ...],
        _says(
            "Apprise URLs, separated by white space: push endpoints present from the start.",
            why="Who to tell cannot be guessed.",
        ),
    ] = ()
    notifier: Annotated[
        bool,
        _says(
            "`on`: townhall delivers pushes and webhooks itself; `off`: `tt notifier` does.",
            why="One process is enough for thousands of deliveries an hour.",
        ),
    ] = True
    egress_allow: Annotated[
        tuple[str, ...],
        _says(
            "Private networks and addresses that pushes and webhooks may go to, with any port and "
            "without TLS, separated by commas or white space: `192.168.1.0/24, fd00::7`.",
            why="Unset: whoever may add an endpoint could otherwise call the machines next door. A "
            "server of your own in the house needs its address here.",
        ),
    ] = ()

    # -- workers ------------------------------------------------------------------------------
    pool: Annotated[
        tuple[Name, ...],
        _says(
            "Pools a worker takes tasks from, separated by commas, the dearest first.",
            why="Tasks that name no pool are in `default`.",
            min_length=1,
        ),
    ] = ("default",)
    agent: Annotated[
        Name,
        _says(
            "Coding CLI of a worker; a mission's `agent` overrides it.",
            why="The CLI most people have.",
        ),
    ] = "claude"
    agent_command: Annotated[
        str | None,
        _says(
            "Command line of the agent `command`, split as a shell would.",
            why="There is no command that suits everybody.",
        ),
    ] = None
    model: Annotated[
        str | None,
        _says(
            "Model name handed to the coding CLI.",
            why="Unset, the CLI chooses: names change more often than this program.",
        ),
    ] = None
    permissions: Annotated[
        Literal["ask", "bypass"],
        _says(
            "`ask`: a permission prompt of the CLI becomes a question; `bypass`: all is allowed.",
            why="Silence is never consent; `bypass` is for workers that are sandboxes themselves.",
        ),
    ] = "ask"
    git_token: Annotated[
        Secret | None,
        _says(
            "Token to clone and push over https; only the worker's own git sees it.",
            why="Public and local repositories need none.",
        ),
    ] = None
    budget_usd: Annotated[
        Dollars | None,
        _says(
            "Most that one task may cost in US dollars, where the CLI tells its cost.",
            why="Unset: not every CLI tells, and a wrong guess would end good work.",
        ),
    ] = None
    task_seconds: Annotated[
        float,
        _says(
            "Longest that one attempt of a task may run; a mission's time limit overrides it.",
            why="4 h: longer than real coding tasks take, shorter than a night of runaway cost.",
            gt=0,
            le=604_800,
        ),
    ] = 14_400
    silence_seconds: Annotated[
        float,
        _says(
            "Longest a CLI may say nothing (while it is not waiting for a person).",
            why="15 min: above the 10 min that the longest single tool call of a CLI takes.",
            gt=0,
            le=604_800,
        ),
    ] = 900
    idle_seconds: Annotated[
        float,
        _says(
            "How long a worker without a task stays before it goes home.",
            why="60 s: catches the follow-up task, costs at most a minute of a machine.",
            ge=0,
            le=86_400,
        ),
    ] = 60
    hold_seconds: Annotated[
        float,
        _says(
            "How long a question keeps its session running before it is parked.",
            why="120 s: most people answer a phone within two minutes or much later.",
            ge=0,
            le=86_400,
        ),
    ] = 120
    drain_seconds: Annotated[
        float,
        _says(
            "How long a worker told to stop may take to finish before it hands its task back.",
            why="25 s: inside the 30 s that container platforms give.",
            ge=0,
            le=3_600,
        ),
    ] = 25

    # -- the dispatcher -----------------------------------------------------------------------
    max_workers: Annotated[
        int,
        _says(
            "Most workers the town asks for, over all pools.",
            why="5: a mistake stays cheap, and a free 30-connection Redis holds them.",
            ge=0,
            le=10_000,
        ),
    ] = 5
    launcher: Annotated[
        Literal["none", "process", "docker", "fly", "webhook"],
        _says(
            "Who starts workers when they are wanted.",
            why="`none`: an autoscaler reads `/api/scaling`; `tt up` uses `process`.",
        ),
    ] = "none"
    launcher_env: Annotated[
        tuple[Variable, ...],
        _says(
            "Variables of townhall that the `docker` launcher hands to its workers too.",
            why="A worker elsewhere gets the settings it reads and the CLIs' keys, nothing else.",
        ),
    ] = ()
    launcher_url: Annotated[
        Secret | None,
        _says(
            "Where the `webhook` launcher posts the signal when workers are missing.",
            why="Who starts workers there cannot be guessed.",
        ),
    ] = None
    launcher_secret: Annotated[
        Secret | None,
        _says(
            "Signs what the `webhook` launcher posts (Standard Webhooks; 16 characters or more).",
            why="Unset, nothing is signed: the URL itself may be the secret.",
        ),
    ] = None
    docker_socket: Annotated[
        Path,
        _says("Socket of the engine of the `docker` launcher.", why="Where engines listen."),
    ] = Path("/var/run/docker.sock")
    worker_image: Annotated[
        str,
        _says(
            "Image of the workers that the `docker` launcher starts.",
            why="The name that `docker/compose.yml` gives what it builds.",
            min_length=1,
        ),
    ] = "tinytown-worker"
    worker_network: Annotated[
        str | None,
        _says(
            "Docker network of these workers: Redis must be reachable from it.",
            why="Unset, the engine's default network.",
        ),
    ] = None
    worker_memory_mb: Annotated[
        int,
        _says(
            "Memory of such a worker in MiB; past it the kernel ends it.",
            why="1024: a coding CLI and a compiler fit, and a runaway stays one worker's trouble.",
            ge=64,
            le=1_048_576,
        ),
    ] = 1024
    max_attempts: Annotated[
        int,
        _says(
            "How often a task is tried before it is dead.",
            why="3: two lost machines are bad luck, a third makes the task the suspect.",
            ge=1,
            le=100,
        ),
    ] = 3
    lease_seconds: Annotated[
        float,
        _says(
            "How long a claimed task stays with a worker that is not heard of.",
            why="30 s: survives a Redis fail-over, and a dead worker's task waits no longer.",
            ge=0.5,
            le=3_600,
        ),
    ] = 30
    retention_days: Annotated[
        float,
        _says(
            "How long finished missions, their events and deliveries are kept.",
            why="7 days: a week of history fits the smallest managed Redis (30 MB).",
            gt=0,
            le=3_650,
        ),
    ] = 7

    # -- surroundings -------------------------------------------------------------------------
    fly_api_token: Annotated[
        Secret | None,
        _says("Token of the `fly` launcher.", why="Only that launcher needs it."),
    ] = None
    fly_app_name: Annotated[
        str | None,
        _says(
            "Fly app whose machines the `fly` launcher starts.",
            why="Fly sets it on its machines.",
        ),
    ] = None
    fly_api_url: Annotated[
        str | None,
        _says(
            "Base URL of the Machines API, with its version.",
            why="Unset: the private address on Fly's own machines, the public one elsewhere.",
        ),
    ] = None
    fly_create: Annotated[
        bool,
        _says(
            "Whether the `fly` launcher makes a machine (like the others) where none is stopped.",
            why="Off: machines cost money while they exist; `fly scale count` says how many.",
        ),
    ] = False
    log: Annotated[
        Literal["json", "console"] | None,
        _says(
            "Log lines for programs (`json`) or for people (`console`).",
            why="Unset: `console` at a terminal, `json` elsewhere.",
        ),
    ] = None

    @property
    def workspaces(self) -> Path:
        """The directory of the workers' workspaces."""
        return self.work_dir or self.home / "work"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker puts into the environment of an agent's session, for `tt ask` and scripts."""

    mission_id: str | None = None
    task_id: str | None = None
    attempt: str | None = None
    goal_file: str | None = None
    desk: str | None = None
    turn: str | None = None
