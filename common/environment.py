"""Selects the environment variables that our processes keep.

Celery, gunicorn, Flask, the Prometheus client, Python, torch and OpenMP read their own variables. A variable left in a
shell could point a server at another backend or expose it to the network. So our processes keep only the settings
(`SLM_*`) and the variables that any program needs to run on a machine.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

_KEPT = frozenset(
    {
        # The user, the machine and its folders
        *("HOME", "LOGNAME", "PATH", "TERM", "TMPDIR", "TZ", "USER", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"),
        *("LANG", "LANGUAGE", "LD_LIBRARY_PATH"),  # some systems find the GPU drivers by the last
        # Network access: for models, traces and the package index
        *("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "http_proxy", "https_proxy", "no_proxy"),
        *("SSL_CERT_DIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HUGGING_FACE_HUB_TOKEN"),
        *("PIP_CERT", "PIP_CLIENT_CERT", "PIP_CONFIG_FILE", "PIP_DEFAULT_TIMEOUT", "PIP_EXTRA_INDEX_URL"),
        *("PIP_CACHE_DIR", "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_KEYRING_PROVIDER", "PIP_NO_CACHE_DIR"),
        *("PIP_NO_INDEX", "PIP_PROXY", "PIP_RETRIES", "PIP_TIMEOUT", "PIP_TRUSTED_HOST"),
        # The hardware
        *("CC", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"),
    }
)
# Old names of settings, still accepted. The new name wins if both are set.
RENAMED = {"SLM_SLOTS": "SLM_MAX_NUM_SEQS"}
_KEPT_PREFIXES = ("SLM_", "LC_", "HF_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "HSA_", "OTEL_")


def ours(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part of `environment` that our processes may see."""
    return {name: value for name, value in environment.items() if _is_kept(name)}


def forget_others(environment: MutableMapping[str, str]) -> None:
    """Delete all other variables from this process's `os.environ`, for processes started by others (containers)."""
    for name in [name for name in environment if not _is_kept(name)]:
        del environment[name]


def rename_old(environment: MutableMapping[str, str]) -> None:
    """Give variables that have an old name their new one."""
    for old, new in RENAMED.items():
        if old in environment:
            environment.setdefault(new, environment.pop(old))


def _is_kept(name: str) -> bool:
    return name in _KEPT or name.startswith(_KEPT_PREFIXES)
