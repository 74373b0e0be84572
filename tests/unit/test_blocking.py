"""The rules of blocking queries, and the loop around them, on a clock that the test turns."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gloo_nomad.clients.blocking import Pace, Seen, Step, client_timeout, follow_index, watch_index
from gloo_nomad.clients.http import UnreachableError, WorldError

WAIT = 60.0


@dataclass(frozen=True)
class Answer:
    """An answer that holds nothing but its index."""

    index: int


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    async def sleep(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += seconds
        await asyncio.sleep(0)

    def pace(self, interval: float = 0.1, burst: int = 10) -> Pace:
        """A pace on this clock."""
        return Pace(interval, burst, clock=lambda: self.now, sleep=self.sleep)


@pytest.mark.parametrize(
    ("asked", "answered", "step"),
    [
        pytest.param(0, 7, Step(7, changed=True, trusted=False), id="first answer"),
        pytest.param(0, 0, Step(1, changed=True, trusted=False), id="index 0 would not wait"),
        pytest.param(7, 7, Step(7, changed=False, trusted=True), id="only the time is over"),
        pytest.param(7, 9, Step(9, changed=True, trusted=True), id="something is new"),
        pytest.param(7, 3, Step(0, changed=True, trusted=False), id="index went back"),
        pytest.param(7, 0, Step(0, changed=True, trusted=False), id="index vanished"),
    ],
)
def test_index_rules(asked: int, answered: int, step: Step) -> None:
    """Each rule of Consul's documentation holds."""
    assert follow_index(asked, answered) == step


@given(st.integers(0, 10), st.integers(0, 10))
def test_no_question_spins(asked: int, answered: int) -> None:
    """Two questions that do not wait never follow each other unless the index went back between them."""
    assert follow_index(asked, answered).index > 0 or answered < asked


def test_client_waits_longer_than_server() -> None:
    """The client's time-out is above the wait and the sixteenth that the server adds."""
    assert client_timeout(60) > 60 * 17 / 16


async def _collect(
    query: Callable[[int, float], Awaitable[Answer]],
    pace: Pace,
    count: int,
    report: Callable[[WorldError | None], None],
    *,
    every: bool,
) -> list[Seen[Answer]]:
    seen: list[Seen[Answer]] = []
    answers = watch_index(query, lambda: WAIT, report, pace, every=every)
    async for answer in answers:
        seen.append(answer)
        if len(seen) == count:
            break
    await answers.aclose()
    return seen


def _play(
    script: list[int | WorldError], count: int, *, patient: bool = True, every: bool = False
) -> tuple[list[Seen[Answer]], list[int], list[str], Clock]:
    """Answers with the script; what was seen, asked, reported, and the clock."""
    clock = Clock()
    asked: list[int] = []
    reported: list[str] = []

    async def query(index: int, wait: float) -> Answer:
        asked.append(index)
        item = script[len(asked) - 1]
        if isinstance(item, WorldError):
            raise item
        if item == index:
            clock.now += wait if patient else 0.01
        return Answer(item)

    def report(failure: WorldError | None) -> None:
        reported.append(str(failure or ""))

    seen = asyncio.run(_collect(query, clock.pace(), count, report, every=every))
    return seen, asked, reported, clock


def test_unchanged_index_is_not_news() -> None:
    """An answer because the time is over is asked again with the same index and not handed on."""
    seen, asked, _, _ = _play([5, 5, 5, 6], 2)

    assert [answer.answer.index for answer in seen] == [5, 6]
    assert asked == [0, 5, 5, 5]


def test_every_answer() -> None:
    """Where the index does not tell all, answers because the time is over are handed on too, those before it not."""
    seen, _, _, _ = _play([5, 5, 6], 3, every=True)
    early, _, _, _ = _play([5, 5, 5], 2, every=True, patient=False)

    assert [(answer.answer.index, answer.trusted) for answer in seen] == [(5, False), (5, True), (6, True)]
    assert [answer.trusted for answer in early] == [False, False]


def test_equal_index_before_the_time_is_over_starts_anew() -> None:
    """Consul ends a query early without news when a snapshot is restored: what is asked next does not wait."""
    seen, asked, _, _ = _play([9, 9, 4], 2, patient=False)

    assert asked == [0, 9, 0]
    assert [(answer.answer.index, answer.trusted) for answer in seen] == [(9, False), (4, False)]


def test_lower_index_starts_anew() -> None:
    """After an index that went back the next question does not wait, and neither answer is trusted."""
    seen, asked, _, _ = _play([9, 4, 4, 6], 4)

    assert asked == [0, 9, 0, 4]
    assert [answer.trusted for answer in seen] == [False, False, False, True]


def test_failures_are_reported_and_answer_afterwards_is_not_trusted() -> None:
    """A failure is told, the next question starts from the beginning, and success is told too."""
    failure = UnreachableError("gone")
    seen, asked, reported, clock = _play([5, failure, failure, 5], 2)

    assert asked == [0, 5, 0, 0]
    assert reported == ["", "gone", "gone", ""]
    assert [answer.trusted for answer in seen] == [False, False]
    assert clock.now >= 0.2


def test_back_off_is_bounded() -> None:
    """However long a server is away, attempts are at most about five seconds apart and at least a tenth."""
    failures: list[int | WorldError] = [UnreachableError("gone")] * 100
    _, asked, _, clock = _play([*failures, 3], 1)

    assert len(asked) == 101
    assert 100 * 0.1 <= clock.now <= 100 * 5.2


def test_pace_is_kept() -> None:
    """A server that answers at once all the time is asked ten times at once and then ten times a second."""
    _, asked, _, clock = _play(list(range(1, 202)), 201)

    assert len(asked) == 201
    assert clock.now == pytest.approx(19.1)


def test_first_change_after_a_rest_is_not_delayed() -> None:
    """A quiet time allows a burst again."""

    async def scenario() -> None:
        clock = Clock()
        pace = clock.pace(interval=1.0, burst=2)
        for _ in range(5):
            await pace.wait()
        clock.now += 100
        before = clock.now
        await pace.wait()
        assert clock.now == before

    asyncio.run(scenario())
