"""Every vendor file: stored and computed bars of all timeframes equal an integer model, to the last digit."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

import backtestr as bt

STANDARD = ["1s", "5s", "15s", "30s", "1m", "5m", "15m", "30m", "1h", "4h", "1d"]
ODD = ["250ms", "2m", "45m", "2d"]

# file or folder, options, price bases that exist
FILES = [
    ("lean/equity/usa/tick/spy/20131008_trade.zip", {"source": "lean"}, ["trade"]),
    ("lean/equity/usa/tick/ibm/20131008_trade.zip", {"source": "lean"}, ["trade"]),
    ("lean/equity/usa/tick/ibm/20131008_quote.zip", {"source": "lean"}, ["bid", "ask"]),
    ("lean/equity/usa/tick/aig/20131008_quote.zip", {"source": "lean"}, ["bid", "ask"]),
    ("lean/future/comex/tick/gc/20131008_trade.zip", {"source": "lean"}, ["trade"]),
    ("lean/forex/oanda/tick/eurusd/20140508_quote.zip", {"source": "lean"}, ["bid", "ask", "mid"]),
    ("lean/forex/fxcm/tick/eurusd/20140508_quote.zip", {"source": "lean"}, ["bid", "ask", "mid"]),
    ("histdata/quote_tick_data.csv", {"source": "histdata", "symbol": "EURUSD"}, ["bid", "ask", "mid"]),
    ("truefx/usdjpy-ticks.csv", {"source": "truefx", "symbol": "USDJPY"}, ["bid", "ask", "mid"]),
    *(
        (f"dukascopy/EURUSD/2019/01/04/{hour}h_ticks.bi5", {"source": "dukascopy"}, ["bid", "ask", "mid"])
        for hour in ("00", "10", "23")
    ),
    ("questdb/btc_trades.csv", {}, ["trade"]),
    ("binance_ws/spot/btcusdt_20240808.gz", {"source": "binance"}, ["trade"]),
    ("binance_parquet/btcusdt-trades.parquet", {"symbol": "BTCUSDT"}, ["trade"]),
    ("binance_parquet/btcusdt-quotes.parquet", {"symbol": "BTCUSDT"}, ["bid", "ask", "mid"]),
    ("tardis/bitmex_trades_XBTUSD.csv", {"source": "tardis"}, ["trade"]),
    ("tardis/huobi-dm-swap_quotes_BTC-USD.csv", {"source": "tardis"}, ["bid", "ask", "mid"]),
    ("dolphindb/20200102_SH_trade.csv", {"source": "dolphindb"}, ["trade"]),
    (
        "dbn/nautilus/futures_trades_2024-07-01T23-58_2024-07-02T00-02.dbn.zst",
        {"source": "databento"},
        ["trade"],
    ),
    (
        "dbn/nautilus/futures_mbp-1_2024-07-01T23-58_2024-07-02T00-02.dbn.zst",
        {"source": "databento"},
        ["trade", "mid"],
    ),
    *(
        (
            f"dbn/databento-python/{dataset}/test_data.{schema}.dbn.zst",
            {"source": "databento", "max_rejected": 0.25},
            bases,
        )
        for dataset in ("GLBX.MDP3", "XNAS.ITCH", "EQUS.MINI")
        for schema, bases in (("trades", ["trade"]), ("tbbo", ["trade"]), ("mbp-1", ["trade", "mid"]))
    ),
    *(
        (f"dbn/dbn/test_data.trades{version}", {"source": "databento"}, ["trade"])
        for version in (".dbn", ".v1.dbn.zst", ".v2.dbn.zst", ".v3.dbn.zst")
    ),
]


def model(ticks: pa.Table, timeframe_ns: int, basis: str) -> list[tuple[object, ...]]:
    """Bars as integers, by DuckDB over BIGINT and HUGEINT."""
    price, keep = {
        "trade": ("price", "tick_type = 0"),
        "bid": ("bid", "tick_type <> 0 and bid is not null"),
        "ask": ("ask", "tick_type <> 0 and ask is not null"),
        "mid": ("bid + ask", "tick_type <> 0 and bid is not null and ask is not null"),
    }[basis]
    scale = "// 2" if basis == "mid" else ""
    connection = duckdb.connect()
    connection.register("ticks", ticks)
    rows = connection.execute(
        f"""
        with eligible as (
            select symbol::varchar as symbol, ns, sequence, row_number() over () as position,
                {price} as raw, case when tick_type = 0 then volume else 0 end as volume,
                ns - ((ns % $tf + $tf) % $tf) as bucket
            from ticks where {keep}
        ), priced as (
            select *, raw {scale} + {
            "case when raw % 2 <> 0 and (raw // 2) % 2 <> 0 then sign(raw) else 0 end" if basis == "mid" else "0"
        } as price
            from eligible
        )
        select symbol, bucket, arg_min(price, (ns, sequence, position)), max(price), min(price),
            arg_max(price, (ns, sequence, position)), sum(volume::hugeint),
            {"sum(price::hugeint * volume::hugeint)" if basis == "trade" else "0"}, count(*)
        from priced group by 1, 2 order by 1, 2
        """,
        {"tf": timeframe_ns},
    ).fetchall()
    return [(*map(_number, row), _vwap(row[7], row[6]) if basis == "trade" else None) for row in rows]


def _number(value: object) -> object:
    return value if isinstance(value, str) else int(value)  # type: ignore[call-overload]


def _vwap(turnover: int, volume: int) -> int | None:
    return round(Fraction(int(turnover), int(volume))) if volume else None


def integers(bars: bt.Frame) -> list[tuple[object, ...]]:
    table = bars.to_arrow()
    times = table["timestamp_utc"].cast(pa.int64()).to_pylist()
    columns = [
        [None if v is None else int(v.scaleb(8)) for v in table[c].to_pylist()]
        for c in ("open", "high", "low", "close", "volume")
    ]
    turnover = [int(v.scaleb(16)) for v in table["turnover"].to_pylist()]
    vwap = [None if v is None else int(v.scaleb(8)) for v in table["vwap"].to_pylist()]
    return list(
        zip(
            table["symbol"].to_pylist(),
            times,
            *columns,
            turnover,
            table["trade_count"].to_pylist(),
            vwap,
            strict=True,
        )
    )


@pytest.fixture(scope="module")
def stores(vendor_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bt.Store]]:
    opened: dict[str, bt.Store] = {}
    yield opened
    for store in opened.values():
        store.close()


def unscaled(ticks: pa.Table) -> pa.Table:
    fixed = ["price", "volume", "bid", "ask"]
    names = ["symbol", "sequence", "tick_type", *fixed]
    frame = bt.Frame(ticks.select(names)).to_arrow(price_type="fixed")
    return frame.append_column("ns", ticks["timestamp_utc"].cast(pa.int64()))


def test_every_shared_file_is_among_them(vendor_data: Path) -> None:
    shared = {str(path.relative_to(vendor_data)) for path in vendor_data.rglob("*") if path.is_file()}
    assert shared - {"README.md"} == {name for name, _, _ in FILES}


@pytest.mark.parametrize(("file", "options", "bases"), FILES, ids=[name for name, _, _ in FILES])
def test_bars_equal_the_model(
    file: str, options: dict[str, Any], bases: list[str], vendor_data: Path, tmp_path: Path
) -> None:
    with bt.open(tmp_path / "store") as store:
        report = store.ingest(vendor_data / file, **options)
        assert report.rows_in == report.accepted + report.rejected + report.duplicate
        ticks = unscaled(store.ticks().to_arrow())
        assert ticks.num_rows == report.accepted > 0
        pure = store.ticks().to_arrow()
        for basis in bases:
            at_once = bt.aggregate_bars(pure, STANDARD, price=basis)
            from_seconds = {}
            for timeframe in [*STANDARD, *ODD]:
                expected = model(ticks, bt.Timeframe.parse(timeframe).ns, basis)
                got = integers(store.bars(None, timeframe, price=basis))
                assert sorted(got) == expected, (file, basis, timeframe)
                from_seconds[timeframe] = expected
            direct = {
                timeframe: sorted(integers(bt.Frame(bt.aggregate_bars(pure, [timeframe], price=basis))))
                for timeframe in ("5m", "1d")
            }
            for timeframe, rows in direct.items():
                mask = [t == timeframe for t in at_once["timeframe"].to_pylist()]
                assert (
                    sorted(integers(bt.Frame(at_once.filter(pa.array(mask, pa.bool_())))))
                    == rows
                    == from_seconds[timeframe]
                )
