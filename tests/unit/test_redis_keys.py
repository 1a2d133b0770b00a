"""The Lua scripts and `common/redis/keys.py` name the same keys, and its table lists them all."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from common.redis import keys

SCRIPTS = sorted((Path(keys.__file__).parent / "lua").glob("*.lua"))
_ARGUMENTS = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
_OPERAND = rf"(?:'[^']*'|[A-Za-z_][\w.]*(?:{_ARGUMENTS}|\[[^\]]*\])*)"
_KEY = re.compile(rf"'slm:[^']*'(?:\s*\.\.\s*{_OPERAND})*")
_SHORTHANDS = {  # the scripts' functions that build keys, and their results
    rf"\bjob_key{_ARGUMENTS}": "'slm:job:' .. id",
    rf"\bfile_key{_ARGUMENTS}": "'slm:file:' .. id",
    rf"\bconversation_key{_ARGUMENTS}": "'slm:conversation:' .. id",
    rf"\bwebhooks_key{_ARGUMENTS}": "'slm:webhooks:due:' .. owner",
    rf"\bflow_key{_ARGUMENTS}": "'slm:lane:' .. lane .. ':flow:' .. flow",
    r"\blane_key\([\w'.\[\]]+, ": "'slm:lane:' .. lane .. ':' .. (",
}
_LANE_LOOP = re.compile(r"for _, what in ipairs\(\{([^}]*)\}\)")
_NEGATION = re.compile(r"[(,=] *-[A-Za-z(].*")  # Redis 6 and 7 write -0 as "-0", which their commands refuse
_ANY_OF_A_LANE = "slm:lane:*:*"  # built from a loop's variable


def table() -> set[str]:
    """The names that the docstring lists; `*` replaces variable parts."""
    names = re.findall(r"^slm:\S+", keys.__doc__ or "", re.MULTILINE)
    return {re.sub(r"<[^>]*>|\.\.\.", "*", name) for name in names}


def in_lua(text: str) -> Iterator[str]:
    """The names that a script builds."""
    text = re.sub(r"--.*", "", text).replace("ROOT .. ':", "'slm:")
    for loop in _LANE_LOOP.findall(text):
        yield from (f"slm:lane:*:{what}" for what in re.findall(r"'([a-z]+)'", loop))
    for shorthand, meaning in _SHORTHANDS.items():
        text = re.sub(shorthand, meaning, text)
    for expression in _KEY.findall(text.replace(" .. (", " .. ")):
        parts = (part[1:-1] if part.startswith("'") else "*" for part in re.findall(_OPERAND, expression))
        yield re.sub(r"\*+", "*", "".join(parts))


def in_all_scripts() -> set[str]:
    return {name for script in SCRIPTS for name in in_lua(script.read_text("utf-8"))} - {_ANY_OF_A_LANE}


def in_python() -> set[str]:
    """The results of the functions and constants of `keys`."""
    functions = [one for _, one in inspect.getmembers(keys, inspect.isfunction) if one.__module__ == keys.__name__]
    built = {function(*("*" for _ in inspect.signature(function).parameters)) for function in functions}
    constants = {value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)}
    return built | constants - {keys.PREFIX, keys.RATES}  # which are only prefixes


def is_one_of(row: str, name: str) -> bool:
    """Whether the name matches the row, whose variable parts can be anything."""
    parts, found = row.split(":"), name.split(":")
    return len(parts) == len(found) and all(given in ("*", part) for part, given in zip(parts, found, strict=True))


def unlisted(names: set[str]) -> set[str]:
    return {name for name in names if not any(is_one_of(row, name) for row in table())}


def test_every_key_that_a_script_builds_is_in_the_table() -> None:
    built = in_all_scripts()
    assert len(built) > 30, "the scripts have been read"
    assert unlisted(built) == set()


def test_scripts_build_keys_from_their_root_and_spell_only_channels() -> None:
    lines = [line for script in SCRIPTS for line in script.read_text("utf-8").splitlines() if "'slm:" in line]
    assert [line for line in lines if "'PUBLISH', 'slm:" not in line] == []


def test_every_key_that_python_builds_is_in_the_table() -> None:
    assert unlisted(in_python()) == set()


def test_no_other_module_spells_a_key() -> None:
    folders = (Path(keys.__file__).parent.parent / name for name in ("common", "api", "worker", "deploy"))
    modules = [path for folder in folders for path in folder.rglob("*.py") if path != Path(keys.__file__)]
    assert [path.name for path in modules if re.search(r"""["']slm:""", path.read_text("utf-8"))] == []


def test_every_key_of_the_table_is_built_somewhere() -> None:
    built = in_all_scripts() | in_python() | {f"{keys.RATES}:*"}
    assert {row for row in table() if not any(is_one_of(row, name) for name in built)} == set()


def test_a_name_that_only_a_script_knows_is_found() -> None:
    text = """
    local function job_key(id) return ROOT .. ':job:' .. id end
    redis.call('DEL', job_key(redis.call('GET', ARGV[1])) .. ':extra', ROOT .. ':new:' .. owner .. ':' .. ARGV[2])
    for _, what in ipairs({'pending', 'elsewhere'}) do redis.call('DEL', lane_key(lane, what)) end
    """
    assert unlisted(set(in_lua(text))) == {"slm:job:*:extra", "slm:new:*:*", "slm:lane:*:elsewhere"}


def test_no_script_negates_a_number_that_may_be_zero() -> None:
    assert _NEGATION.search("redis.call('HINCRBY', key, owner, -(bytes or 0))")
    texts = {script.name: re.sub(r"--.*", "", script.read_text("utf-8")) for script in SCRIPTS}
    assert {name: found[0] for name, text in texts.items() if (found := _NEGATION.search(text))} == {}
