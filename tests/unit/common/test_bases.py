"""The setting SLM_MODELS."""

from __future__ import annotations

import pytest

from common.bases import Base
from common.settings import Settings, SettingsError

BOTH = "smol=SmolLM2-135M-Instruct; chat=/models/qwen, workers=2,device=cpu,dtype=int8"
CHAT = Base("chat", "/models/qwen", workers=2, device="cpu", dtype="int8")


def read(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings.from_env()


def test_bases_are_named_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, SLM_MODELS=BOTH)
    assert settings.bases == (Base("smol", "SmolLM2-135M-Instruct"), CHAT)
    assert settings.lane_bases == ("smol", "chat")
    assert (settings.own_base.name, settings.lane_base) == ("smol", "smol")


def test_the_text_form_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CHAT.to_text() == "chat=/models/qwen,workers=2,device=cpu,dtype=int8"
    assert read(monkeypatch, SLM_MODELS=CHAT.to_text()).bases == (CHAT,)


def test_a_worker_gets_the_model_of_its_base(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, SLM_MODELS=BOTH, SLM_WORKER_BASE="chat", SLM_DTYPE="float32").of_worker()
    assert (settings.base_model, settings.device, settings.dtype) == ("/models/qwen", "cpu", "int8")
    assert settings.lane_base == "chat"


def test_what_a_base_does_not_set_is_as_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, SLM_MODELS=BOTH, SLM_DEVICE="cuda", SLM_DTYPE="float32").of_worker()
    assert (settings.base_model, settings.device, settings.dtype) == ("SmolLM2-135M-Instruct", "cuda", "float32")


def test_a_base_may_have_a_cache_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    models = "a=x,kv_cache_dtype=int8; b=y"
    of_a, of_b = (read(monkeypatch, SLM_MODELS=models, SLM_WORKER_BASE=name).of_worker() for name in "ab")
    assert (of_a.kv_cache_dtype, of_b.kv_cache_dtype) == ("int8", "auto")
    assert of_a.own_base.to_text() == "a=x,kv_cache_dtype=int8"


def test_one_base_model_has_no_lanes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, SLM_BASE_MODEL="/models/qwen")
    assert settings.bases == (Base("qwen", "/models/qwen"),)
    assert (settings.lane_base, settings.lane_bases) == ("", ("",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("smol", "'smol' must be name=model"),
        ("smol=", "'smol=' must be name=model"),
        (" ; ", "it names no base model"),
        ("a=x; a=y", "'a' names two base models"),
        ("-a=x", "'-a' cannot be a name"),
        ("a@1=x", "'a@1' cannot be a name"),
        ("default=x", "'default' cannot name a base model"),
        ("train=x", "'train' cannot name a base model"),
        ("a=x,worker=2", "'a' has an unknown option 'worker': did you mean workers?"),
        ("a=x,zzz", "'a' has an unknown option 'zzz': there are workers, device, dtype, kv_cache_dtype"),
        ("a=x,workers=0", "workers of 'a' must be a whole number from 1 to 64; got '0'"),
        ("a=x,workers=many", "workers of 'a' must be a whole number from 1 to 64; got 'many'"),
        ("a=x,device=gpu", "device of 'a' must be one of auto, cpu, cuda, mps; got 'gpu'"),
        ("a=x,kv_cache_dtype=fp8", "kv_cache_dtype of 'a' must be one of auto, int8; got 'fp8'"),
        ("a=x,dtype=int4", "dtype of 'a' must be one of auto, float32, bfloat16, float16, int8; got 'int4'"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(monkeypatch, SLM_MODELS=text)
    assert str(refused.value).startswith("SLM_MODELS has the value")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (
            BOTH,
            "SLM_WORKER_BASE has the value 'other': Value error, it must be one of the names in SLM_MODELS: smol, chat",
        ),
        ("", "SLM_WORKER_BASE has the value 'other': Value error, it must be unset, because SLM_MODELS is"),
    ],
)
def test_a_worker_can_only_serve_a_base_that_is_named(monkeypatch: pytest.MonkeyPatch, models: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(monkeypatch, SLM_MODELS=models, SLM_WORKER_BASE="other")
    assert said in str(refused.value)
