from benchmarks.rivals.process import PeakMemory
from benchmarks.rivals.results import GIB, Sample, table
from benchmarks.serving import Measured

OURS, RIVAL = "this server", "the rival"


def sample(system: str, workload: str, *, tokens: int, memory: int = GIB) -> Sample:
    measured = Measured(wall=2.0, tokens=tokens, ttft=[0.1, 0.3], itl=[0.01, 0.02])
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
