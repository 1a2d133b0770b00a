from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from redis import Redis
from redis.exceptions import AuthenticationError

from common.redis.client import connect
from common.settings import ENV_PREFIX, ROOT, SECRETS_DIR, Settings
from deploy.processes import stack
from deploy.redis.redis_server import durability
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
    found = re.fullmatch(r"(\d+)s", text)
    assert found is not None, text
    return float(found[1])


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    text = dockerfile.read_text().replace("\\\n", " ")
    found = [line.partition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest.strip()) for name, _, rest in found]


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


@pytest.mark.parametrize("name", ["api", "worker"])
def test_an_image_on_its_own_runs_the_command_of_compose(services: dict[str, Any], name: str) -> None:
    command = dict(instructions(ROOT / services[name]["build"]["dockerfile"]))["CMD"]
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
    decided = {"SLM_REDIS_URL", "SLM_DATA_DIR", "SLM_HOST", "SLM_PUBLISHED_HOST", "SLM_PORT"}
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
    defaults |= {"cors_origins": "", "otlp_endpoint": "", "redis_url": "", "redis_memory": ""}
    assert documented == {f"{ENV_PREFIX}{name}".upper(): str(default) for name, default in defaults.items()}
    for name, field in Settings.model_fields.items():
        assert f"# {field.description}" in text, name


# -- behaviour ---------------------------------------------------------------------------------------------------------


def test_only_this_machine_reaches_the_server_by_default(services: dict[str, Any]) -> None:
    assert services["api"]["ports"] == ["${SLM_HOST:-127.0.0.1}:${SLM_PORT:-5000}:5000"]
    assert all(port.startswith("127.0.0.1:") for port in services["flower"]["ports"])
    assert (
        services["api"]["environment"]["SLM_PUBLISHED_HOST"] == "${SLM_HOST:-127.0.0.1}"
    )  # it knows the published address
    assert not any("ports" in services[name] for name in ("redis", "worker", "model"))


@pytest.mark.parametrize("service", ["api", "worker"])
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
    bases = [rest for dockerfile in DOCKERFILES for name, rest in instructions(dockerfile) if name == "FROM"]
    assert len(built) + len(pulled) == len(services)
    assert all(re.search(r":\d+\.\d+", image) for image in pulled + bases)


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
    found = [rest for name, rest in instructions(ROOT / services["worker"]["build"]["dockerfile"]) if name == "ARG"]
    (name,) = [argument.partition("=")[0] for argument in found if argument.endswith("/cpu")]
    for service in gpu_services.values():
        assert name in service["build"]["args"]
        assert service["image"] != services["worker"]["image"]


# -- images ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_files_copied_into_an_image_exist_in_the_build_context(dockerfile: Path) -> None:
    context = (ROOT / ".dockerignore").read_text().splitlines()
    for source in copied(dockerfile):
        assert (ROOT / source).is_dir()
        assert f"!{source}" in context


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_runs_as_an_ordinary_user(dockerfile: Path) -> None:
    names = [name for name, _ in instructions(dockerfile)]
    assert dict(instructions(dockerfile))["USER"] == "slm"
    assert names.index("USER") < names.index("CMD")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_installs_existing_requirements(dockerfile: Path) -> None:
    files = re.findall(r"requirements/\w+\.txt", dockerfile.read_text())
    assert files
    assert all((ROOT / file).is_file() for file in files)


def test_the_api_image_has_neither_torch_nor_the_worker() -> None:
    dockerfile = ROOT / "deploy" / "docker" / "api.Dockerfile"
    server = {"requirements/", "common/", "api/", "deploy/"}
    assert set(copied(dockerfile)) == server | {"slm/", "clients/python/slm_client/"}
    assert re.findall(r"-r (\S+)", dockerfile.read_text()) == ["requirements/api.txt"]


def test_the_worker_image_can_compile_the_cpu_kernels() -> None:
    installed = [rest for name, rest in instructions(ROOT / "deploy" / "docker" / "worker.Dockerfile") if name == "RUN"]
    assert any("apt-get install" in command and " gcc " in command for command in installed)
