from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.rivals.__main__ import measure
from benchmarks.rivals.plot import draw
from benchmarks.rivals.process import PeakMemory, ProcessFailed
from benchmarks.rivals.results import GIB, Failure, Sample, read, save, table
from benchmarks.rivals.system import Session
from benchmarks.serving import Measured, Workload

OURS, RIVAL = "this server", "the rival"


def sample(system: str, workload: str, *, tokens: int, memory: int = GIB) -> Sample:
    measured = Measured(wall=2.0, tokens=tokens, arrivals=[[0.1, 0.11], [0.3, 0.32]])
    return Sample(system, workload, 1, 0.0, 4.0, PeakMemory(memory, 2 * memory), measured)


def line_of(text: str, figure: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {figure} |"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_another_systems_result_shows_ours_relative_to_it() -> None:
    samples = [sample(OURS, "W1", tokens=200), sample(RIVAL, "W1", tokens=80)]

    assert line_of(table(samples, [OURS, RIVAL]), "W1 tok/s") == ["100", "40 (2.50)"]


def test_the_median_of_several_rounds_counts_and_the_maximum_of_memory() -> None:
    samples = [sample(OURS, "W8", tokens=tokens, memory=tokens * GIB) for tokens in (2, 6, 40)]
    text = table(samples, [OURS])

    assert line_of(text, "W8 tok/s") == ["3"]
    assert line_of(text, "peak RSS of the largest process, GiB") == ["40"]
    assert line_of(text, "peak RSS of all processes, GiB") == ["80"]


def test_a_workload_that_one_system_did_not_run_is_a_gap_and_one_that_none_ran_is_omitted() -> None:
    text = table([sample(OURS, "W1", tokens=200)], [OURS, RIVAL])

    assert line_of(text, "W1 tok/s") == ["100", ""]
    assert "W32" not in text


def test_a_system_that_failed_is_a_line_and_leaves_the_others_results() -> None:
    crashed = Failure(RIVAL, "W1", 1, "the program ended with status -4")
    text = table([sample(OURS, "W1", tokens=200), crashed], [OURS, RIVAL])

    assert line_of(text, "W1 tok/s") == ["100", ""]
    assert text.endswith("- the rival, W1, round 1: the program ended with status -4")


def test_goodput_counts_the_requests_that_keep_both_bounds() -> None:
    in_time, late, slow, one_piece = [0.4, 0.5, 0.6], [0.6, 0.7], [0.1, 0.2, 0.5], [0.5]
    measured = Measured(wall=2.0, arrivals=[in_time, late, slow, one_piece, []])

    assert measured.goodput(max_ttft=0.5, max_mean_itl=0.11) == 1.0
    assert measured.ttft == [0.4, 0.6, 0.1, 0.5]
    assert [round(pause, 3) for pause in measured.itl] == [0.1, 0.1, 0.1, 0.1, 0.3]


def test_saved_results_are_read_as_they_were_and_drawn(tmp_path: Path) -> None:
    outcomes: list[Sample | Failure] = [
        sample(OURS, "W1", tokens=200),
        sample(RIVAL, "W1", tokens=80),
        Failure(RIVAL, "W8", 1, "it crashed"),
    ]
    save(outcomes, "a machine", tmp_path / "results.json")
    described, read_again = read(tmp_path / "results.json")
    draw([one for one in read_again if isinstance(one, Sample)], described, tmp_path / "results.svg")

    assert read_again == outcomes
    assert "<svg" in (tmp_path / "results.svg").read_text("utf-8")


class Crashing:
    """A system that never becomes ready."""

    title = RIVAL

    def make(self, model: Path) -> None:
        raise NotImplementedError

    def running(self, workload: Workload) -> AbstractContextManager[Session]:
        raise ProcessFailed("the program ended with status -4: see server.log")


def test_a_run_of_a_system_that_crashes_is_a_failure_with_its_reason() -> None:
    outcome = measure(Crashing(), Workload("W1", 1, 1), 2)

    assert outcome == Failure(RIVAL, "W1", 2, "ProcessFailed: the program ended with status -4: see server.log")
