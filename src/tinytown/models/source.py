"""Source: a service whose webhooks this town takes, and the rules for them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

import msgspec

from tinytown.models.mission import Pool, Priority
from tinytown.schemes import SchemeOptions

SchemeName = Literal["github", "stripe", "slack", "linear", "standard", "hmac", "token", "basic"]
Action = Literal["start_mission", "answer_question", "message", "cancel", "ignore"]

RULES: Final = 50
CONDITIONS: Final = 20
SECRETS: Final = 4
"""Secrets alive at once: each costs a stranger's request one more hash."""


class SourceState(StrEnum):
    """Whether a source's hooks are taken."""

    ACTIVE = "active"
    PAUSED = "paused"


Scalar = str | int | float | bool | None
Path = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=200,
        description="Dotted into `kind`, `source`, `headers` and `payload`; `*` is every item of"
        " a list: `payload.issue.labels.*.name`.",
    ),
]
Template = Annotated[
    str,
    msgspec.Meta(
        max_length=32_768,
        description="Text with `{{ path }}` or `{{ path | default }}` in it; nothing is run.",
    ),
]


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Exactly one of these must hold."""

    exists: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether the path leads to anything; null counts as nothing."""
    contains: Scalar | msgspec.UnsetType = msgspec.UNSET
    """A text that contains this one, or a list with this item."""
    glob: Annotated[str, msgspec.Meta(max_length=200)] | msgspec.UnsetType = msgspec.UNSET
    """A text of this form: `*` and `?` stand for anything."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to do with a hook for which every condition of `when` holds."""

    action: Action
    name: Annotated[str, msgspec.Meta(max_length=100)] = ""
    when: Annotated[
        dict[Path, Scalar | tuple[Scalar, ...] | Condition], msgspec.Meta(max_length=CONDITIONS)
    ] = msgspec.field(default_factory=dict)
    """Path -> a value, a list of values of which one must be there, or a condition."""
    fields: Annotated[dict[str, Template | dict[str, Template]], msgspec.Meta(max_length=16)] = (
        msgspec.field(name="with", default_factory=dict)
    )
    """What the action needs: its goal, its mission, its text."""
    untrusted: Annotated[tuple[Path, ...], msgspec.Meta(max_length=50)] | None = None
    """Paths whose text others wrote, to be fenced; left out: everything of headers and payload."""


Rules = Rule | Annotated[tuple[Rule, ...], msgspec.Meta(max_length=RULES)]
Repository = Annotated[str, msgspec.Meta(pattern=r"^[\w.*-]{1,100}/[\w.*-]{1,100}$")]
Association = Literal[
    "OWNER", "MEMBER", "COLLABORATOR", "CONTRIBUTOR", "FIRST_TIMER", "FIRST_TIME_CONTRIBUTOR",
    "MANNEQUIN", "NONE",
]  # fmt: skip
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class GithubRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What GitHub's hooks do where no rule is given, and whom they never obey, rule or not."""

    repositories: Annotated[tuple[Repository, ...], msgspec.Meta(max_length=100)] = ()
    """`owner/name`, with `*` for any; none = every repository that signs with the secret."""
    author_associations: tuple[Association, ...] = ("OWNER", "MEMBER", "COLLABORATOR")
    """Whose words count, in own rules too; labels can only be set by those who may."""
    label: Word = "tinytown"
    mention: Word = "@tinytown"
    bot: Word = "tinytown"
    """The login under which our own agents act: what it does starts nothing."""
    follow_up: bool = False
    """Start a mission on the branch of an ended one when its checks fail or changes are asked."""
    clone: Literal["https", "ssh"] = "https"
    agent: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_-]{1,32}$")] | None = None
    pool: Pool | None = None
    priority: Priority = "normal"


Name = Annotated[str, msgspec.Meta(max_length=100)]
Secret = Annotated[str, msgspec.Meta(min_length=16, max_length=512)]


class NewSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller says to add a source."""

    scheme: SchemeName
    name: Name = ""
    options: SchemeOptions = SchemeOptions()
    secret: Secret | None = None
    """The one the service signs with; left out, the town makes one where the service takes it."""
    rule: Rules | None = None
    """One or a list, the first that fits counts; none = what is usual for the scheme."""
    github: GithubRules | None = None


class SourcePatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be changed of a source; what is left out stays, null takes the usual."""

    name: Name | msgspec.UnsetType = msgspec.UNSET
    options: SchemeOptions | msgspec.UnsetType = msgspec.UNSET
    rule: Rules | msgspec.UnsetType | None = msgspec.UNSET
    github: GithubRules | msgspec.UnsetType | None = msgspec.UNSET


class NewSourceSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller says to rotate the secret of a source."""

    secret: Secret | None = None
    overlap_seconds: Annotated[float, msgspec.Meta(ge=0, le=2_592_000)] = 86_400
    """How long what the present ones sign is still taken; 0 = not at all."""


class SourceSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret a service signs with; sealed when the town has a secret key."""

    secret: str
    created_at: str
    expires_at: str | None = None


class SourceRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A source as the store keeps it."""

    id: str
    scheme: SchemeName
    created_at: str
    updated_at: str
    name: str = ""
    state: SourceState = SourceState.ACTIVE
    options: SchemeOptions = SchemeOptions()
    secrets: tuple[SourceSecret, ...] = ()
    """The newest first."""
    rules: tuple[Rule, ...] = ()
    github: GithubRules | None = None


class ShownSourceSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret as everyone sees it: never itself."""

    created_at: str
    expires_at: str | None = None


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A source as everyone sees it."""

    id: str
    name: str
    scheme: SchemeName
    state: SourceState
    url: str
    """Where the service sends its hooks."""
    options: SchemeOptions
    rule: tuple[Rule, ...]
    github: GithubRules | None
    secrets: tuple[ShownSourceSecret, ...]
    created_at: str
    updated_at: str


class SourceWithSecret(Source, frozen=True, kw_only=True):
    """A source just made or rotated; `secret` is shown only this once."""

    secret: str | None = None
    """None where the caller brought it."""


class DryRun(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A hook to try: one that is stored, or a pasted payload."""

    hook_id: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    payload: Any = msgspec.UNSET
    headers: Annotated[dict[str, str], msgspec.Meta(max_length=50)] = msgspec.field(
        default_factory=dict
    )
    kind: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    """The event's type; left out, it is read from headers and payload as the scheme does."""


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What would happen to a hook; nothing did."""

    kind: str
    would: Literal[
        "start_mission", "answer_question", "message", "cancel", "ignore", "attach", "fail"
    ]
    rule: str = ""
    fields: dict[str, Any] = msgspec.field(name="with", default_factory=dict)
    mission_id: str | None = None
    """The mission it is about, where there is one already."""
    reason: str | None = None
