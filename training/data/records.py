"""Reads the records of a file: JSON Lines, a JSON array or CSV, recognised by the content."""

from __future__ import annotations

import codecs
import csv
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, NoReturn

from training.data.faults import Fault
from training.data.formats import BY_NAME, NOTES, complete_format
from training.data.json_places import find

CSV_DELIMITERS = ",;\t"
IN_CSV = ("instruction", "alpaca", "prompt_completion", "preference")  # formats whose fields are all texts

Path = Sequence[str | int]
Place = tuple[int, int]  # line and column


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `place` finds the line and column of the value at a path inside it."""

    line: int
    value: Any
    place: Callable[[Path], Place]


def read_records(content: bytes) -> Iterator[Record | Fault]:
    """Yield the records of a file and what is wrong with the others. Empty lines are skipped."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4]:
        return iter([Fault(1, 1, None, "the file is in UTF-16 or UTF-32; save it as UTF-8")])
    content = content.removeprefix(codecs.BOM_UTF8)
    first = content.lstrip().partition(b"\n")[0]
    if first[:1] == b"[":
        return _decoded(content, _array)
    if first[:1] == b"{" or (b"\n{" in content and b"," not in first):
        return _json_lines(content)
    return _decoded(content, _csv)


def _decoded(content: bytes, read: Callable[[str], Iterator[Record | Fault]]) -> Iterator[Record | Fault]:
    try:
        text = content.decode()
    except UnicodeDecodeError as err:
        before = content[: err.start]
        return iter([_not_utf8(before.count(b"\n") + 1, before[before.rfind(b"\n") + 1 :])])
    return read(text)


def _not_utf8(line: int, before: bytes) -> Fault:
    column = len(before.decode(errors="replace")) + 1
    return Fault(line, column, None, "this byte is not UTF-8 text; save the file as UTF-8")


def _json_lines(content: bytes) -> Iterator[Record | Fault]:
    if whole := _one_object(content):
        yield whole
        return
    for number, raw in enumerate(content.splitlines(), start=1):
        if raw.strip():
            try:
                yield _json_line(number, raw.decode())
            except UnicodeDecodeError as err:
                yield _not_utf8(number, raw[: err.start])


def _one_object(content: bytes) -> Fault | None:
    """Return the fault of a file that is one object spread over lines; None for any other file."""
    if not re.match(rb"\s*\{\s*(\n|\"[^\"]*\"\s*:\s*[\[{]?\s*\n)", content):
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    lists = [name for name, one in value.items() if isinstance(one, list)]
    kept = f"save only the list of its field {lists[0]!r}" if lists else "write it on one line, one object per line"
    return Fault(1, 1, None, f"the file is one JSON object, not a list of examples; {kept}")


def _json_line(number: int, text: str) -> Record | Fault:
    start = len(text) - len(text.lstrip(" \t"))
    try:
        value, end = _DECODER.raw_decode(text, start)
        _expect_end(text, end)
    except json.JSONDecodeError as err:
        return Fault(number, err.pos + 1, None, f"not valid JSON: {err.msg}; each line must be one object")
    except (ValueError, RecursionError) as err:
        return Fault(number, start + 1, None, _reason(err))
    return Record(number, value, lambda path: (number, find(text, start, path) + 1))


def _expect_end(text: str, end: int) -> None:
    rest = text[end:]
    if left := rest.strip():
        raise json.JSONDecodeError(f"unexpected {left[:20]!r} after the object", text, end + rest.index(left))


def _array(text: str) -> Iterator[Record | Fault]:
    place = _places(text)
    at = text.index("[") + 1
    try:
        while text[(at := _after_space(text, at)) : at + 1] != "]":
            value, end = _DECODER.raw_decode(text, at)
            yield Record(place(at)[0], value, lambda path, at=at: place(find(text, at, path)))  # type: ignore[misc]
            at = _after_comma(text, end)
        _expect_end(text, at + 1)
    except json.JSONDecodeError as err:
        message = f"not valid JSON: {err.msg}; the rest of the list cannot be read"
        yield Fault(*place(err.pos), None, message)
    except (ValueError, RecursionError) as err:
        yield Fault(*place(at), None, f"{_reason(err)}; the rest of the list cannot be read")


def _after_comma(text: str, end: int) -> int:
    """Return where the next value or the end of the list is."""
    at = _after_space(text, end)
    if text[at : at + 1] == "]":
        return at
    if text[at : at + 1] != ",":
        raise json.JSONDecodeError("expected ',' or ']' after this element", text, at)
    after = _after_space(text, at + 1)
    if text[after : after + 1] == "]":
        raise json.JSONDecodeError("a comma before the end of the list", text, at)
    return after


def _after_space(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t", "\n", "\r"):
        at += 1
    return at


def _places(text: str) -> Callable[[int], Place]:
    """Return a function from an offset in the text to its line and column."""
    starts = [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]

    def place(offset: int) -> Place:
        line = bisect_right(starts, offset)
        return line, offset - starts[line - 1] + 1

    return place


def _csv(text: str) -> Iterator[Record | Fault]:
    rows = _csv_rows(text)
    header = next(rows, None)
    if header is None:
        return
    if isinstance(header, Fault):
        yield header
        return
    names = [name.strip() for name in header[1]]
    if wrong := _header_fault(header[0], names):
        yield wrong
        return
    for row in rows:
        yield row if isinstance(row, Fault) else _csv_record(*row, names)


def _header_fault(line: int, names: list[str]) -> Fault | None:
    if repeated := [name for name in names if names.count(name) > 1]:
        return Fault(line, names.index(repeated[0]) + 1, repeated[0][:60], "the header names this column twice")
    form = complete_format(dict.fromkeys(names))
    if form is None or form.name not in IN_CSV:
        headers = "; ".join(",".join(BY_NAME[name].required) for name in IN_CSV)
        message = f"neither JSON Lines nor a JSON list nor CSV with a header that is known; headers: {headers}"
        return Fault(line, 1, None, message)
    if unknown := [name for name in names if name not in form.known | NOTES]:
        column, known = names.index(unknown[0]) + 1, ", ".join(sorted(form.known | NOTES))
        return Fault(line, column, unknown[0][:60] or None, f"this column is unknown; known in {form.name}: {known}")
    return None


def _csv_record(line: int, cells: list[str], names: list[str]) -> Record | Fault:
    if len(cells) != len(names):
        column = min(len(cells), len(names)) + 1
        message = f"the row has {len(cells)} cells but the header {len(names)}; put texts with a delimiter in quotes"
        return Fault(line, column, None, message)
    columns = {name: number for number, name in enumerate(names, start=1)}
    value = dict(zip(names, cells, strict=True))
    return Record(line, value, lambda path: (line, columns.get(str(path[0]), 1) if path else 1))


def _csv_rows(text: str) -> Iterator[tuple[int, list[str]] | Fault]:
    """Yield the line in which a row begins and its cells, without empty rows."""
    first = text.lstrip().partition("\n")[0]
    delimiter = max(CSV_DELIMITERS, key=first.count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as err:
            yield Fault(line, 1, None, f"not valid CSV: {err}; the rest of the file cannot be read")
            return
        if any(map(str.strip, cells)):
            yield line, cells


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice[:60]!r} occurs twice in one object; keep one of them")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"not valid JSON: {name} is no JSON value")


def _reason(err: ValueError | RecursionError) -> str:
    return "the objects are nested too deeply" if isinstance(err, RecursionError) else str(err)


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant)
