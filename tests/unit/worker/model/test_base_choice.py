"""To which of the server's base models an adapter belongs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from common.errors import InvalidRequest
from common.settings import Settings
from models.errors import AdapterError
from worker.model.base_choice import MAX_CONFIG, BaseChoice, OtherBase
from worker.model.base_facts import BaseFacts, Shapes

if TYPE_CHECKING:
    from worker.engine.untrusted_code.client import UntrustedPrograms

MODELS = "smol=org/Small-1B; chat=/models/qwen; twin=/other/qwen"
SHAPES = {"smol": {"a": (1, 1)}, "chat": {"b": (2, 2)}, "twin": {"b": (2, 2)}}


class Programs:
    """An adapter fits base models with a weight of that name."""

    def __init__(self, weight: str) -> None:
        self._weight = weight

    def check_adapter(self, _folder: Path, _name: str, shapes: Shapes) -> None:
        if self._weight not in shapes:
            raise AdapterError("it does not fit")


def check(folder: Path, *, own: str, weight: str = "", models: str = MODELS) -> None:
    settings = Settings(models=models, worker_base=own)
    choice = BaseChoice(settings, lambda: BaseFacts(own, own, SHAPES[own]))
    choice._shapes.update(SHAPES)
    choice.check_is_own(folder, cast("UntrustedPrograms", Programs(weight)))


def adapter(folder: Path, named: object) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": named}))
    return folder


@pytest.mark.parametrize("named", ["smol", "org/Small-1B", "/home/me/Small-1B", "small-1b"])
def test_it_belongs_to_the_base_that_it_names(tmp_path: Path, named: str) -> None:
    check(adapter(tmp_path, named), own="smol", weight="b")
    with pytest.raises(OtherBase) as other:
        check(adapter(tmp_path, named), own="chat", weight="b")
    assert other.value.base == "smol"


@pytest.mark.parametrize("named", ["unknown", "", None, 5, ["smol"]])
def test_else_to_the_one_that_its_weights_fit(tmp_path: Path, named: object) -> None:
    check(adapter(tmp_path, named), own="smol", weight="a")
    with pytest.raises(OtherBase) as other:
        check(adapter(tmp_path, named), own="chat", weight="a")
    assert other.value.base == "smol"


@pytest.mark.parametrize(("named", "weight"), [("qwen", ""), ("", "b")])
def test_an_adapter_of_several_bases_is_refused_with_their_names(tmp_path: Path, named: str, weight: str) -> None:
    with pytest.raises(InvalidRequest, match=r"fits several base models: chat, twin\. .*\?base=chat") as refused:
        check(adapter(tmp_path, named), own="smol", weight=weight)
    assert refused.value.param == "base"


def test_one_that_fits_none_is_left_to_the_workers_own_check(tmp_path: Path) -> None:
    check(adapter(tmp_path, ""), own="smol", weight="c")


def test_nothing_is_read_if_there_is_only_one_base(tmp_path: Path) -> None:
    check(tmp_path / "missing", own="smol", models="smol=org/Small-1B")


def test_a_config_that_cannot_be_read_names_nothing(tmp_path: Path) -> None:
    for text in ("{", "[" * 100_000, "[1]", " " * (MAX_CONFIG + 1)):
        (tmp_path / "adapter_config.json").write_text(text)
        check(tmp_path, own="smol", weight="a")


def test_folders_of_other_bases_are_known(tmp_path: Path) -> None:
    choice = BaseChoice(Settings(models=MODELS, worker_base="chat"), lambda: BaseFacts("chat", "c", {}))
    named = {name: choice.names_another(adapter(tmp_path, name)) for name in ("smol", "qwen", "unknown")}
    assert named == {"smol": True, "qwen": False, "unknown": False}
