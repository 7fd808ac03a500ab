"""What the model of requests foretells, on traces that it has not seen."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections.abc import Iterable

import pytest

from backtestr.query.ahead.predict import Asked, Predictor

HOUR = 3_600_000_000_000
DAY = 24 * HOUR
YEAR = 365 * DAY
SURE = 0.7


def request(symbol: str, start: int, length: int = DAY, kind: str = "ticks") -> Asked:
    return Asked(kind, (symbol,), start, start + length)


def month(number: int) -> int:
    day = dt.date(2020 + number // 12, number % 12 + 1, 1)
    return (day - dt.date(1970, 1, 1)).days * DAY


def foretold(model: Predictor, trace: Iterable[Asked], least: float = SURE) -> list[bool]:
    """Whether each request had been foretold with some confidence."""
    known: set[Asked] = set()
    found = []
    for asked in trace:
        found.append(asked in known)
        known |= {one.asked for one in model.observe(asked) if one.confidence >= least}
    return found


def weekday(number: int) -> int:
    """The days of a walk that leaves out weekends; 1970-01-05 was a Monday."""
    return (4 + number // 5 * 7 + number % 5) * DAY


WALKS = {
    "days": [request("A", DAY * n) for n in range(60)],
    "days backwards": [request("A", DAY * (90 - n)) for n in range(60)],
    "hours": [request("A", HOUR * n, HOUR) for n in range(60)],
    "overlapping windows": [request("A", DAY * n, 20 * DAY) for n in range(60)],
    "growing windows": [request("A", 0, DAY * n) for n in range(1, 60)],
    "months": [Asked("1h", ("A",), month(n), month(n + 1)) for n in range(60)],
    "weekdays": [request("A", weekday(n)) for n in range(60)],
    "each day twice": [request("A", DAY * (n // 2)) for n in range(120)],
    "three symbols day by day": [request(symbol, DAY * n) for n in range(60) for symbol in "ABC"],
    "all symbols": [Asked("1m", (), DAY * n, DAY * n + DAY) for n in range(60)],
}


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_is_foretold_after_five_steps(name: str) -> None:
    model = Predictor(has_rows=lambda asked: (asked.start // DAY + 3) % 7 < 5) if name == "weekdays" else Predictor()
    later = foretold(model, WALKS[name])[15 if "three" in name else 5 :]
    assert sum(later) >= 0.9 * len(later)


def test_symbols_asked_together_are_foretold_after_five_times() -> None:
    draw = random.Random(1)
    trace = []
    for _ in range(60):
        start = draw.randrange(1_000) * DAY
        trace += [request("A", start), request("B", start)]
    found = foretold(Predictor(), trace)
    assert all(found[11::2])
    assert not any(found[::2])


def test_habits_of_timeframe_and_hour_hold_for_other_symbols() -> None:
    """A day's bars, then the ticks of its seventeenth hour."""
    draw = random.Random(2)
    trace = []
    for number in range(40):
        day = draw.randrange(1_000) * DAY
        trace += [request(f"S{number}", day, kind="1m"), request(f"S{number}", day + 16 * HOUR, HOUR)]
    assert all(foretold(Predictor(), trace)[11::2])


def test_what_was_learnt_of_some_symbols_is_known_of_the_next() -> None:
    model = Predictor()
    for symbol in "ABCDEF":
        found = foretold(model, [request(symbol, DAY * n) for n in range(30)])
    assert found == [False, *[True] * 29]


def random_trace(seed: int, count: int) -> list[Asked]:
    draw = random.Random(seed)
    lengths = [HOUR, DAY, 7 * DAY]
    return [
        request(f"S{draw.randrange(4)}", draw.randrange(5 * 330) * 60 * 10**9, draw.choice(lengths))
        for _ in range(count)
    ]


def test_of_random_requests_nothing_is_foretold() -> None:
    model, sure = Predictor(), 0
    for asked in random_trace(3, 5_000):
        sure += sum(found.confidence >= SURE for found in model.observe(asked))
    assert sure <= 5


