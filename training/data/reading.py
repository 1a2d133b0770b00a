"""Reads a dataset and collects every fault on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from training.data.examples import Dataset, Example
from training.data.faults import DatasetFaults, Fault, Misfit, field_name
from training.data.formats import BY_NAME, FORMATS, Format, closest_format, complete_format
from training.data.records import Record, read_records

MIN_EXAMPLES = 2  # one to train on and one to test with

_FORMS = "; ".join(" + ".join(one.required) for one in FORMATS)


def read_dataset(content: bytes, *, name: str) -> Dataset:
    """Read a dataset of any known format.

    Args:
        content: JSON Lines, a JSON array or CSV, in UTF-8.
        name: what error messages call the dataset, such as its path.

    Raises:
        DatasetFaults: it cannot be used; the error has all faults.
    """
    dataset, faults = read_leniently(content)
    if faults:
        raise DatasetFaults(name, faults)
    return dataset


def read_leniently(content: bytes) -> tuple[Dataset, list[Fault]]:
    """Return the dataset of the examples without faults, and the faults; if any, it must not be used."""
    found = list(read_records(content))
    records = [one for one in found if isinstance(one, Record)]
    faults = [one for one in found if isinstance(one, Fault)]
    form, first = _form(records)
    read = list(_examples(records, form, first))
    kept = [one for one in read if not isinstance(one, Fault)]
    faults += [one for one in read if isinstance(one, Fault)]
    if not faults and len(kept) < MIN_EXAMPLES:
        message = f"a dataset needs at least {MIN_EXAMPLES} examples, one to train on and one to test with"
        faults.append(Fault(1, 1, None, f"{message}; this one has {len(kept)}"))
    name = form.name if form else "unknown"
    return Dataset(name, tuple(example for example, _ in kept), tuple(line for _, line in kept)), faults


def _form(records: Iterable[Record]) -> tuple[Format | None, int]:
    """Return the format that most records have, and the line of the first of these."""
    lines: dict[str, int] = {}
    votes: Counter[str] = Counter()
    for finder in (complete_format, closest_format):
        for record in records:
            if isinstance(record.value, dict) and (form := finder(record.value)):
                votes[form.name] += 1
                lines.setdefault(form.name, record.line)
        if votes:
            name = votes.most_common(1)[0][0]
            return BY_NAME[name], lines[name]
    return None, 0


def _examples(records: Iterable[Record], form: Format | None, first: int) -> Iterator[tuple[Example, int] | Fault]:
    for record in records:
        try:
            yield _example(record, form, first), record.line
        except Misfit as err:
            line, column = record.place(err.path)
            yield Fault(line, column, field_name(err.path), f"{err}")


def _example(record: Record, form: Format | None, first: int) -> Example:
    if not isinstance(record.value, dict):
        raise Misfit("each example must be an object")
    if form is None:
        raise Misfit(f"none of the known formats; an example has the fields {_FORMS}")
    other = complete_format(record.value)
    if other is not None and other is not form:
        raise Misfit(f"this is {other.name}, but line {first} is {form.name}; a dataset has one format throughout")
    return form.example_of(record.value)
