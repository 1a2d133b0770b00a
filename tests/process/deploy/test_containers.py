from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from annotated_types import Le
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from redis import Redis
from redis.exceptions import AuthenticationError

from common.redis.client import connect
from common.settings import ENV_PREFIX, ROOT, SECRETS_DIR, Settings
from deploy.lock import HASHES, IMAGES
from deploy.processes import stack
from deploy.redis.redis_server import durability
from tests.missing import skip_or_fail
from tests.redis_server import running_server

DOCKERFILES = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))
VARIABLES = {f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields}


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return found


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = load("docker-compose.yml")["services"]
    return found


@pytest.fixture(scope="module")
def gpu_services() -> dict[str, Any]:
    found: dict[str, Any] = load("deploy/compose.gpu.yaml")["services"]
    return found


def seconds(text: str) -> float:
    found = re.fullmatch(r"(?:\$\{STOP_GRACE_PERIOD:-)?(\d+)s\}?", text)
    assert found is not None, text
    return float(found[1])


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    text = dockerfile.read_text().replace("\\\n", " ")
    found = [line.partition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest.strip()) for name, _, rest in found]


def stage(dockerfile: Path, name: str) -> dict[str, str]:
    """The instructions of one stage of an image; the last one of a kind counts."""
    stages = re.split(r"(?m)^(?=FROM )", dockerfile.read_text().replace("\\\n", " "))
    (found,) = [text for text in stages if re.match(rf"FROM \S+ AS {name}\n", text)] or stages[-1:]
    return {line.partition(" ")[0]: line.partition(" ")[2].strip() for line in found.splitlines() if line}


def copied(dockerfile: Path) -> list[str]:
    """The sources of the COPY instructions."""
    return [source for name, rest in instructions(dockerfile) if name == "COPY" for source in shlex.split(rest)[:-1]]


# -- the same commands as on one machine -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "module"),
    [
        ("api", stack.API),
        ("worker", stack.worker()),
        ("trainer", stack.trainer()),
        ("embedder", stack.embedder()),
        ("model", stack.MODEL),
    ],
)
def test_containers_run_the_commands_of_a_start_on_one_machine(
    services: dict[str, Any], service: str, module: tuple[str, ...]
) -> None:
    assert services[service]["command"] == ["python", "-m", *module]


def test_redis_in_a_container_is_as_durable_as_the_embedded_one(services: dict[str, Any]) -> None:
    config, durable = (
        f"{SECRETS_DIR}/redis.conf",
        durability("${SLM_REDIS_FSYNC:-everysec}", "${SLM_REDIS_MEMORY:-1gb}"),
    )
    assert services["redis"]["command"] == ["valkey-server", config, *durable]


def test_flower_runs_as_on_one_machine_and_reads_the_queue_of_the_workers(services: dict[str, Any]) -> None:
    shell, option, command = services["flower"]["command"]
    assert (shell, option) == ("sh", "-c")
    program = " ".join(("python", "-m", *stack.FLOWER[:-1], "--address=0.0.0.0"))
    assert command == f"CELERY_BROKER_URL=$$(cat {SECRETS_DIR}/SLM_REDIS_URL) exec {program}"


# -- the password of Redis ---------------------------------------------------------------------------------------------


def draw(folder: Path) -> None:
    subprocess.run(["sh", ROOT / "deploy" / "docker" / "draw-secret.sh", folder], check=True)


