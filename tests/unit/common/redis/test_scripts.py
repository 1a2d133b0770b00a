"""Each script comes with those functions of the prelude that it uses, and with no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.redis import scripts

NAMES = sorted(path.stem for path in (Path(scripts.__file__).parent / "lua").glob("*.lua") if path.stem != "prelude")
DEFINED = re.compile(r"^local (?:function )?(\w+)", re.MULTILINE)
PRELUDE = DEFINED.findall(scripts._source("prelude"))


@pytest.mark.parametrize("name", NAMES)
def test_a_script_has_what_it_uses_of_the_prelude_in_its_order(name: str) -> None:
    text = scripts._text(name).decode()
    used = [one for one in PRELUDE if re.search(rf"\b{one}\b", text)]
    assert [one for one in DEFINED.findall(text) if one in PRELUDE] == used
    assert text.endswith(scripts._source(name))


def test_a_script_has_nothing_else_of_the_prelude() -> None:
    assert DEFINED.findall(scripts._text("leave").decode()) == ["ROOT", "lane_key", "forget_worker"]


def test_the_prelude_consists_of_definitions_of_one_name() -> None:
    starts = [line for line in scripts._source("prelude").splitlines() if line and not line.startswith((" ", "--"))]
    definitions = [line for line in starts if line not in ("end", "}")]
    assert [line for line in definitions if not re.match(r"local (function \w+\(|\w+ = )", line)] == []
