"""The check before the installation agrees with the one after it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from common.settings import ENV_PREFIX, Settings
from deploy.bootstrap import ROOT, SetupError
from deploy.setup.settings_check import check_settings, setting_fields

NUMBERS = ["0", "1", "-1", "+1", "5000", "65536", "1.0", "1.5", "0.4", "999999999", "inf"]
WORDS = ["many", "true", "TRUE", "maybe", "auto", "cpu", "everysec", "INFO", "info", "text", "x"]
LATER = ["1e3", "1_000", "nan"]  # left to the real check
CHECKED = ("int", "float", "bool", "Literal")


@pytest.fixture(scope="module")
def refused_later() -> dict[str, set[str]]:
    """By value, the settings that do not accept it: each value is tried with all of them at once."""
    return {value: _refuse(value) for value in [*NUMBERS, *WORDS, *LATER, "", " 1 "]}


def _refuse(value: str) -> set[str]:
    with pytest.MonkeyPatch.context() as environment:
        for name in setting_fields():
            environment.setenv(name, value)
        try:
            Settings()
        except ValidationError as err:
            return {f"{ENV_PREFIX}{error['loc'][0]}".upper() for error in err.errors()}
    return set()


def is_refused_at_once(name: str, value: str) -> bool:
    try:
        check_settings({name: value})
    except SetupError:
        return True
    return False


def test_it_knows_the_settings_by_name() -> None:
    assert setting_fields().keys() == {f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields}


@pytest.mark.parametrize("name", sorted(setting_fields()))
def test_values_that_a_setting_accepts_are_not_refused(refused_later: dict[str, set[str]], name: str) -> None:
    for value, refusing in refused_later.items():
        assert name in refusing or not is_refused_at_once(name, value), value


@pytest.mark.parametrize("name", sorted(setting_fields()))
def test_numbers_and_choices_that_no_setting_accepts_are_refused(refused_later: dict[str, set[str]], name: str) -> None:
    annotation = str(Settings.model_fields[name.removeprefix(ENV_PREFIX).lower()].annotation)
    if "None" in annotation or not any(kind in annotation for kind in CHECKED):
        return
    for value in [*NUMBERS, *WORDS]:
        assert is_refused_at_once(name, value) == (name in refused_later[value]), value


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SLM_PROT", "5000", "SLM_PROT is not a setting. Did you mean SLM_PORT?"),
        ("SLM_COLOUR", "red", "SLM_COLOUR is not a setting. Known: SLM_ADAPTERS_DIR, "),
        (
            "SLM_MAX_NUM_SEQS",
            "many",
            "SLM_MAX_NUM_SEQS has the value 'many'; it must be a whole number, at least 1 and at most 512.",
        ),
        (
            "SLM_BODY_TIMEOUT_S",
            "0",
            "SLM_BODY_TIMEOUT_S has the value '0'; it must be a number, more than 0 and at most",
        ),
        ("SLM_INSECURE", "perhaps", "SLM_INSECURE has the value 'perhaps'; it must be true or false."),
        ("SLM_REDIS_URL", "http://:secret@h", "SLM_REDIS_URL cannot be used: it must begin with redis://, "),
        ("SLM_DEVICE", "gpu", "SLM_DEVICE has the value 'gpu'; it must be one of auto, cpu, cuda, mps."),
    ],
)
def test_the_message_says_what_would_be_right(name: str, value: str, said: str) -> None:
    with pytest.raises(SetupError) as caught:
        check_settings({"PATH": "/bin", name: value})
    assert str(caught.value).startswith(said)


def test_a_wrong_setting_is_reported_before_anything_is_installed() -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from deploy import bootstrap, start
bootstrap.ensure = lambda *_: sys.exit("installs first")
sys.exit(start.main([]))
"""
    env = {"SLM_PROT": "1"}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "Cannot start: SLM_PROT is not a setting. Did you mean SLM_PORT?\n"
    assert done.stdout == ""