def test_the_password_is_generated_once(tmp_path: Path) -> None:
    draw(tmp_path)
    first = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert first.keys() == {"redis.conf", "redis-password", "SLM_REDIS_URL"}
    assert len(first["redis-password"]) == 64
    draw(tmp_path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == first
    other = tmp_path / "other"
    other.mkdir()
    draw(other)
    assert (other / "redis-password").read_text() != first["redis-password"]


def test_an_interrupted_generation_of_the_password_is_repeated(tmp_path: Path) -> None:
    for half in ("redis.conf", "redis-password", "drawn"):
        (tmp_path / half).touch()
    draw(tmp_path)
    assert (tmp_path / "redis-password").read_text() in (tmp_path / "redis.conf").read_text()
    assert (tmp_path / "redis-password").read_text() in (tmp_path / "SLM_REDIS_URL").read_text()


def test_redis_accepts_only_clients_with_the_generated_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path)
    monkeypatch.setattr("common.settings.SECRETS_DIR", tmp_path)
    monkeypatch.setenv("SLM_REDIS_URL", "")  # as in docker-compose.yml
    url = Settings.from_env().required_redis_url()
    login = f"slm:{(tmp_path / 'redis-password').read_text()}"
    with running_server(tmp_path, login, [str(tmp_path / "redis.conf")]) as server:
        with connect(url.replace("@redis:6379", f"@127.0.0.1:{server.port}")) as redis:
            assert redis.ping()
        with Redis(port=server.port) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()


@pytest.mark.parametrize("service", ["redis", "api", "worker", "trainer", "embedder", "flower"])
def test_services_that_need_the_password_wait_for_it_and_read_it(services: dict[str, Any], service: str) -> None:
    assert f"secret:{SECRETS_DIR}:ro" in services[service]["volumes"]
    assert services["secret"]["entrypoint"] == ["sh", "/draw-secret.sh", str(SECRETS_DIR)]
    waits_for = services[service]["depends_on"]
    assert waits_for.get("secret", {}).get("condition") == "service_completed_successfully" or "redis" in waits_for


def test_no_command_line_and_no_environment_contains_the_password(services: dict[str, Any]) -> None:
    assert all("redis://" not in str(service.get("command")) for service in services.values())
    assert all(not service.get("environment", {}).get("SLM_REDIS_URL") for service in services.values())
    check = services["redis"]["healthcheck"]["test"][1]
    assert check.startswith(f"REDISCLI_AUTH=$$(cat {SECRETS_DIR}/redis-password) valkey-cli --user slm ping")


def test_flower_requires_a_login_that_the_operator_sets(services: dict[str, Any]) -> None:
    """Empty means that nobody can log in: tests/integration/test_flower.py."""
    assert services["flower"]["environment"] == {"FLOWER_BASIC_AUTH": "${FLOWER_BASIC_AUTH:-}"}
    assert services["flower"]["ports"] == ["127.0.0.1:5555:5555"]


@pytest.mark.parametrize("name", ["api", "worker", "model"])
def test_an_image_on_its_own_runs_the_command_of_compose(services: dict[str, Any], name: str) -> None:
    command = stage(ROOT / services[name]["build"]["dockerfile"], name)["CMD"]
    assert yaml.safe_load(command) == services[name]["command"]


@pytest.mark.parametrize(
    "program",
    [
        ("gunicorn", "--help"),
        (*stack.worker(), "--help"),
        (*stack.MODEL, "--help"),
        (*stack.FLOWER, "--help"),
    ],
    ids=lambda program: program[0],
)
def test_the_programs_of_the_commands_are_installed(program: tuple[str, ...]) -> None:
    env = os.environ | {"SLM_REDIS_URL": "redis://127.0.0.1:9/0"}
    done = subprocess.run(
        [sys.executable, "-m", *program], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["api", "worker", "model"])
def test_every_setting_reaches_the_containers(services: dict[str, Any], service: str) -> None:
    assert services[service]["environment"].keys() == VARIABLES


def test_settings_that_compose_does_not_fix_come_from_the_shell(services: dict[str, Any]) -> None:
    decided = {"SLM_REDIS_URL", "SLM_DATA_DIR", "SLM_HOST", "SLM_PUBLISHED_HOST", "SLM_PORT", "SLM_PROXIES"}
    passed = {name: value for name, value in services["api"]["environment"].items() if name not in decided}
    assert passed == {name: f"${{{name}:-}}" for name in VARIABLES - decided}


