"""Reads the records of a CSV file, whose header names the fields of a format."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import StringIO

from training.data.faults import Fault
from training.data.formats import BY_NAME, complete_format
from training.data.record import Record
from training.data.values import NOTES

CSV_DELIMITERS = ",;\t"
IN_CSV = ("instruction", "alpaca", "prompt_completion", "preference")  # formats whose fields are all texts


def read_csv(text: str) -> Iterator[Record | Fault]:
    """Yield the records and what is wrong with the others. Empty rows are skipped."""
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
        message = (
            f"expected {len(names)} cells as in the header, found {len(cells)}; put texts with a delimiter in quotes"
        )
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
            reason = "a quote is never closed" if "unexpected end" in str(err) else str(err)
            yield Fault(line, 1, None, f"not valid CSV: {reason}; the rest of the file cannot be read")
            return
        if any(map(str.strip, cells)):
            yield line, cells