def research(seed: int, count: int) -> list[Asked]:
    """Somebody at work: walks that are left sooner or later, symbols compared more often than not, a look closer."""
    draw = random.Random(seed)
    trace: list[Asked] = []
    while len(trace) < count:
        symbol, day = f"S{draw.randrange(12)}", draw.randrange(300) * DAY
        match draw.randrange(4):
            case 0:
                length, stride = draw.choice([(DAY, DAY), (HOUR, HOUR), (7 * DAY, DAY), (DAY, -DAY)])
                trace += [request(symbol, day + stride * n, length) for n in range(draw.randrange(2, 50))]
            case 1:
                trace.append(request("BASE", day))
                trace += [request("OTHER", day)] * (draw.random() < 0.85)
            case 2:
                trace.append(request(symbol, day, kind="5m"))
                trace += [request(symbol, day + 14 * HOUR, HOUR)] * (draw.random() < 0.8)
            case 3:
                trace += random_trace(draw.randrange(10**9), draw.randrange(1, 5))
    return trace


def outcomes(model: Predictor, trace: list[Asked], within: int = 16) -> list[tuple[float, bool]]:
    """The confidence of each prediction, the first time that it is made, and whether it came true."""
    found: list[tuple[float, bool]] = []
    made: dict[tuple[object, ...], int] = {}
    for place, asked in enumerate(trace):
        for one in model.observe(asked):
            if made.get(one.asked.key, -within) + within <= place:
                made[one.asked.key] = place
                later = {other.key for other in trace[place + 1 : place + 1 + within]}
                found.append((one.confidence, one.asked.key in later))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_confidence_is_what_comes_true_on_a_trace_kept_apart(seed: int) -> None:
    model = Predictor()
    for asked in research(seed, 3_000):
        model.observe(asked)
    found = outcomes(model, research(seed + 100, 3_000))
    for low, high in ((0.3, 0.7), (0.7, 0.9), (0.9, 1.01), (0.7, 1.01)):
        some = [one for one in found if low <= one[0] < high]
        assert len(some) > 50
        promised, true = (sum(column) / len(some) for column in zip(*some, strict=True))
        assert abs(promised - true) < 0.12, (low, promised, true)
    assert true >= SURE


def test_sure_predictions_are_kept_from_the_first_request_on() -> None:
    """Nothing learnt before: claims start from what their rule alone says."""
    sure = [true for confidence, true in outcomes(Predictor(), research(7, 1_000)) if confidence >= SURE]
    assert len(sure) > 100
    assert sum(sure) >= 0.7 * len(sure)


def test_what_was_learnt_goes_through_json() -> None:
    trace = research(11, 2_000)
    later = [request(symbol, DAY * day) for day in (7, 400, 93) for symbol in ("BASE", "OTHER")]
    model = Predictor()
    for asked in trace:
        model.observe(asked)
    again = Predictor.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again.to_dict() == model.to_dict()
    found = [foretold(of, later) for of in (again, model, Predictor())]
    assert found[0] == found[1] == [False, True] * 3
    assert sum(found[2]) < 3


def test_the_same_requests_give_the_same_predictions() -> None:
    trace = research(5, 500)
    one, other = Predictor(), Predictor()
    assert [one.observe(asked) for asked in trace] == [other.observe(asked) for asked in trace]


def test_what_is_learnt_stays_small() -> None:
    draw, model = random.Random(4), Predictor()
    sizes = []
    for number in range(6_000):
        symbol = f"SYMBOL{draw.randrange(3_000)}"
        model.observe(request(symbol, DAY * number, draw.randrange(1, 2_000) * HOUR))
        if number in {3_000, 5_999}:
            sizes.append(len(json.dumps(model.to_dict())))
    assert sizes[1] < 1.2 * sizes[0] < 400_000
    assert len(model._open) < 1_000
