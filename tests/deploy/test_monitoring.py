"""Prometheus and Grafana: promtool reads all of it, against the metrics of a real townhall."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy.parts import DEPLOY, documents, run
from halls import API_KEY, HallProcess
from servers import RedisServer

PROMETHEUS = DEPLOY / "prometheus"
RULES: list[Any] = documents(PROMETHEUS / "alerts.yml")[0]["groups"][0]["rules"]
DASHBOARD: Any = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
# The names that people rely on; breaking one needs a line in the changelog.
PROMISED = {
    "tinytown_build_info": (),
    "tinytown_missions": ("state",),
    "tinytown_missions_finished_total": ("state",),
    "tinytown_tasks": ("pool", "state"),
    "tinytown_workers": ("pool", "state"),
    "tinytown_scaling_desired_workers": ("pool",),
    "tinytown_oldest_waiting_seconds": ("pool",),
    "tinytown_wake_seconds": ("path",),
    "tinytown_question_to_push_seconds": (),
    "tinytown_answer_seconds": (),
    "tinytown_deliveries_total": ("kind", "outcome"),
    "tinytown_delivery_seconds": ("kind",),
    "tinytown_outbox_oldest_seconds": (),
    "tinytown_events_total": ("type",),
    "tinytown_redelivered_total": (),
    "tinytown_worker_starts_total": ("launcher", "result"),
    "tinytown_agent_seconds_total": ("kind",),
    "tinytown_redis_latency_seconds": (),
    "tinytown_http_request_seconds": (),
}
FROM_PROMETHEUS = {"job", "instance", "town", "le"}


@pytest.fixture(scope="module")
def metrics() -> Iterator[str]:
    """Read what a real townhall tells of a town that has a mission."""
    with (
        RedisServer() as server,
        HallProcess(server.url) as hall,
        httpx.Client(base_url=hall.address, trust_env=False) as client,
    ):
        client.headers["Authorization"] = f"Bearer {API_KEY}"
        assert client.post("/v1/missions", json={"goal": "a goal"}).status_code == 201
        client.get("/metrics")  # so that a request has been counted
        yield client.get("/metrics").text


def panels() -> list[Any]:
    """List the panels that show something."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> dict[str, str]:
    """List every expression with where it stands."""
    found = {rule["alert"]: rule["expr"] for rule in RULES}
    for panel in panels():
        for target in panel["targets"]:
            found[f"{panel['title']}/{target['refId']}"] = target["expr"]
    return found


def families(text: str) -> set[str]:
    """List the families of a page of metrics."""
    return set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))


def used(expression: str) -> set[str]:
    """List the families that an expression reads; a histogram's parts count for it."""
    names = re.findall(r"\btinytown_[a-z_]+", expression)
    return {re.sub(r"_bucket$", "", name) for name in names}


def test_promtool_finds_nothing_in_the_metrics(metrics: str) -> None:
    said = run("promtool", "check", "metrics", stdin=metrics)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stderr == ""


def test_the_townhall_tells_every_metric_that_was_promised(metrics: str) -> None:
    assert PROMISED.keys() <= families(metrics)
    for name, labels in PROMISED.items():
        for given in re.findall(rf"^{name}(?:_bucket)?{{([^}}]*)}}", metrics, re.MULTILINE):
            told = set(re.findall(r'(\w+)="', given))
            assert set(labels) <= told, name


def test_promtool_takes_the_configuration_and_the_rules() -> None:
    said = run("promtool", "check", "config", PROMETHEUS / "prometheus.yml")
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{len(RULES)} rules found" in said.stdout


def test_the_alerts_ring_when_they_should_and_only_then() -> None:
    said = run("promtool", "test", "rules", PROMETHEUS / "alerts_test.yml")
    assert said.returncode == 0, said.stdout + said.stderr


def test_every_alert_has_rung_in_a_test_and_been_silent_in_another() -> None:
    rung: set[str] = set()
    silent: set[str] = set()
    for test in documents(PROMETHEUS / "alerts_test.yml")[0]["tests"]:
        for case in test["alert_rule_test"]:
            (rung if case["exp_alerts"] else silent).add(case["alertname"])
    names = {rule["alert"] for rule in RULES}
    assert rung == names
    assert silent <= names
    assert {"TinytownDown", "TinytownNoTick", "TinytownTaskWaits", "TinytownDeadLetters"} <= silent


def test_a_changed_threshold_fails_the_test_of_the_rules(tmp_path: Path) -> None:
    """The tests of the rules must be able to fail."""
    rules = (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8")
    for name, old, new in (
        ("late", "> 300", "> 3000"),
        ("early", "> 300", "> 3"),
        ("deaf", 'type="delivery.dead"', 'type="delivery.died"'),
    ):
        folder = tmp_path / name
        folder.mkdir()
        assert old in rules
        (folder / "alerts.yml").write_text(rules.replace(old, new))
        (folder / "test.yml").write_text((PROMETHEUS / "alerts_test.yml").read_text())
        assert run("promtool", "test", "rules", folder / "test.yml").returncode != 0, name


def test_alerts_and_dashboard_read_only_what_the_townhall_tells(metrics: str) -> None:
    told = families(metrics)
    unknown = {place: used(text) - told for place, text in expressions().items()}
    assert {place: names for place, names in unknown.items() if names} == {}


def test_the_dashboard_shows_every_promised_metric() -> None:
    shown = {name for panel in panels() for each in panel["targets"] for name in used(each["expr"])}
    assert shown == set(PROMISED)


def test_expressions_choose_by_labels_that_the_metrics_have() -> None:
    wrong = {}
    for place, text in expressions().items():
        known = {label for name in used(text) for label in PROMISED[name]} | FROM_PROMETHEUS
        known |= {"route"} if "tinytown_http_request_seconds" in text else set()
        asked = set(re.findall(r"[{,]\s*(\w+)\s*[=!]", text))
        for group in re.findall(r"\bby \(([^)]*)\)", text):
            asked |= {label.strip() for label in group.split(",")}
        if asked - known:
            wrong[place] = asked - known
    assert wrong == {}


def test_expressions_choose_values_that_exist(metrics: str) -> None:
    """A misspelt state matches nothing, and a panel of nothing looks like peace."""
    told: dict[str, set[str]] = {}
    for label, value in re.findall(r'[{,](\w+)="([^"]*)"', metrics):
        told.setdefault(label, set()).add(value)
    wrong = {
        (place, label, value)
        for place, text in expressions().items()
        for label, values in re.findall(r'\b(state|type|kind)[=!]~?"([^"]*)"', text)
        for value in values.split("|")
        if value not in told[label]
    }
    assert wrong == set()


def test_promtool_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    plain = [
        expression.replace("$__rate_interval", "5m").replace("$town", "main")
        for panel in panels()
        for expression in (target["expr"] for target in panel["targets"])
    ]
    rules = [{"record": f"panel:{number}", "expr": text} for number, text in enumerate(plain)]
    (tmp_path / "panels.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "a", "rules": rules}]})
    )
    said = run("promtool", "check", "rules", tmp_path / "panels.yml")
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"{len(plain)} rules found" in said.stdout


def test_the_dashboard_is_whole() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]}
    assert len(places) == len(ids), "panels lie on top of each other"


def test_every_alert_says_how_bad_it_is_what_it_means_and_names_what_exists() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "description"}
    scraped = documents(PROMETHEUS / "prometheus.yml")[0]["scrape_configs"]
    jobs = {job["job_name"] for job in scraped}
    asked = {job for rule in RULES for job in re.findall(r'job="([^"]+)"', rule["expr"])}
    assert asked == jobs
