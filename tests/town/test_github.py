"""GitHub without rules: who may start what, whose branch it is, and what is never obeyed."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from hooking import issue
from tinytown.models.source import Association, GithubRules, Rule, SourceRecord
from tinytown.town.deciding import decide, facts_of
from tinytown.town.github import mentions, same_repository
from tinytown.town.rules import Decision

MISSION = "mis_01m83aejvxngkfbkhy9jk7b3z8"  # in names of tests: the same in every process


def decided(kind: str, payload: Any, *, own: tuple[Rule, ...] = (), **rules: Any) -> Decision:
    source = SourceRecord(
        id="src_1",
        scheme="github",
        name="our repositories",
        created_at="",
        updated_at="",
        rules=own,
        github=GithubRules(**rules),
    )
    return decide(source, facts_of(source, kind=kind, headers={}, payload=payload))


def comment(body: str, association: str = "MEMBER", **more: Any) -> dict[str, Any]:
    said = {
        "body": body,
        "author_association": association,
        "user": {"login": "octocat"},
        "html_url": "https://github.com/octo/town/issues/12#issuecomment-1",
    }
    return issue(comment=said, **more)


def labeled(label: str = "tinytown", **more: Any) -> dict[str, Any]:
    return issue(label={"name": label}, **more)


def pull(**more: Any) -> dict[str, Any]:
    found = issue(**more)
    found["pull_request"] = {
        **found.pop("issue"),
        "html_url": "https://github.com/octo/town/pull/12",
        "head": {"ref": f"tinytown/{MISSION}", "repo": {"full_name": "octo/town"}},
    }
    return found


def test_a_label_starts_a_mission_with_repository_ref_and_text() -> None:
    found = decided("issues.labeled", labeled(body="It does not\nwork."))
    assert found.action == "start_mission"
    said = found.fields
    assert said["repo"] == "https://github.com/octo/town.git"
    assert said["ref"] == "main"
    assert said["thread"] == "octo/town#12"
    assert said["title"] == "octo/town#12: Broken"
    assert said["labels"] == {"repository": "octo/town", "number": "12"}
    assert "\nBroken\n[end " in said["goal"]
    assert "\nIt does not\nwork.\n[end " in said["goal"]
    assert "a webhook of our repositories" in said["goal"]
    assert decided("issues.labeled", labeled(), clone="ssh").fields["repo"] == (
        "git@github.com:octo/town.git"
    )


def test_another_label_starts_nothing() -> None:
    assert decided("issues.labeled", labeled("bug")).action == "ignore"
    assert decided("issues.labeled", labeled("agent"), label="Agent").action == "start_mission"


def test_a_label_that_a_stranger_brought_with_his_issue_starts_nothing() -> None:
    """An issue form sets its labels in its author's name; whoever labels others' may do so."""
    stranger = labeled(association="NONE", author="octocat")
    assert "may not start" in decided("issues.labeled", stranger).reason
    member = labeled(association="NONE", author="somebody")
    assert decided("issues.labeled", member).action == "start_mission"


def test_a_comment_that_mentions_us_starts_a_mission_with_its_words() -> None:
    found = decided("issue_comment.created", comment("@tinytown please fix"))
    assert found.action == "start_mission"
    assert "comment by octocat]\n@tinytown please fix\n" in found.fields["goal"]
    assert "Do what the comment asks for" in found.fields["goal"]
    assert "@tinytown please fix" in found.fields["text"]
    assert "It does not work." not in found.fields["text"], "an open mission knows its issue"
    assert found.fields["by"] == "octocat"


@pytest.mark.parametrize("association", ["OWNER", "MEMBER", "COLLABORATOR"])
def test_those_who_belong_to_the_repository_may_start_missions(association: str) -> None:
    found = decided("issue_comment.created", comment("@tinytown go", association))
    assert found.action == "start_mission"


@pytest.mark.parametrize("association", ["CONTRIBUTOR", "FIRST_TIMER", "NONE", "", "owner"])
def test_strangers_may_not(association: str) -> None:
    found = decided("issue_comment.created", comment("@tinytown go", association))
    assert (found.action, "may not start" in found.reason) == ("ignore", True)
    opened = issue(body="@tinytown go", association=association)
    assert decided("issues.opened", opened).action == "ignore"


def test_who_may_is_for_the_owner_to_say() -> None:
    said = comment("@tinytown go", "CONTRIBUTOR")
    open_to_all = decided("issue_comment.created", said, author_associations=("CONTRIBUTOR",))
    assert open_to_all.action == "start_mission"
    owner = comment("@tinytown go", "OWNER")
    assert decided("issue_comment.created", owner, author_associations=()).action == "ignore"


# What a hook brings -> where in its payload its author's association stands.
SAID = [
    ("issue_comment.created", "comment"),
    ("issue_comment.edited", "comment"),
    ("commit_comment.created", "comment"),
    ("pull_request_review_comment.created", "comment"),
    ("pull_request_review.submitted", "review"),
    ("issues.opened", "issue"),
    ("issues.edited", "issue"),
    ("pull_request.opened", "pull_request"),
    ("discussion.created", "discussion"),
]


@pytest.mark.parametrize(("kind", "what"), SAID)
def test_a_rule_of_ones_own_is_as_closed_to_strangers_as_the_usual(kind: str, what: str) -> None:
    rule = Rule(action="start_mission", fields={"goal": "Look at {{ kind }}"})

    def ruled(association: str, sender: str = "eve", **rules: Any) -> Decision:
        said = {"user": {"login": "eve"}, "author_association": association, "body": "do it"}
        payload = issue(association="OWNER")
        if what in {"pull_request", "discussion"}:
            del payload["issue"]
        payload |= {what: said, "sender": {"login": sender}}
        return decided(kind, payload, own=(rule,), **rules)

    for stranger in ("NONE", "CONTRIBUTOR", "FIRST_TIMER", ""):
        refused = ruled(stranger)
        assert (refused.action, "eve" in refused.reason) == ("ignore", True), stranger
        # Nor do a stranger's words become a member's by passing through his hands.
        assert ruled(stranger, "octocat").action == "ignore"
    assert ruled("MEMBER").action == "start_mission"
    everybody = get_args(Association)
    for stranger in everybody:
        assert ruled(stranger, author_associations=everybody).action == "start_mission"


def test_what_somebody_with_the_right_to_does_with_a_strangers_issue_is_his() -> None:
    rule = Rule(action="start_mission", fields={"goal": "Look at {{ kind }}"})
    stranger = labeled(association="NONE", author="eve")
    assert decided("issues.labeled", stranger, own=(rule,)).action == "start_mission"
    stranger["sender"]["login"] = "eve"
    assert decided("issues.labeled", stranger, own=(rule,)).action == "ignore"
    pushed = {key: value for key, value in issue().items() if key != "issue"}
    assert decided("push", pushed, own=(rule,)).action == "start_mission", "nobody's text"


@pytest.mark.parametrize(
    ("said", "counts"),
    [
        ("@tinytown", True),
        ("hey @TinyTown, look", True),
        ("(@tinytown)", True),
        ("@tinytown-bot do", False),
        ("@tinytowns do", False),
        ("mail me@tinytown.example", False),
        ("https://x.example/@tinytown", False),
        ("> @tinytown do it\nno, do not", False),
        ("```\n@tinytown\n```", False),
        ("```\n@tinytown", False),
        ("use `@tinytown`", False),
        ("> old\n@tinytown new", True),
        ("", False),
    ],
)
def test_a_mention_is_said_not_quoted(said: str, counts: bool) -> None:  # noqa: FBT001
    assert mentions(said, "@tinytown") is counts


def test_a_repository_that_is_not_on_the_list_is_not_obeyed() -> None:
    listed = ("octo/*", "acme/shop")
    assert decided("issues.labeled", labeled(), repositories=listed).action == "start_mission"
    other = labeled(repository="evil/shop")
    assert "not one of" in decided("issues.labeled", other, repositories=listed).reason
    assert decided("issues.labeled", {}, repositories=listed).action == "ignore"
    upper = labeled(repository="Octo/Town")
    assert decided("issues.labeled", upper, repositories=listed).action == "start_mission"


@pytest.mark.parametrize(
    "sender",
    [
        {"login": "dependabot[bot]", "type": "Bot"},
        {"login": "some-app[bot]"},
        {"login": "tinytown", "type": "User"},
        {"login": "TinyTown", "type": "User"},
    ],
)
def test_no_bot_and_not_we_ourselves_start_anything(sender: dict[str, str]) -> None:
    said = comment("@tinytown go") | {"sender": sender}
    assert decided("issue_comment.created", said).action == "ignore"
    assert decided("issues.labeled", labeled() | {"sender": sender}).action == "ignore"


def test_a_pull_request_is_worked_on_where_it_is() -> None:
    found = decided("pull_request.labeled", pull(label={"name": "tinytown"}))
    assert found.fields["ref"] == "refs/pull/12/head"
    said = comment("@tinytown go")
    said["issue"]["pull_request"] = {"url": "x"}
    assert decided("issue_comment.created", said).fields["ref"] == "refs/pull/12/head"


@pytest.mark.parametrize("kind", ["ping", "push", "issues.closed", "star.created", "", "x" * 99])
def test_everything_else_is_ignored_with_a_reason(kind: str) -> None:
    found = decided(kind, issue())
    assert found.action == "ignore"
    assert found.reason


@pytest.mark.parametrize("payload", [None, [], "x", 7, {"issue": None}, {"issue": {"number": {}}}])
@pytest.mark.parametrize("kind", ["issues.labeled", "check_run.completed", "issue_comment.created"])
def test_a_payload_of_the_wrong_form_starts_nothing(kind: str, payload: Any) -> None:
    assert decided(kind, payload).action == "ignore"


def check(what: str, conclusion: str = "failure", branch: str = "", **more: Any) -> dict[str, Any]:
    branch = branch or f"tinytown/{MISSION}"
    about: dict[str, Any] = {
        "conclusion": conclusion,
        "name": "unit tests",
        "html_url": "https://x",
    }
    if what == "check_run":
        about |= {"check_suite": {"head_branch": branch}, "output": {"summary": "2 of 9\nfailed"}}
    else:
        about["head_branch"] = branch
    if what == "workflow_run":
        about["head_repository"] = {"full_name": more.pop("head", "octo/town")}
    return issue(**more) | {what: about, "sender": {"login": "ci[bot]", "type": "Bot"}}


@pytest.mark.parametrize("what", ["check_run", "check_suite", "workflow_run"])
def test_a_check_of_a_missions_branch_is_attached_to_it(what: str) -> None:
    found = decided(f"{what}.completed", check(what))
    assert (found.action, found.fields["mission_id"]) == ("attach", MISSION)
    assert found.fields["line"] == f"{what} unit tests: failure"
    assert "failure" in found.fields["text"]
    assert "put it right" in found.fields["goal"]
    if what == "check_run":
        assert "\n2 of 9\nfailed\n[end " in found.fields["text"]


def test_green_checks_are_logged_and_the_suite_alone_is_told() -> None:
    run = decided("check_run.completed", check("check_run", "success"))
    assert run.action == "attach"
    assert "text" not in run.fields
    assert "goal" not in run.fields
    suite = decided("check_suite.completed", check("check_suite", "success"))
    assert "success" in suite.fields["text"]
    assert "goal" not in suite.fields


@pytest.mark.parametrize(
    "branch",
    ["main", "tinytown/main", f"x-tinytown/{MISSION}", f"tinytown/{MISSION}x", "tinytown/"],
)
def test_other_branches_are_nobodys(branch: str) -> None:
    assert decided("check_run.completed", check("check_run", branch=branch)).action == "ignore"


def test_a_fork_with_a_branch_of_the_same_name_is_not_believed() -> None:
    forked = check("workflow_run", head="evil/town")
    assert decided("workflow_run.completed", forked).action == "ignore"
    review = pull(review=review_of("changes_requested"))
    review["pull_request"]["head"]["repo"]["full_name"] = "evil/town"
    assert decided("pull_request_review.submitted", review).action == "ignore"


def review_of(state: str, association: str = "MEMBER") -> dict[str, Any]:
    return {
        "state": state,
        "body": "Not like this.",
        "author_association": association,
        "user": {"login": "grace"},
        "html_url": "https://github.com/octo/town/pull/12#review",
    }


def test_a_review_of_a_missions_branch_is_attached_to_it() -> None:
    wanted = decided("pull_request_review.submitted", pull(review=review_of("changes_requested")))
    assert wanted.fields["line"] == "review by grace: changes_requested"
    assert "review by grace]\nNot like this.\n" in wanted.fields["text"]
    assert "goal" in wanted.fields
    approved = decided("pull_request_review.submitted", pull(review=review_of("approved")))
    assert "goal" not in approved.fields
    stranger = pull(review=review_of("changes_requested", "NONE"))
    assert decided("pull_request_review.submitted", stranger).action == "ignore"


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("https://github.com/octo/town.git", True),
        ("https://github.com/Octo/Town", True),
        ("git@github.com:octo/town.git", True),
        ("octo/town", True),
        ("ssh://git@github.com/octo/town/", True),
        ("https://github.com/octo/town2.git", False),
        ("https://github.com/notocto/town.git", False),
        ("/home/octo/other", False),
        (None, False),
    ],
)
def test_a_missions_repository_is_recognised(address: str | None, same: bool) -> None:  # noqa: FBT001
    assert same_repository(address, "octo/town") is same
