"""The Helm chart: rendered by Helm's own engine, and valid for Kubernetes."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import subprocess
import sys
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError

from api import __version__
from common.settings import ROOT, Settings
from deploy.processes import stack

CHART = ROOT / "deploy" / "helm" / "slm-server"
GUIDE = (ROOT / "docs" / "kubernetes.md").read_text("utf-8")
METRICS = (ROOT / "docs" / "observability.md").read_text("utf-8")
OLDEST, NEWEST = "1.27", "1.37"
CUSTOM = {  # KEDA's and the Prometheus operator's; importing them takes 2 s, which no other test should wait for
    "ScaledObject": "cloudcoil.models.keda.v1alpha1",
    "ServiceMonitor": "cloudcoil.models.prometheus_operator.v1",
}

# Go's runtime, which the engine brings, stays in a process of its own.
RENDER = """
import json, sys
import helm_python
asked = json.load(sys.stdin)
answers = [helm_python.lint(sys.argv[1])["errors"]]
with helm_python.Chart.load(sys.argv[1]) as chart:
    for values in asked:
        try:
            answers.append(chart.render(values, name="prod", namespace="slm"))
        except helm_python.HelmError as err:
            answers.append(str(err))
print(json.dumps(answers))
"""
SCALED = {
    "enabled": True,
    "minReplicas": 0,
    "maxReplicas": 4,
    "tokensPerWorker": 8192,
    "oldestWaitSeconds": 10,
    "jobsPerWorker": 24,
    "cooldownSeconds": 300,
}
FULL: dict[str, Any] = {
    "models": [
        {"name": "smol", "source": "SmolLM2-135M-Instruct", "resources": {}, "autoscaling": SCALED},
        {
            "name": "chat",
            "source": "/data/models/qwen",
            "gpus": 2,
            "replicas": 3,
            "resources": {"limits": {"memory": "8Gi"}},
        },
    ],
    "embedder": {"enabled": True},
    "settings": {"SLM_LOG_FORMAT": "json", "SLM_MAX_QUEUE": 5000},
    "settingsSecrets": ["slm-webhooks"],
    "drain": {"workerSeconds": 40},
    "monitoring": {"serviceMonitor": {"enabled": True}, "keySecret": {"name": "slm-admin-key"}},
    "networkPolicy": {"ingressFrom": [{"podSelector": {}}], "allowDownloads": False},
    "images": {"api": {"digest": f"sha256:{'0' * 64}"}},
}
ONE_SCALED: dict[str, Any] = {"models": [FULL["models"][0]]}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"modles": []}, "modles"),
    ({"settings": {"SLM_HOST": "127.0.0.1"}}, "SLM_HOST"),
    ({"models": []}, "models"),
]
GUIDES: dict[str, Any] = yaml.safe_load(
    re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[0].replace("sha256:…", f"sha256:{'a' * 64}")
)

Manifests = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rendered() -> list[Any]:
    """What lint found; then the rendered files, or the refusal, for each of the values."""
    if importlib.util.find_spec("helm_python") is None:
        pytest.skip("Helm's engine has no wheel for this kind of machine")
    asked = json.dumps([{}, FULL, ONE_SCALED, GUIDES, *(values for values, _ in WRONG)])
    command = [sys.executable, "-c", RENDER, str(CHART)]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers


def manifests(files: dict[str, str]) -> Manifests:
    return [one for name, text in files.items() if name.endswith(".yaml") for one in yaml.safe_load_all(text) if one]


@pytest.fixture(scope="module")
def plain(rendered: list[Any]) -> Manifests:
    return manifests(rendered[1])


@pytest.fixture(scope="module")
def full(rendered: list[Any]) -> Manifests:
    return manifests(rendered[2])


def named(found: Manifests, kind: str, name: str) -> dict[str, Any]:
    [one] = [one for one in found if (one["kind"], one["metadata"]["name"]) == (kind, f"prod-slm{name}")]
    return one


def pod_of(deployment: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def deployments(found: Manifests) -> Manifests:
    return [one for one in found if one["kind"] == "Deployment"]


def containers(found: Manifests) -> Manifests:
    pods = [pod_of(one) for one in deployments(found)]
    return [one for pod in pods for one in (*pod.get("initContainers", ()), *pod["containers"])]


def test_helm_finds_no_error(rendered: list[Any]) -> None:
    assert rendered[0] == []


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_accepts_everything_that_is_its_own(rendered: list[Any], version: str) -> None:
    found = [one for files in rendered[1:5] for one in manifests(files)]
    assert {one["kind"] for one in found} >= {"Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", *CUSTOM}
    for one in found:
        if one["kind"] not in CUSTOM:
            kubernetes_validate.validate(one, version, strict=True)


def known(manifest: dict[str, Any]) -> dict[str, Any]:
    """The fields of a manifest that its custom resource has. Refuses wrong types and missing fields."""
    model = getattr(importlib.import_module(CUSTOM[manifest["kind"]]), manifest["kind"])
    read: dict[str, Any] = model.model_validate(manifest).model_dump(mode="json", by_alias=True, exclude_unset=True)
    return read


def test_keda_and_the_prometheus_operator_accept_what_is_theirs(full: Manifests) -> None:
    found = [one for one in full if one["kind"] in CUSTOM]
    assert {one["kind"] for one in found} == CUSTOM.keys()
    assert [known(one) for one in found] == found


def test_a_wrong_custom_resource_is_noticed(full: Manifests) -> None:
    scaled = named(full, "ScaledObject", "-worker-smol")
    misspelt = scaled | {"spec": scaled["spec"] | {"maxReplicas": 4}}
    assert known(misspelt) != misspelt
    with pytest.raises(ValidationError, match="scaleTargetRef"):
        known(scaled | {"spec": {"triggers": scaled["spec"]["triggers"]}})


@pytest.mark.parametrize(("index", "named"), list(enumerate(named for _, named in WRONG)), ids=["name", "own", "none"])
def test_wrong_values_are_refused_by_name(rendered: list[Any], index: int, named: str) -> None:
    refusal = rendered[5 + index]
    assert isinstance(refusal, str)
    assert named in refusal


def test_each_process_runs_the_command_of_a_server_on_one_machine(full: Manifests) -> None:
    commands = {
        name: pod_of(named(full, "Deployment", f"-{name}"))["containers"][0]["command"]
        for name in ("api", "worker-chat", "trainer", "embedder")
    }
    assert commands == {
        "api": ["python", "-m", *stack.API],
        "worker-chat": ["python", "-m", *stack.worker("slm-chat")],
        "trainer": ["python", "-m", *stack.trainer()],
        "embedder": ["python", "-m", *stack.embedder()],
    }


def test_every_variable_is_a_setting_and_reaches_the_processes(full: Manifests) -> None:
    known = {f"SLM_{name}".upper() for name in Settings.model_fields} | {"HOME", "HF_HOME"}
    for one in containers(full):
        environment = {variable["name"]: variable.get("value") for variable in one["env"]}
        assert environment.keys() <= known
        assert environment["HF_HOME"].startswith("/data/"), "a model of the hub outlives its pod"
        assert environment["SLM_MODELS"] == "smol=SmolLM2-135M-Instruct; chat=/data/models/qwen"
        assert (environment["SLM_LOG_FORMAT"], environment["SLM_MAX_QUEUE"]) == ("json", "5000")
    assert Settings(models=environment["SLM_MODELS"]).bases[1].name == "chat"


def test_every_container_is_confined(full: Manifests) -> None:
    for deployment in deployments(full):
        pod = pod_of(deployment)
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
    for one in containers(full):
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {mount["mountPath"] for mount in one["volumeMounts"]} == {"/data", "/tmp"}


def test_the_grace_period_is_longer_than_drain_lease_and_hook(full: Manifests) -> None:
    for deployment in deployments(full):
        assert pod_of(deployment)["terminationGracePeriodSeconds"] > 40 + 5 + 5
    hook = pod_of(named(full, "Deployment", "-api"))["containers"][0]["lifecycle"]["preStop"]
    assert hook == {"exec": {"command": ["sleep", "5"]}}


def test_an_api_without_workers_goes_on_answering(plain: Manifests) -> None:
    [api] = pod_of(named(plain, "Deployment", "-api"))["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert api[probe]["httpGet"]["path"] == "/healthz"


def test_a_worker_gets_its_gpus_and_its_base(full: Manifests) -> None:
    chat, smol = named(full, "Deployment", "-worker-chat"), named(full, "Deployment", "-worker-smol")
    [container] = pod_of(chat)["containers"]
    assert container["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": "2"}
    assert {"name": "SLM_WORKER_BASE", "value": "chat"} in container["env"]
    assert "nvidia" not in json.dumps(pod_of(smol))
    assert chat["spec"]["replicas"] == 3
    assert "replicas" not in smol["spec"], "KEDA decides"


def queries(scaled: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["metadata"]["query"] for one in scaled["spec"]["triggers"]}


def test_workers_follow_the_waiting_work_to_and_from_zero(full: Manifests, rendered: list[Any]) -> None:
    scaled = named(full, "ScaledObject", "-worker-smol")
    assert scaled["spec"]["scaleTargetRef"] == {"name": "prod-slm-worker-smol"}
    assert (scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]) == (0, 4)
    asked = queries(scaled)
    assert asked.keys() == {"tokens", "oldest-wait", "running", "refused"}
    for one in scaled["spec"]["triggers"]:
        assert all(isinstance(value, str) for value in one["metadata"].values()), "the only type that KEDA takes"
        assert f"`{re.findall(r'slm_[a-z_]+', one['metadata']['query'])[0]}`" in METRICS
        assert 'job="prod-slm-api"' in one["metadata"]["query"]
    alone = named(manifests(rendered[3]), "ScaledObject", "-worker-smol")
    assert queries(alone) == asked
    [container] = pod_of(named(manifests(rendered[3]), "Deployment", "-worker-smol"))["containers"]
    [models] = [one["value"] for one in container["env"] if one["name"] == "SLM_MODELS"]
    assert f'base="{Settings(models=models).lane_base}"' in asked["tokens"], "as its lanes are labelled"


def test_nobody_reaches_the_workers(full: Manifests) -> None:
    everybody, api = named(full, "NetworkPolicy", ""), named(full, "NetworkPolicy", "-api")
    assert everybody["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in everybody["spec"]
    assert [port["port"] for rule in everybody["spec"]["egress"] for port in rule["ports"]] == [53, 53, 6379]
    assert api["spec"]["ingress"] == [{"ports": [{"protocol": "TCP", "port": 5000}], "from": [{"podSelector": {}}]}]


def test_prometheus_sends_the_admins_key(full: Manifests) -> None:
    [endpoint] = named(full, "ServiceMonitor", "-api")["spec"]["endpoints"]
    assert endpoint["authorization"] == {"credentials": {"name": "slm-admin-key", "key": "api-key"}}


def test_the_chart_has_the_projects_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    images = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["images"]
    assert {chart["version"], chart["appVersion"], *(images[name]["tag"] for name in ("api", "worker", "trainer"))} == {
        __version__
    }