def test_the_example_environment_documents_every_setting_with_its_default() -> None:
    text = (ROOT / ".env.example").read_text()
    documented = dict(re.findall(r"^# (SLM_\w+)=(.*)$", text, re.MULTILINE))
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    defaults |= {"data_dir": "data", "lora_path": "", "webhook_secret": "", "published_host": "", "kv_memory": ""}
    defaults |= {
        "api_url": "",
        "worker_key": "",
        "adapters_dir": "",
        "models": "",
        "worker_base": "",
        "keep_alive_s": "",
        "embed_model": "",
    }
    defaults |= {"cors_origins": "", "otlp_endpoint": "", "redis_url": "", "broker_url": "", "redis_memory": ""}
    assert documented == {f"{ENV_PREFIX}{name}".upper(): str(default) for name, default in defaults.items()}
    for name, field in Settings.model_fields.items():
        assert f"# {field.description}" in text, name


# -- behaviour ---------------------------------------------------------------------------------------------------------


def test_only_this_machine_reaches_the_server_by_default(services: dict[str, Any]) -> None:
    assert services["nginx"]["ports"] == ["${SLM_HOST:-127.0.0.1}:${SLM_PORT:-5000}:8080"]
    others = [port for name in ("flower", "prometheus", "grafana") for port in services[name]["ports"]]
    assert all(port.startswith("127.0.0.1:") for port in others)
    assert (
        services["api"]["environment"]["SLM_PUBLISHED_HOST"] == "${SLM_HOST:-127.0.0.1}"
    )  # it knows the published address
    assert not any("ports" in services[name] for name in ("redis", "api", "worker", "trainer", "model"))


@pytest.mark.parametrize("service", ["api", "worker", "trainer", "embedder", "nginx"])
def test_a_stopping_container_has_time_to_drain_before_it_is_killed(services: dict[str, Any], service: str) -> None:
    grace_s = seconds(services[service]["stop_grace_period"])
    assert grace_s > Settings().drain_s + Settings().lease_s + stack.GRACE_MARGIN_S


def test_workers_can_be_scaled(services: dict[str, Any]) -> None:
    """Celery needs unique names: %h is the container's host name, unless it is set."""
    assert "%h" in stack.worker()[stack.worker().index("--hostname") + 1]
    assert not {"hostname", "container_name", "ports"} & services["worker"].keys()


def test_workers_wait_for_redis_and_the_model(services: dict[str, Any]) -> None:
    waits_for = {name: condition["condition"] for name, condition in services["worker"]["depends_on"].items()}
    assert waits_for == {"redis": "service_healthy", "model": "service_completed_successfully"}
    assert services["model"]["restart"] == "no"
    shared = set(services["model"]["volumes"]) & set(services["worker"]["volumes"])
    assert shared == {"data:/data"}


@pytest.mark.parametrize("service", ["redis", "api"])
def test_services_that_others_wait_for_have_a_health_check(services: dict[str, Any], service: str) -> None:
    assert services[service]["healthcheck"]["test"]


def test_every_image_has_a_version(services: dict[str, Any]) -> None:
    built = [service for service in services.values() if "build" in service]
    pulled = [service["image"] for service in services.values() if "build" not in service]
    froms = [rest for dockerfile in DOCKERFILES for name, rest in instructions(dockerfile) if name == "FROM"]
    bases = [rest for rest in froms if not rest.startswith("worker ")]  # a stage of the same file
    assert len(built) + len(pulled) == len(services)
    assert all(re.search(r":v?\d+\.\d+", image) for image in pulled + bases)


def test_every_gpu_has_one_worker_of_its_own(gpu_services: dict[str, Any]) -> None:
    devices = []
    for name in ("worker", "worker-gpu1"):
        (device,) = gpu_services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device["driver"] == "nvidia"
        assert device["capabilities"] == ["gpu"]
        devices += device["device_ids"]
    assert devices == ["0", "1"]


