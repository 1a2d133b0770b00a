"""Only the settings, and variables that any program needs, reach our processes."""

from __future__ import annotations

import pytest

from common.environment import RENAMED, forget_others, ours, rename_old
from common.settings import Settings

STEERING = [
    "BROKER_URL",
    "CELERY_BROKER_URL",
    "CELERY_BROKER_READ_URL",
    "CELERY_BROKER_WRITE_URL",
    "CELERY_CONFIG_MODULE",
    "CELERY_CUSTOM_WORKER_POOL",
    "CELERY_LOADER",
    "CELERY_RESULT_BACKEND",
    "CELERY_WORKER_CONCURRENCY",
    "CELERY_WORKER_POOL",
    "CONFIG_MODULE",
    "C_FORCE_ROOT",
    "KOMBU_LOG_DEBUG",
    "LOADER",
    "RESULT_BACKEND",
    "FORWARDED_ALLOW_IPS",
    "GUNICORN_CMD_ARGS",
    "GUNICORN_FD",
    "GUNICORN_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "PORT",
    "SCRIPT_NAME",
    "SENDFILE",
    "WEB_CONCURRENCY",
    "FLASK_APP",
    "FLASK_DEBUG",
    "FLASK_RUN_PORT",
    "PROMETHEUS_MULTIPROC_DIR",
    "prometheus_multiproc_dir",
    "PROMETHEUS_DISABLE_CREATED_SERIES",
    "LD_PRELOAD",
    "PYTHONHASHSEED",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONMALLOC",
    "PYTHONOPTIMIZE",
    "PYTHONPATH",
    "PYTHONSAFEPATH",
    "PYTHONSTARTUP",
    "PYTHONWARNINGS",
    "PIP_PREFIX",
    "PIP_REQUIREMENT",
    "PIP_TARGET",
    "PIP_USER",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "OPENBLAS_NUM_THREADS",
    "TORCH_LOGS",
    "TORCHDYNAMO_DISABLE",
    "TORCH_SHOW_CPP_STACKTRACES",
    "TRANSFORMERS_VERBOSITY",
    "TOKENIZERS_PARALLELISM",
]
NEEDED = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "HTTPS_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "LD_LIBRARY_PATH",
    "HF_HOME",
    "HF_TOKEN",
    "PIP_INDEX_URL",
    "OTEL_TRACES_SAMPLER",
    "SLM_MAX_NUM_SEQS",
    "CC",
]


@pytest.mark.parametrize("name", STEERING)
def test_variables_of_libraries_do_not_reach_our_processes(name: str) -> None:
    assert ours({name: "x"}) == {}


@pytest.mark.parametrize("name", NEEDED)
def test_variables_that_any_program_needs_reach_our_processes(name: str) -> None:
    assert ours({name: "x"}) == {name: "x"}


def test_forgetting_keeps_our_variables() -> None:
    environment = {"SLM_MAX_NUM_SEQS": "4", "CELERY_BROKER_URL": "redis://stranger", "PATH": "/bin"}
    forget_others(environment)
    assert environment == {"SLM_MAX_NUM_SEQS": "4", "PATH": "/bin"}


def test_a_setting_is_still_found_under_its_old_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLM_SLOTS", "7")

    assert Settings.from_env().max_num_seqs == 7


def test_the_new_name_of_a_setting_wins() -> None:
    environment = {"SLM_SLOTS": "7", "SLM_MAX_NUM_SEQS": "8"}

    rename_old(environment)

    assert environment == {"SLM_MAX_NUM_SEQS": "8"}


def test_new_names_are_settings() -> None:
    assert {name.removeprefix("SLM_").lower() for name in RENAMED.values()} <= Settings.model_fields.keys()
