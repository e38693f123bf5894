"""Kubernetes, KEDA, Cloud Run and Nomad: each file against its schema, and against ourselves."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hcl2
import pytest

from deploy.conftest import Validate
from deploy.parts import DEPLOY, containers, documents, run
from tinytown import settings

KUBERNETES = [DEPLOY / "kubernetes" / "townhall.yaml", DEPLOY / "keda" / "worker.yaml"]
SCHEMAS = {
    DEPLOY / "keda" / "scaledjob.yaml": "scaledjob_v1alpha1.json",
    DEPLOY / "keda" / "scaledobject.yaml": "scaledobject_v1alpha1.json",
    DEPLOY / "cloud-run" / "service.yaml": "cloud-run-v1.json",
    DEPLOY / "cloud-run" / "job.yaml": "cloud-run-v1.json",
}
YAML = [*KUBERNETES, *SCHEMAS]
NOMAD = sorted((DEPLOY / "nomad").glob("*.nomad.hcl"))
GIVEN = {  # what comes from the platform's own store of secrets
    "REDIS_URL": "rediss://:password@redis.example:6379/0",
    "TINYTOWN_API_KEY": "tt_the-key-of-the-first-operator",
    "TINYTOWN_SECRET_KEY": "sixteen-and-more-characters",
}


def test_every_file_of_the_folder_is_checked_here() -> None:
    written = {path for path in DEPLOY.rglob("*.y*ml") if "prometheus" not in path.parts}
    assert written == set(YAML)
    assert set(DEPLOY.rglob("*.hcl")) == set(NOMAD)


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_kubernetes_would_take_it(path: Path) -> None:
    said = run("kubernetes-validate", "--strict", path)
    assert said.returncode == 0, said.stdout + said.stderr


def test_kubernetes_would_not_take_a_misspelt_probe(tmp_path: Path) -> None:
    wrong = tmp_path / "townhall.yaml"
    wrong.write_text(KUBERNETES[0].read_text().replace("livenessProbe", "livenesProbe"))
    assert run("kubernetes-validate", "--strict", wrong).returncode != 0


@pytest.mark.schemas
@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_it_fits_the_public_schema(path: Path, validate: Validate) -> None:
    for document in documents(path):
        assert validate(SCHEMAS[path], document) == []


@pytest.mark.schemas
def test_the_schemas_see_a_mistake(validate: Validate) -> None:
    """A check that lets everything through proves nothing."""
    job = documents(DEPLOY / "keda" / "scaledjob.yaml")[0]
    mistakes: list[Callable[[Any], object]] = [
        lambda spec: spec["triggers"][0].pop("metadata"),
        lambda spec: spec.update(pollingInterval="soon"),
        lambda spec: spec["rollout"].update(strategy=1),
        lambda spec: spec.pop("jobTargetRef"),
    ]
    for spoil in mistakes:
        wrong = copy.deepcopy(job)
        spoil(wrong["spec"])
        assert validate("scaledjob_v1alpha1.json", wrong) != []
    service = copy.deepcopy(documents(DEPLOY / "cloud-run" / "service.yaml")[0])
    service["spec"]["template"]["spec"]["containers"][0]["ports"] = 8080
    assert validate("cloud-run-v1.json", service) != []


@pytest.mark.parametrize("path", [*YAML, *NOMAD], ids=lambda path: path.name)
def test_each_file_opens_with_its_two_traps(path: Path) -> None:
    head = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        head.append(line)
    assert "\n".join(head).count("Trap: ") == 2
    assert len(head) <= 8


def environment(container: dict[str, Any]) -> dict[str, str]:
    """Read a container's variables; what comes from a secret gets a stand-in."""
    return {
        each["name"]: each.get("value") or GIVEN.get(each["name"], "secret")
        for each in container.get("env", ())
    }


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_what_it_sets_is_what_the_programs_read(path: Path) -> None:
    for document in documents(path):
        for container in containers(document):
            settings.load({**GIVEN, **environment(container)})


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_a_pod_can_do_nothing_it_need_not(path: Path) -> None:
    for document in documents(path):
        if document["apiVersion"] not in {"apps/v1", "keda.sh/v1alpha1"}:
            continue  # Cloud Run has its own walls
        for container in containers(document):
            walls = container["securityContext"]
            assert walls["readOnlyRootFilesystem"] is True
            assert walls["allowPrivilegeEscalation"] is False
            assert walls["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            mounted = {each["mountPath"] for each in container["volumeMounts"]}
            assert {"/tmp", "/home/town"} <= mounted
        assert "runAsNonRoot: true" in path.read_text() or not containers(document)


def grace(document: Any) -> float:
    """Find a pod's grace period."""
    found = re.search(r"'terminationGracePeriodSeconds': (\d+)", str(document))
    assert found
    return float(found[1])


@pytest.mark.parametrize("name", ["scaledjob.yaml", "worker.yaml"])
def test_a_worker_has_time_to_hand_its_task_back(name: str) -> None:
    document = documents(DEPLOY / "keda" / name)[0]
    (container,) = containers(document)
    drain = settings.load({**GIVEN, **environment(container)}).drain_seconds
    assert grace(document) >= drain + 10


def test_cloud_run_kills_after_ten_seconds_and_the_drain_is_shorter() -> None:
    (container,) = containers(documents(DEPLOY / "cloud-run" / "job.yaml")[0])
    assert settings.load({**GIVEN, **environment(container)}).drain_seconds <= 8


def test_keda_starts_jobs_for_the_total_and_never_ends_one() -> None:
    spec = documents(DEPLOY / "keda" / "scaledjob.yaml")[0]["spec"]
    assert spec["scalingStrategy"]["strategy"] == "default"
    assert spec["triggers"][0]["metadata"]["valueLocation"] == "desired"
    assert spec["rollout"]["strategy"] == "gradual"
    assert spec["jobTargetRef"]["template"]["spec"]["restartPolicy"] == "Never"


def test_keda_scales_resident_workers_up_and_all_of_them_down_only_when_nothing_is_wanted() -> None:
    document = documents(DEPLOY / "keda" / "scaledobject.yaml")[0]
    spec = document["spec"]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleDown"]["selectPolicy"] == "Disabled"
    assert "fallback" not in spec
    deployment = documents(DEPLOY / "keda" / "worker.yaml")[0]
    assert spec["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    (container,) = containers(deployment)
    idle = settings.load({**GIVEN, **environment(container)}).idle_seconds
    assert idle > spec["cooldownPeriod"]


def test_as_many_may_come_as_the_town_asks_for() -> None:
    hall = next(each for each in documents(KUBERNETES[0]) if each["kind"] == "Deployment")
    (container,) = containers(hall)
    most = settings.load({**GIVEN, **environment(container)}).max_workers
    for name in ("scaledjob.yaml", "scaledobject.yaml"):
        assert documents(DEPLOY / "keda" / name)[0]["spec"]["maxReplicaCount"] >= most


def test_the_probes_ask_what_they_are_for() -> None:
    hall = next(each for each in documents(KUBERNETES[0]) if each["kind"] == "Deployment")
    service = documents(DEPLOY / "cloud-run" / "service.yaml")[0]
    for container in (*containers(hall), *containers(service)):
        assert container["livenessProbe"]["httpGet"]["path"] == "/health"
        assert container["startupProbe"]["httpGet"]["path"] == "/health"
    (container,) = containers(hall)
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"


def test_the_service_leads_to_the_pods_and_keda_to_the_service() -> None:
    service, hall = documents(KUBERNETES[0])
    labels = hall["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    name, space = service["metadata"]["name"], service["metadata"]["namespace"]
    for file in ("scaledjob.yaml", "scaledobject.yaml"):
        (trigger,) = documents(DEPLOY / "keda" / file)[0]["spec"]["triggers"]
        wanted = f"http://{name}.{space}.svc.cluster.local:8080/api/scaling"
        assert trigger["metadata"]["url"] == wanted


def test_cloud_run_keeps_one_townhall_awake_with_a_cpu() -> None:
    service = documents(DEPLOY / "cloud-run" / "service.yaml")[0]
    notes = service["spec"]["template"]["metadata"]["annotations"]
    assert notes["run.googleapis.com/cpu-throttling"] == "false"
    assert notes["autoscaling.knative.dev/minScale"] == "1"
    assert notes["autoscaling.knative.dev/maxScale"] == "1"


# What these two job files may say: names from Nomad's job specification and its docker driver.
NOMAD_KEYS = {
    "job": {"type", "group", "parameterized"},
    "parameterized": {"payload"},
    "group": {"count", "network", "service", "task", "restart", "reschedule", "ephemeral_disk"},
    "network": {"port"},
    "port": {"to"},
    "service": {"name", "port", "provider", "check"},
    "check": {"name", "type", "path", "interval", "timeout", "check_restart"},
    "check_restart": {"limit", "grace"},
    "restart": {"attempts", "mode"},
    "reschedule": {"attempts", "unlimited"},
    "ephemeral_disk": {"size"},
    "task": {"driver", "kill_signal", "kill_timeout", "config", "env", "template", "resources"},
    "config": {"image", "ports", "readonly_rootfs", "cap_drop", "security_opt", "mount"},
    "mount": {"type", "target", "tmpfs_options"},
    "tmpfs_options": {"mode"},
    "template": {"destination", "env", "data"},
    "resources": {"cpu", "memory"},
}
LABELLED = {"job", "group", "task", "port"}


def bare(value: Any) -> Any:
    """Take the quotes and marks that the parser keeps off what it read."""
    if isinstance(value, dict):
        return {
            str(key).strip('"'): bare(each)
            for key, each in value.items()
            if not str(key).startswith("__")
        }
    if isinstance(value, list):
        return [bare(each) for each in value]
    return value.strip('"') if isinstance(value, str) else value


def strangers(kind: str, block: Any) -> list[str]:
    """Name the keys of a block, and of the blocks in it, that Nomad does not know there."""
    if isinstance(block, list):
        return [found for each in block for found in strangers(kind, each)]
    if not isinstance(block, dict) or kind == "env":
        return []
    if kind in LABELLED and len(block) == 1 and isinstance(next(iter(block.values())), dict):
        block = next(iter(block.values()))
    known = NOMAD_KEYS.get(kind, set())
    found = [f"{kind}.{key}" for key in block if key not in known]
    return found + [
        each for key, value in block.items() if key in NOMAD_KEYS for each in strangers(key, value)
    ]


def nomad_job(path: Path) -> Any:
    """Read the only job of a file."""
    with path.open(encoding="utf-8") as file:
        (job,) = bare(hcl2.load(file))["job"]
    (body,) = job.values()
    return body


@pytest.mark.parametrize("path", NOMAD, ids=lambda path: path.name)
def test_a_nomad_job_says_only_what_nomad_knows(path: Path) -> None:
    body = nomad_job(path)
    assert strangers("job", body) == []
    assert strangers("job", {**body, "periodics": []}) == ["job.periodics"]


@pytest.mark.parametrize("path", NOMAD, ids=lambda path: path.name)
def test_a_nomad_task_is_walled_in_and_configured_rightly(path: Path) -> None:
    (group,) = nomad_job(path)["group"]
    (task,) = next(iter(group.values()))["task"]
    (body,) = task.values()
    (config,) = body["config"]
    assert config["readonly_rootfs"] is True
    assert config["cap_drop"] == ["all"]
    assert config["security_opt"] == ["no-new-privileges"]
    assert body["kill_signal"] == "SIGTERM"
    found = settings.load({**GIVEN, **body["env"][0]})
    assert float(body["kill_timeout"].removesuffix("s")) > found.drain_seconds


def test_nomad_starts_a_worker_by_dispatch_and_never_again_by_itself() -> None:
    job = nomad_job(DEPLOY / "nomad" / "worker.nomad.hcl")
    assert job["type"] == "batch"
    assert job["parameterized"]
    (group,) = job["group"]
    assert group["worker"]["restart"] == [{"attempts": 0, "mode": "fail"}]