def test_the_gpu_overlay_changes_existing_services(services: dict[str, Any], gpu_services: dict[str, Any]) -> None:
    for name, service in gpu_services.items():
        extends = service.get("extends", {"file": "docker-compose.yml", "service": name})
        assert (ROOT / extends["file"]).is_file()
        assert extends["service"] in services


def test_the_gpu_images_have_another_torch_and_another_name(
    services: dict[str, Any], gpu_services: dict[str, Any]
) -> None:
    for service in gpu_services.values():
        assert service["build"]["args"]["TORCH"] == "cuda"
        assert service["image"] != services["worker"]["image"]


# -- what containers may not do ----------------------------------------------------------------------------------------


def test_no_container_can_write_its_root_or_has_a_capability(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_logs_of_containers_do_not_fill_the_disk(services: dict[str, Any]) -> None:
    assert all(service["logging"]["options"]["max-size"] for service in services.values())


def test_nginx_waits_longer_than_a_request_may_be_silent() -> None:
    (limit,) = re.findall(r"proxy_read_timeout (\d+)s;", (ROOT / "deploy" / "nginx" / "proxy.conf").read_text())
    (longest,) = [one.le for one in Settings.model_fields["sync_timeout_s"].metadata if isinstance(one, Le)]
    assert float(limit) > longest


def test_nginx_cannot_reach_redis(services: dict[str, Any]) -> None:
    assert services["nginx"]["networks"] == ["front"]
    assert services["redis"]["networks"] == ["back"]
    assert services["api"]["networks"] == ["front", "back"]


def test_a_model_of_the_image_is_placed_completely_and_once(tmp_path: Path) -> None:
    (tmp_path / "image" / "smol").mkdir(parents=True)
    (tmp_path / "image" / "smol" / "config.json").write_text("{}")
    volume = tmp_path / "data" / "models"
    (volume / "smol.new").mkdir(parents=True)  # an earlier copy was interrupted
    script = ROOT / "deploy" / "docker" / "place-model.sh"
    done = subprocess.run(
        ["sh", script, tmp_path / "image", volume, "echo", "next"], check=True, capture_output=True, text=True
    )
    assert done.stdout == "next\n"
    assert [path.name for path in volume.iterdir()] == ["smol"]
    (volume / "smol" / "config.json").write_text("mine")
    subprocess.run(["sh", script, tmp_path / "image", volume, "true"], check=True)
    assert (volume / "smol" / "config.json").read_text() == "mine"


# -- the files as Docker's own programs read them ----------------------------------------------------------------------


def program(name: str) -> str:
    path = Path(sys.executable).parent / name
    if not path.exists():
        skip_or_fail(f"there is no {name}")
    return str(path)


ACCEPTED = {
    "CL-0004": "no tag: the images of the project are built here",
    "CL-0019": "no digest: docs/running.md says how to add one",
    "CL-0026": "no limit of memory: models differ by a factor of a hundred",
}


@pytest.mark.parametrize(
    "overlay", [None, "deploy/compose.gpu.yaml", "deploy/compose.tls.yaml"], ids=["alone", "gpu", "tls"]
)
def test_docker_compose_and_a_linter_accept_the_files(overlay: str | None, tmp_path: Path) -> None:
    files = ["-f", "docker-compose.yml", *(["-f", overlay] if overlay else [])]
    env = {"TLS_KEY": "/key.pem", "TLS_CERTIFICATE": "/certificate.pem", "PATH": os.environ["PATH"]}
    command = [program("docker-compose"), *files, "--profile", "*", "config", "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for name, service in json.loads(done.stdout)["services"].items():
        assert service["read_only"], name
    (tmp_path / "compose.yaml").write_text(done.stdout)
    assert linted(tmp_path / "compose.yaml") == []


def linted(file: Path) -> list[dict[str, str]]:
    """What compose-lint finds in a file that Docker Compose has resolved, except for what is accepted."""
    command = [program("compose-lint"), "check", "--format", "json", "--no-env", str(file)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    assert found["errors"] == []
    return [one for one in found["findings"] if one["rule_id"] not in ACCEPTED]


def test_the_linter_finds_what_is_not_confined(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text('{"services": {"x": {"image": "x", "privileged": true}}}')
    assert {one["severity"] for one in linted(tmp_path / "compose.yaml")} >= {"critical", "medium"}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_hadolint_has_no_complaint(dockerfile: Path) -> None:
    done = subprocess.run([program("hadolint"), dockerfile], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


# -- images ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_files_copied_into_an_image_exist_in_the_build_context(dockerfile: Path) -> None:
    context = (ROOT / ".dockerignore").read_text().splitlines()
    for source in copied(dockerfile):
        assert (ROOT / source).is_dir()
        assert f"!{source.split('/')[0]}/" in context or f"!{source}" in context


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_runs_as_an_ordinary_user(dockerfile: Path) -> None:
    names = [name for name, _ in instructions(dockerfile)]
    assert dict(instructions(dockerfile))["USER"] == "10001"
    assert names.index("USER") < names.index("CMD")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_installs_only_what_has_a_known_hash(dockerfile: Path) -> None:
    """Except the CPU build of torch, which is on an index of its own."""
    steps = [step for _, rest in instructions(dockerfile) for step in re.split(r"&&|;", rest) if "pip install" in step]
    assert steps
    for step in steps:
        assert "--require-hashes" in step or "--index-url https://download.pytorch.org/whl/cpu" in step
    files = re.findall(r"requirements/hashes/(\w+)\.txt", dockerfile.read_text())
    assert all((HASHES / f"{name}.txt").is_file() for name in files)


@pytest.mark.parametrize("name", [*IMAGES, "cuda"])
def test_the_hashes_are_those_of_the_pinned_versions(name: str) -> None:
    entries = re.findall(r"(?m)^([\w.-]+)(?:\[[\w,]+\])?==(\S+)", (HASHES / f"{name}.txt").read_text())
    pinned = {canonicalize_name(package): version for package, version in constraints()}
    there = {canonicalize_name(package): version for package, version in entries}
    assert {package: version for package, version in there.items() if pinned.get(package, version) != version} == {}
    direct = [line for file in IMAGES.get(name, ()) for line in required(ROOT / "requirements" / file)]
    missing = {canonicalize_name(Requirement(line).name) for line in direct} - there.keys()
    assert missing <= {"torch"}


def constraints() -> list[tuple[str, str]]:
    return re.findall(r"(?m)^([\w.-]+)==(\S+)", (ROOT / "requirements" / "constraints.txt").read_text())


def required(file: Path) -> list[str]:
    """The packages that a requirement file names, with those of the files that it includes."""
    lines = file.read_text().splitlines()
    own = [line for line in lines if line and line[0] not in "#-"]
    return own + [line for part in lines if part.startswith("-r ") for line in required(file.parent / part[3:])]


def test_the_api_image_has_neither_torch_nor_the_worker() -> None:
    dockerfile = ROOT / "deploy" / "docker" / "api.Dockerfile"
    server = {"requirements/", "common/", "api/", "deploy/"}
    assert set(copied(dockerfile)) == server | {"slm/", "clients/python/slm_client/"}
    assert re.findall(r"-r (\S+)", dockerfile.read_text()) == ["requirements/hashes/api.txt"]


def test_the_worker_image_can_compile_the_cpu_kernels() -> None:
    installed = [rest for name, rest in instructions(ROOT / "deploy" / "docker" / "worker.Dockerfile") if name == "RUN"]
    assert any("apt-get install" in command and " gcc " in command for command in installed)
