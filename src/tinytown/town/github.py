"""What GitHub's hooks do where no rule says otherwise, and whom they never obey (pure).

A label or a mention starts a mission on the repository; an issue has one open mission at a time,
and what is said there meanwhile reaches it. What happens to a mission's own branch is told to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from tinytown.models.mission import GOAL_BYTES
from tinytown.models.source import GithubRules
from tinytown.town.fencing import Fence, Quote, quoted
from tinytown.town.missions import MESSAGE_BYTES, clean
from tinytown.town.paths import find
from tinytown.town.rules import Decision

BRANCH: Final = re.compile(r"tinytown/(mis_[0-9a-hjkmnp-tv-z]{26})")
"""The branch of a mission; workers push no other."""

# Kind of hook -> what it is about, and whose words it brings.
_SPOKEN: Final[Mapping[str, tuple[str, str]]] = {
    "issues.opened": ("issue", "issue"),
    "issue_comment.created": ("issue", "comment"),
    "pull_request.opened": ("pull_request", "pull_request"),
    "pull_request_review_comment.created": ("pull_request", "comment"),
}
_LABELED: Final[Mapping[str, str]] = {
    "issues.labeled": "issue",
    "pull_request.labeled": "pull_request",
}
# Kind of hook -> where its branch stands, where that branch's repository stands ('' = not said).
_CHECKS: Final[Mapping[str, tuple[str, str, str]]] = {
    "check_run.completed": ("check_run", "check_suite.head_branch", ""),
    "check_suite.completed": ("check_suite", "head_branch", ""),
    "workflow_run.completed": ("workflow_run", "head_branch", "head_repository.full_name"),
}
_REVIEW: Final = "pull_request_review.submitted"
_FAILED: Final = frozenset({"failure", "timed_out", "startup_failure"})
_QUOTED: Final = re.compile(r"(?m:^[ \t]*>[^\n]*)|```(?s:.*?)(?:```|\Z)|`[^`\n]*`")


# Where a hook has what somebody wrote: remarks first, for what they are about comes with them.
_REMARKS: Final = ("comment", "review")
_TOPICS: Final = ("issue", "pull_request", "discussion")


def refusal(rules: GithubRules, facts: Mapping[str, Any]) -> str:
    """Say why a hook is not obeyed whatever the rules say; empty when it may be."""
    repository = text(facts, "payload.repository.full_name")
    allowed = rules.repositories
    if allowed and not any(fnmatchcase(repository.casefold(), each.casefold()) for each in allowed):
        return f"{repository or 'no repository'} is not one of this source's repositories"
    kind = str(facts["kind"])
    if kind in _CHECKS:
        return ""  # checks are run by bots; they start nothing that was not ours before
    login = text(facts, "payload.sender.login")
    if text(facts, "payload.sender.type") == "Bot" or login.endswith("[bot]"):
        return f"{login} is a bot"
    if login.casefold() == rules.bot.casefold():
        return f"{login} is ourselves"
    return ""


def strangers_words(rules: GithubRules, facts: Mapping[str, Any]) -> str:
    """Say whose words a hook brings that may not start missions; empty when it brings none.

    What somebody else does with an issue (labels, assigns, closes it) counts as theirs: GitHub lets
    only those do so who have the right to.
    """
    written = (each for each in (*_REMARKS, *_TOPICS) if find(facts, f"payload.{each}"))
    what = next(written, None)
    if what is None:
        return ""
    where = f"payload.{what}"
    said = what in _REMARKS or str(facts["kind"]).endswith((".opened", ".edited", ".created"))
    author, sender = text(facts, f"{where}.user.login"), text(facts, "payload.sender.login")
    return _stranger(rules, facts, where) if said or sender == author else ""


def decide(rules: GithubRules, facts: Mapping[str, Any], fence: Fence) -> Decision:
    """Say what a hook of GitHub asks for."""
    kind = str(facts["kind"])
    if kind in _CHECKS:
        return _check(kind, facts, fence)
    if kind == _REVIEW:
        return _review(rules, facts, fence)
    if kind in _LABELED:
        return _labeled(rules, facts, fence)
    if kind in _SPOKEN:
        return _spoken(rules, facts, fence)
    return Decision(action="ignore", reason=_no_use(kind))


def _no_use(kind: str) -> str:
    return "the hook works" if kind == "ping" else f"{kind or 'this'} starts nothing here"


# What people write and label ----------------------------------------------------------------------


def _labeled(rules: GithubRules, facts: Mapping[str, Any], fence: Fence) -> Decision:
    about = _LABELED[str(facts["kind"])]
    label = text(facts, "payload.label.name")
    if label.casefold() != rules.label.casefold():
        return Decision(action="ignore", reason=f"the label {label} starts nothing")
    # A form's own labels are set by its author.
    if refused := strangers_words(rules, facts):
        return Decision(action="ignore", reason=refused)
    return _mission(rules, facts, fence, about=about, words="", why=f"got the label {label}")


def _spoken(rules: GithubRules, facts: Mapping[str, Any], fence: Fence) -> Decision:
    about, words = _SPOKEN[str(facts["kind"])]
    said = text(facts, f"payload.{words}.body")
    if words == about:
        said = f"{text(facts, f'payload.{about}.title')}\n{said}"
    if not mentions(said, rules.mention):
        return Decision(action="ignore", reason=f"nobody mentions {rules.mention}")
    if refused := strangers_words(rules, facts):
        return Decision(action="ignore", reason=refused)
    words = words if words != about else ""
    return _mission(rules, facts, fence, about=about, words=words, why=f"mentions {rules.mention}")


def mentions(said: str, mention: str) -> bool:
    """Tell whether a text mentions a name, outside of code and of what it quotes."""
    name = rf"(?<![\w/.@-]){re.escape(mention)}(?![\w-])"
    return re.search(name, _QUOTED.sub(" ", said), re.IGNORECASE) is not None


def _stranger(rules: GithubRules, facts: Mapping[str, Any], where: str) -> str:
    association = text(facts, f"{where}.author_association") or "NONE"
    if association in rules.author_associations:
        return ""
    login = text(facts, f"{where}.user.login")
    return f"{login or 'somebody'} ({association}) may not start missions here"


def _mission(
    rules: GithubRules,
    facts: Mapping[str, Any],
    fence: Fence,
    *,
    about: str,
    words: str,
    why: str,
) -> Decision:
    name = text(facts, "payload.repository.full_name")
    number = text(facts, f"payload.{about}.number")
    address = text(facts, f"payload.repository.{'ssh' if rules.clone == 'ssh' else 'clone'}_url")
    if not name or not number.isdecimal() or not address:
        return Decision(action="ignore", reason="it names no repository and number")
    title = text(facts, f"payload.{about}.title")
    pull = about == "pull_request" or find(facts, "payload.issue.pull_request")
    what = "pull request" if pull else "issue"
    who = text(facts, "payload.sender.login")
    quotes = [Quote(f"title of the {what}", _shown(title))]
    if body := text(facts, f"payload.{about}.body"):
        quotes.append(Quote(f"text of the {what}", _shown(body)))
    comment = text(facts, f"payload.{words}.body") if words else ""
    if comment:
        quotes.append(Quote(f"comment by {_shown(who)}", _shown(comment)))
    link = text(facts, f"payload.{words or about}.html_url")
    head = f"GitHub {what} #{number} of {name} {why}.\n{link}"
    tail = f"\nDo what this {what} asks for in this repository."
    if comment:
        tail = f"\nDo what the comment asks for; the {what} is what it is about."
    said = [Quote(f"comment by {_shown(who)}", _shown(comment))] if comment else []
    fields: dict[str, Any] = {
        "goal": fence.write([head, *quotes, tail], limit=GOAL_BYTES),
        "text": fence.write([head, *said], limit=MESSAGE_BYTES),
        "title": clean(f"{name}#{number}: {title[:1_000]}")[:200],
        "repo": address,
        "ref": f"refs/pull/{number}/head" if pull else text(facts, _DEFAULT_BRANCH) or None,
        "thread": f"{name}#{number}",
        "labels": {"repository": name[:200], "number": number},
        "by": clean(who)[:100],
        "priority": rules.priority,
    }
    fields |= {key: value for key in ("agent", "pool") if (value := getattr(rules, key))}
    return Decision(action="start_mission", rule=why, fields=_said(fields))


_DEFAULT_BRANCH: Final = "payload.repository.default_branch"


# What happens to a mission's branch ---------------------------------------------------------------


def _check(kind: str, facts: Mapping[str, Any], fence: Fence) -> Decision:
    what, branch_at, repository_at = _CHECKS[kind]
    root = f"payload.{what}"
    name = text(facts, "payload.repository.full_name")
    there = text(facts, f"{root}.{repository_at}") if repository_at else name
    mission = _mission_of(text(facts, f"{root}.{branch_at}"))
    if not mission or there.casefold() != name.casefold():
        return Decision(action="ignore", reason="it is about no mission's branch")
    verdict = text(facts, f"{root}.conclusion") or "neutral"
    called = text(facts, f"{root}.name") or text(facts, f"{root}.app.name") or what
    failed = verdict in _FAILED
    parts: list[str | Quote] = [
        f"{what.replace('_', ' ')} on your branch {BRANCH_OF.format(mission)}: {verdict}.",
        f" {text(facts, f'{root}.html_url')}\n",
        "Name: ", quoted("name", called), "\n",
    ]  # fmt: skip
    parts += [
        Quote(f"{field} of the check", _shown(found))
        for field in ("title", "summary")
        if (found := text(facts, f"{root}.output.{field}"))
    ]
    return _attached(
        facts,
        fence,
        mission=mission,
        parts=parts,
        line=f"{what} {clean(called)}: {verdict}",
        # Of green ones the suite alone is told: twenty checks would be twenty messages.
        tell=failed or what == "check_suite",
        failed=failed,
    )


def _review(rules: GithubRules, facts: Mapping[str, Any], fence: Fence) -> Decision:
    head = "payload.pull_request.head"
    mission = _mission_of(text(facts, f"{head}.ref"))
    name = text(facts, "payload.repository.full_name")
    if not mission or text(facts, f"{head}.repo.full_name").casefold() != name.casefold():
        return Decision(action="ignore", reason="it is about no mission's branch")
    if refused := strangers_words(rules, facts):
        return Decision(action="ignore", reason=refused)
    who = text(facts, "payload.review.user.login")
    verdict = text(facts, "payload.review.state").casefold()
    parts: list[str | Quote] = [
        f"A review of your branch {BRANCH_OF.format(mission)}: {verdict.replace('_', ' ')}.",
        f" {text(facts, 'payload.review.html_url')}\n",
    ]
    if body := text(facts, "payload.review.body"):
        parts.append(Quote(f"review by {_shown(who)}", _shown(body)))
    return _attached(
        facts,
        fence,
        mission=mission,
        parts=parts,
        line=f"review by {clean(who)}: {verdict}",
        tell=True,
        failed=verdict == "changes_requested",
    )


BRANCH_OF: Final = "tinytown/{}"


def _mission_of(branch: str) -> str:
    found = BRANCH.fullmatch(branch)
    return found[1] if found else ""


def _attached(
    facts: Mapping[str, Any],
    fence: Fence,
    *,
    mission: str,
    parts: list[str | Quote],
    line: str,
    tell: bool,
    failed: bool,
) -> Decision:
    goal = [*parts, "\nGo on from this branch: find out why, put it right and see that it passes."]
    return Decision(
        action="attach",
        rule="branch of a mission",
        fields=_said(
            {
                "mission_id": mission,
                "repository": text(facts, "payload.repository.full_name"),
                "line": line[:500],
                "text": fence.write(parts, limit=MESSAGE_BYTES) if tell else None,
                "goal": fence.write(goal, limit=GOAL_BYTES) if failed else None,
                "ref": BRANCH_OF.format(mission),
                "by": clean(text(facts, "payload.sender.login"))[:100] or "GitHub",
            }
        ),
    )


def same_repository(address: str | None, full_name: str) -> bool:
    """Tell whether a git URL is one of this GitHub repository."""
    path = re.split(r"[/:]", (address or "").casefold().removesuffix("/").removesuffix(".git"))
    return path[-2:] == full_name.casefold().split("/")


def text(facts: Mapping[str, Any], path: str) -> str:
    """Read one text or number of a hook; empty where there is none."""
    found = find(facts, path)
    value = found[0] if found else ""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _shown(value: str) -> str:
    part = quoted("", value)
    return part.text if isinstance(part, Quote) else part


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
