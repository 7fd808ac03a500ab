"""What remembering requests costs them: a hot hour of ticks with and without, by turns; `explain` with a full one."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

import backtestr as bt
from backtestr.query.runs import Runs
from backtestr.query.tally import MAX_KINDS
from ticks import trades

TURNS = 40_000


def test_a_hot_hour_with_and_without(benchmark: Any, tmp_path: Path) -> None:
    remembering = bt.open(tmp_path / "store", state_dir=tmp_path / "state")
    remembering.ingest(trades(1_000_000, symbols=4, days=1), feed="bench")
    silent = bt.open(tmp_path / "store", read_only=True, state_dir="off")
    start = dt.datetime(2024, 1, 2, 15)
    took: list[list[int]] = [[], []]
    for turn in range(TURNS):
        store = (silent, remembering)[turn % 2]
        began = time.perf_counter_ns()
        rows = store.ticks("SYM0", start=start, end=start + dt.timedelta(hours=1)).num_rows
        took[turn % 2].append(time.perf_counter_ns() - began)
    assert rows
    assert sum(remembering.queries().to_numpy()["runs"]) == TURNS // 2
    for name, times in zip(("without", "remembered"), took, strict=True):
        ordered = sorted(times[500:])
        median, slow = (ordered[int(len(ordered) * share)] / 1e3 for share in (0.5, 0.99))
        mean = sum(ordered) / len(ordered) / 1e3
        benchmark.extra_info[name] = {"p50_us": median, "p99_us": slow, "mean_us": mean}
        print(f"\nan hour of ticks, {name}: p50 {median:.1f} us, p99 {slow:.1f} us, mean {mean:.1f} us")
    benchmark(lambda: remembering.ticks("SYM0", start=start, end=start + dt.timedelta(hours=1)))
    silent.close()
    remembering.close()


def test_explain_with_a_full_history(benchmark: Any, tmp_path: Path) -> None:
    with bt.open(tmp_path / "store", state_dir=tmp_path / "state") as store:
        store.ingest(trades(100_000, symbols=4, days=1), feed="bench")
        assert store._storage is not None
        runs, rows = Runs(store._storage.state), store.latest().to_arrow()
        for kind in range(MAX_KINDS):
            for _ in range(40):
                runs.request(runs.clock(), rows, "SYM0", f"{kind + 1}d", (None, None))
        assert len(store._runs.known()) in {0, MAX_KINDS}
        runs.save()
        assert len(store._runs.known()) == MAX_KINDS
        size = next((tmp_path / "state").rglob("queries*.json")).stat().st_size
        print(f"\na history of {MAX_KINDS} kinds: {size / 1024:.0f} KiB")
        benchmark(lambda: store.explain(symbols="SYM0"))
