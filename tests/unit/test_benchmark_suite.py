"""The suite of benchmarks: what it finds, what it calls worse, and the page of the release."""

from pathlib import Path

import pytest
from rich.console import Console

from tests.benchmarks import check, suite
from tests.benchmarks.case import LOOP, Case, Figures, choose_cases, find_cases
from tests.benchmarks.check import Results, is_worse
from tests.benchmarks.page import BEGIN, DATA, DOCS, END, PAGE, build_page
from tests.benchmarks.results import Result, Run, amount, build_table, further, read_run
from tests.benchmarks.scene import Scene, loop_milliseconds
from tests.benchmarks.suite import Job, plan, run_jobs

CHECKOUT = Path(__file__).parents[2]
MACHINE = dict.fromkeys(("date", "cores", "processor", "load", "python", "consul", "envoy", "gloo-nomad"), "0")


def a_case(name: str = "some_case", *, median: list[float], alone: bool = False, floor: float = 0.0) -> Case:
    """A case that finds one figure after the other; -1 is a failure."""

    def run(scene: Scene) -> Figures:
        found = median.pop(0)
        assert found >= 0, "broken"
        return Figures.of([found] * 3, read=10.0, cpu_ms=4.0, count_of_keys=scene.size)

    return Case(name, "A case", (20,), (20, 200), run, alone=alone, floor=floor)


def a_result(ratio: float, *, median: float = 100.0) -> Result:
    """A result of that ratio."""
    return Result.of(a_case(median=[]), 20, Figures(median, median, median, 3, median / ratio), 1.0)


def test_every_case_says_what_it_is() -> None:
    """Cases are found by walking the package; each has a title and sizes, and a release measures what is quick, too."""
    found = find_cases()

    assert {"change_virtual_service", "change_endpoint", "idle", "envoy", "streams"} <= {case.name for case in found}
    for case in found:
        assert case.title, case.name
        assert set(case.quick) <= set(case.full), case.name


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("idle", {"idle"}),
        ("endpoints", {"change_endpoint"}),
        ("streams", {"streams"}),
        ("idle burst", {"idle", "burst"}),
    ],
)
def test_cases_are_chosen_by_words(words: str, names: set[str]) -> None:
    """A word is the beginning of a part of a name."""
    assert {case.name for case in choose_cases(words.split())} == names


def test_a_word_without_a_case_is_an_error() -> None:
    """It is named, with the names that there are."""
    with pytest.raises(SystemExit, match=r"'nothing'.*change_upstream"):
        choose_cases(["nothing"])


def test_sizes_are_those_of_the_case_or_given() -> None:
    """Without sizes a case has its own, more of them for a release."""
    case = a_case(median=[])

    assert plan([case], (), full=False) == [(case, 20)]
    assert plan([case], (), full=True) == [(case, 20), (case, 200)]
    assert plan([case], (7,), full=True) == [(case, 7)]


def test_a_failure_does_not_end_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    """The others are measured, and it is named."""
    broken, good, found = a_case("broken", median=[-1.0]), a_case("good", median=[5.0], alone=True), list[Result]()

    failed = run_jobs([(broken, 20), (good, 20)], 3, found.append, Console(width=200))

    assert [(case.name, size) for case, size in failed] == [("broken", 20)]
    assert [(result.case, result.median, result.ratio) for result in found] == [("good", 5.0, 0.5)]
    assert "AssertionError: broken" in capsys.readouterr().out


def test_a_ratio_to_the_loop() -> None:
    """Where a case says so, or has no Consul, the loop is the yardstick."""
    no_consul = Result.of(a_case(median=[]), 20, Figures.of([8.0]), 4.0)
    case = Case("c", "t", (), (), a_case(median=[]).run, yardstick=LOOP)

    assert no_consul.ratio == 2.0
    assert Result.of(case, 20, Figures.of([8.0], read=1.0), 4.0).ratio == 2.0
    assert loop_milliseconds() > 0


def test_worse_is_more_than_a_tenth() -> None:
    """Up to 10 % above the release is as good, and so is what is below the floor of the case."""
    assert not is_worse(a_result(1.1), a_result(1.0), 0.0)
    assert is_worse(a_result(1.11), a_result(1.0), 0.0)
    assert not is_worse(a_result(5.0, median=9.0), a_result(1.0), 10.0)


@pytest.mark.parametrize(
    ("medians", "worse", "ratio"),
    [([10.0], False, 1.0), ([20.0, 10.5], False, 1.05), ([20.0, 30.0], True, 2.0), ([-1.0, 10.0], False, 1.0)],
)
def test_what_looks_worse_is_measured_once_more(medians: list[float], worse: bool, ratio: float) -> None:
    """The better one counts; a failure is repeated as well."""
    case = a_case(median=medians)
    jobs: list[Job] = [(case, 20)]

    found, remaining = check.check(jobs, {("some_case", 20): a_result(1.0)}, 3, Console(quiet=True))

    assert (remaining == jobs, found["some_case", 20].ratio) == (worse, ratio)
    assert medians == []


def test_what_fails_twice_is_worse() -> None:
    """A case without a figure is not passed over."""
    jobs: list[Job] = [(a_case(median=[-1.0, -1.0]), 20)]
    reference: Results = {("some_case", 20): a_result(1.0)}

    assert check.check(jobs, reference, 3, Console(quiet=True)) == ({}, jobs)


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A new result takes the place of the old one of its case and size."""
    run = Run({"cores": 2}, [a_result(1.0)]).joined(a_result(2.0))
    run.write(tmp_path / "sub" / "bench.json")

    assert read_run(tmp_path / "sub" / "bench.json") == run
    assert [result.ratio for result in run.results] == [2.0]
    with pytest.raises(SystemExit, match="make bench"):
        read_run(tmp_path / "none.json")


def test_figures_as_people_read_them() -> None:
    """Milliseconds become seconds where there are many, and other figures say their unit."""
    found = list[Result]()
    suite.run_jobs([(a_case(median=[12.0]), 20)], 3, found.append, Console(quiet=True))

    assert [amount(value, "ms") for value in (1.25, 12.5, 1_250.0, 12_500.0)] == ["1.2 ms", "12 ms", "1.25 s", "12.5 s"]
    assert further(found[0]) == "CPU 4.0 ms, count of keys 20"
    assert build_table(found).row_count == 1


def test_the_page_is_that_of_the_figures() -> None:
    """``make bench-page`` wrote the page from the JSON beside it."""
    page = (CHECKOUT / DOCS / PAGE).read_text(encoding="utf-8")

    assert page == build_page(page, read_run(CHECKOUT / DOCS / DATA))


def test_text_around_the_figures_stays() -> None:
    """Only what stands between the marks is written anew."""
    page = build_page(f"before\n{BEGIN}old\n{END}after\n", Run(MACHINE, [a_result(1.0)]))

    assert page.startswith(f"before\n{BEGIN}\nVersion ")
    assert page.endswith(f" |\n\n{END}after\n")
    assert "**some case**: a case." in page
    assert "old" not in page.partition(BEGIN)[2].split()
