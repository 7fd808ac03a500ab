"""Windows of ticks by ArcticDB, in an interpreter that has it: TICKS.arrow FOLDER, windows as JSON from stdin."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time

import arcticdb
import pyarrow as pa

ticks = pa.ipc.open_file(pa.memory_map(sys.argv[1])).read_all()
library = arcticdb.Arctic(f"lmdb://{sys.argv[2]}").get_library("ticks", create_if_missing=True)
frame = ticks.to_pandas()
frame["price"], frame["volume"] = (ticks[name].cast(pa.float64()).to_numpy() for name in ("price", "volume"))
for symbol, rows in frame.groupby("symbol"):
    library.write(symbol, rows.drop(columns="symbol").set_index("timestamp_utc"))
asked = [(symbol, *map(dt.datetime.fromisoformat, times)) for symbol, *times in json.load(sys.stdin)]
times = []
for _ in range(2):
    times.clear()
    for symbol, start, end in asked:
        started = time.perf_counter()
        rows = library.read(symbol, date_range=(start, end)).data
        times.append((time.perf_counter() - started) * 1e3)
        assert len(rows)
times.sort()
print(f"p50_ms {times[len(times) // 2]:.3f}, p99_ms {times[int(len(times) * 0.99)]:.3f}")
