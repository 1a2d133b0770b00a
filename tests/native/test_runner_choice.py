"""Which runner a model gets, also if the native one is not available."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from common.errors import ModelUnavailable
from common.settings import Dtype
from tests.engine_config import runner_config
from worker.engine.device.runner import DeviceRunner
from worker.engine.model_runner import DeviceLostError, OutOfMemoryError, UnsupportedModelError
from worker.engine.native.errors import BuildFailed
from worker.engine.native.runner import NativeRunner
from worker.engine.runners import choice as runner_choice
from worker.engine.runners.check import RunnerCheck
from worker.engine.runners.choice import make_runner
from worker.engine.runners.transformers.runner import TransformersRunner

CONFIG = LlamaConfig(
    vocab_size=258,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=64,
)


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIG).eval()


def choose(model: Any, dtype: Dtype, **config: Any) -> tuple[type, str]:
    runner, name = make_runner(model, runner_config(**config), dtype)
    runner.close()
    return type(runner), name


@pytest.mark.parametrize(("dtype", "name"), [("auto", "int8"), ("int8", "int8"), ("float32", "float32")])
def test_a_cpu_model_runs_natively_in_the_requested_number_format(model: Any, dtype: Dtype, name: str) -> None:
    assert choose(model, dtype) == (NativeRunner, name)


@pytest.mark.parametrize(
    ("dtype", "name"), [("auto", "int8 with a cache in int8"), ("float32", "float32 with a cache in int8")]
)
def test_a_cache_in_int8_is_another_number_format(model: Any, dtype: Dtype, name: str) -> None:
    assert choose(model, dtype, kv_cache_dtype="int8") == (NativeRunner, name)


def test_other_number_formats_run_through_torch(model: Any) -> None:
    assert choose(model.to(torch.bfloat16), "bfloat16") == (TransformersRunner, "bfloat16")


def test_a_transformers_model_computes_with_the_requested_number_of_threads(model: Any) -> None:
    wanted = torch.get_num_threads() + 1
    runner, _ = make_runner(model.to(torch.bfloat16), runner_config(num_threads=wanted), "bfloat16")
    assert torch.get_num_threads() == wanted
    runner.close()


def _no_compiler(*_args: Any, **_options: Any) -> None:
    raise BuildFailed("There is no C compiler (cc).")


def test_without_a_compiler_everything_works_more_slowly_and_is_logged(
    model: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(NativeRunner, "pack", _no_compiler)
    with caplog.at_level(logging.WARNING):
        assert choose(model, "auto") == (TransformersRunner, "float32")
    assert "slower: There is no C compiler" in caplog.text


def test_int8_that_was_requested_but_is_not_available_is_an_error(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NativeRunner, "pack", _no_compiler)
    with pytest.raises(ModelUnavailable, match=r"no C compiler.*SLM_DTYPE"):
        choose(model, "int8")


def test_a_cache_in_int8_is_not_replaced_by_a_larger_one(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NativeRunner, "pack", _no_compiler)
    with pytest.raises(ModelUnavailable, match=r"no C compiler.*Set SLM_KV_CACHE_DTYPE to auto"):
        choose(model, "auto", kv_cache_dtype="int8")
    with pytest.raises(ModelUnavailable, match=r"Set SLM_DTYPE and SLM_KV_CACHE_DTYPE to auto"):
        choose(model, "int8", kv_cache_dtype="int8")


def test_a_native_runner_with_wrong_results_is_closed_and_not_used(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[NativeRunner] = []
    check = RunnerCheck.check

    def check_native_fails(self: RunnerCheck, runner: Any, tolerance: float | None = None) -> None:
        if isinstance(runner, NativeRunner):
            raise UnsupportedModelError("It computes something else.")
        check(self, runner, tolerance)

    monkeypatch.setattr(RunnerCheck, "check", check_native_fails)
    monkeypatch.setattr(NativeRunner, "close", lambda runner: closed.append(runner))
    assert choose(model, "auto") == (TransformersRunner, "float32")
    assert len(closed) == 1


def make_limited(model: Any, **limits: Any) -> Any:
    return make_runner(model, runner_config(max_num_seqs=4, **limits), "float32")[0]


def test_the_cache_memory_limits_the_number_of_blocks(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one_sequence = 2 * 2 * 32 * 64 * 4  # keys and values, layers, head size, tokens, bytes
    native = make_limited(model, kv_bytes=3 * one_sequence)
    assert (native.num_blocks, native.block_tokens) == (3, 64)
    native.close()

    monkeypatch.setattr(NativeRunner, "pack", _missing)
    general = make_limited(model, kv_bytes=3 * one_sequence)
    assert (general.num_blocks, general.block_tokens) == (3, 64)
    assert make_limited(model).num_blocks == 4, "room for all sequences"


@pytest.mark.parametrize("is_native", [True, False])
def test_a_budget_below_one_sequence_is_refused_with_what_to_do(
    model: Any, monkeypatch: pytest.MonkeyPatch, is_native: bool
) -> None:
    if not is_native:
        monkeypatch.setattr(NativeRunner, "pack", _missing)
    with pytest.raises(ModelUnavailable, match=r"the limit is 1000\. Set SLM_KV_MEMORY higher or SLM_CONTEXT lower"):
        make_limited(model, kv_bytes=1000)


def test_without_a_budget_two_long_sequences_fit_at_least(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_choice, "default_kv_bytes", lambda _: 1)
    runner = make_limited(model)
    assert runner.num_blocks == 2
    runner.close()


def _missing(*_: Any, **__: Any) -> NativeRunner:
    raise BuildFailed("no compiler")


# On an accelerator


class OnAccelerator:
    """A model on the CPU that claims to be on another device."""

    class Device:
        type = "cuda"

    device = Device()

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def choose_on_accelerator(model: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[type, str]:
    """Return the choice for a model on an accelerator; the runners compute on the CPU."""
    make_device_runner, make_check = runner_choice.DeviceRunner, runner_choice.RunnerCheck
    make_general = runner_choice.TransformersRunner
    monkeypatch.setattr(runner_choice, "default_kv_bytes", lambda _: 1 << 20)
    monkeypatch.setattr(
        runner_choice,
        "DeviceRunner",
        lambda *args, **options: make_device_runner(*args, **options | {"device": model.device}),
    )
    monkeypatch.setattr(runner_choice, "RunnerCheck", lambda _: make_check(model))
    monkeypatch.setattr(runner_choice, "TransformersRunner", lambda _, config: make_general(model, config))
    return choose(OnAccelerator(model), "auto")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_accelerator_gets_its_own_runner_prepared(
    model: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        chosen = choose_on_accelerator(model.to(dtype), monkeypatch)
    assert chosen == (DeviceRunner, str(dtype).removeprefix("torch."))
    assert "Prepared 2 steps" in caplog.text


@pytest.mark.parametrize(
    "raised",
    [
        OutOfMemoryError("no room"),
        UnsupportedModelError("The server's own kernels do not support it."),
        DeviceLostError("operation not permitted when stream is capturing"),
        RuntimeError("the capture was invalidated"),
    ],
    ids=["room", "code", "fault", "other"],
)
def test_if_it_is_not_available_an_accelerator_runs_transformers_and_logs_it(
    raised: Exception, model: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> DeviceRunner:
        raise raised

    closed: list[DeviceRunner] = []
    monkeypatch.setattr(DeviceRunner, "warm_up", fail)
    monkeypatch.setattr(DeviceRunner, "close", lambda runner: closed.append(runner))
    with caplog.at_level(logging.WARNING):
        assert choose_on_accelerator(model, monkeypatch) == (TransformersRunner, "float32")
    assert str(raised) in caplog.text
    assert len(closed) == 1
