"""Every shared vendor file against a slow reader of its own, value by value."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import lzma
import struct
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from backtestr.sources import open_source
from tests.sources.reading import ns, read, rows, wall

FIXED_EST = dt.timezone(dt.timedelta(hours=-5))


def _zip_rows(path: Path) -> list[tuple[str, list[str]]]:
    with zipfile.ZipFile(path) as archive:
        return [
            (name, row)
            for name in archive.namelist()
            for row in csv.reader(io.StringIO(archive.read(name).decode()))
            if row
        ]


def _dec(text: str) -> Decimal:
    return Decimal(text).quantize(Decimal("1e-8"))


@pytest.mark.parametrize(
    ("name", "count", "zone"),
    [
        ("equity/usa/tick/spy/20131008_trade.zip", 451_545, "America/New_York"),
        ("equity/usa/tick/ibm/20131008_trade.zip", 33_381, "America/New_York"),
        ("future/comex/tick/gc/20131008_trade.zip", 52_322, "UTC"),
    ],
)
def test_lean_trades(vendor_data: Path, name: str, count: int, zone: str) -> None:
    path = vendor_data / "lean" / name
    table = read(path)
    assert table.num_rows == count
    step = 1 if count < 100_000 else 9
    scale = Decimal(1) if zone == "UTC" else Decimal("0.0001")
    expected = []
    for member, row in _zip_rows(path)[::step]:
        root = path.parent.name.upper()
        symbol = f"{root}_{member.rsplit('_', 1)[1].removesuffix('.csv')}" if zone == "UTC" else root
        time = wall("20131008", zone, row[0])
        expected.append((symbol, time, _dec(str(Decimal(row[1]) * scale)), _dec(row[2]), row[3] or None))
    found = rows(table, "symbol", "timestamp_utc", "price", "volume", "exchange")[::step]
    assert found == expected


@pytest.mark.parametrize(("symbol", "count", "step"), [("ibm", 125_750, 3), ("aig", 1_118_140, 40)])
def test_lean_equity_quotes_have_one_side(vendor_data: Path, symbol: str, count: int, step: int) -> None:
    path = vendor_data / f"lean/equity/usa/tick/{symbol}/20131008_quote.zip"
    table = read(path)
    assert table.num_rows == count

    def side(price: str, size: str) -> tuple[Decimal | None, Decimal | None]:
        return (None, None) if price == "0" else (_dec(str(Decimal(price) / 10_000)), _dec(size))

    expected = [
        (wall("20131008", "America/New_York", row[0]), *side(row[1], row[2]), *side(row[3], row[4]))
        for _, row in _zip_rows(path)[::step]
    ]
    sampled = table.take(list(range(0, count, step)))
    assert rows(sampled, "timestamp_utc", "bid", "bid_size", "ask", "ask_size") == expected


@pytest.mark.parametrize(
    ("market", "count", "zone"), [("oanda", 87_833, "UTC"), ("fxcm", 167_466, FIXED_EST)], ids=["oanda", "fxcm"]
)
def test_lean_forex(vendor_data: Path, market: str, count: int, zone: Any) -> None:
    path = vendor_data / f"lean/forex/{market}/tick/eurusd/20140508_quote.zip"
    table = read(path)
    assert table.num_rows == count
    expected = [(wall("20140508", zone, row[0]), _dec(row[1]), _dec(row[2])) for _, row in _zip_rows(path)[::2]]
    assert rows(table, "timestamp_utc", "bid", "ask")[::2] == expected


def test_histdata(vendor_data: Path) -> None:
    path = vendor_data / "histdata/quote_tick_data.csv"
    expected = []
    for stamp, bid, ask, _ in csv.reader(path.read_text().splitlines()):
        local = dt.datetime.strptime(stamp + "000", "%Y%m%d %H%M%S%f").replace(tzinfo=FIXED_EST)
        expected.append((ns(local), _dec(bid), _dec(ask)))
    table = read(path, source="histdata", symbol="EURUSD")
    assert len(expected) == 9_500
    assert rows(table, "timestamp_utc", "bid", "ask") == expected


def test_truefx(vendor_data: Path) -> None:
    path = vendor_data / "truefx/usdjpy-ticks.csv"
    expected = [
        (ns(dt.datetime.fromisoformat(row["timestamp"])), _dec(row["bid"]), _dec(row["ask"]))
        for row in csv.DictReader(path.read_text().splitlines())
    ]
    table = read(path)
    assert len(expected) == 1_000
    assert set(table["symbol"].to_pylist()) == {"USDJPY"}
    assert rows(table, "timestamp_utc", "bid", "ask") == expected


@pytest.mark.parametrize(("hour", "count"), [(0, 3_733), (10, 8_438), (23, 2_633)])
def test_dukascopy(vendor_data: Path, hour: int, count: int) -> None:
    path = vendor_data / f"dukascopy/EURUSD/2019/01/04/{hour:02}h_ticks.bi5"
    raw = lzma.decompress(path.read_bytes(), lzma.FORMAT_ALONE)
    start = ns(dt.datetime(2019, 2, 4, hour, tzinfo=dt.UTC))

    def size(value: float) -> Decimal:
        shortest = f"{value:.9g}"
        for digits in range(1, 10):
            if struct.pack(">f", float(f"{value:.{digits}g}")) == struct.pack(">f", value):
                shortest = f"{value:.{digits}g}"
                break
        return _dec(str(Decimal(shortest) * 1_000_000))

    expected = [
        (start + ms * 1_000_000, Decimal(bid) / 100_000, Decimal(ask) / 100_000, size(bid_size), size(ask_size))
        for ms, ask, bid, ask_size, bid_size in struct.iter_unpack(">IIIff", raw)
    ]
    table = read(path)
    assert table.num_rows == len(expected) == count
    assert rows(table, "timestamp_utc", "bid", "ask", "bid_size", "ask_size") == expected


def test_questdb(vendor_data: Path) -> None:
    path = vendor_data / "questdb/btc_trades.csv"
    expected = [
        (
            row["symbol"],
            ns(dt.datetime.fromisoformat(row["timestamp"])),
            _dec(row["price"]),
            _dec(row["amount"]),
        )
        for row in csv.DictReader(path.read_text().splitlines())
    ]
    assert len(expected) == 5_882
    assert rows(read(path), "symbol", "timestamp_utc", "price", "volume") == expected


@pytest.mark.parametrize("clock", ["exchange", "receive"])
def test_binance_lines(vendor_data: Path, clock: str) -> None:
    path = vendor_data / "binance_ws/spot/btcusdt_20240808.gz"
    trades, quotes, left_out = [], [], 0
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        received, text = line.split(" ", 1)
        message = json.loads(text)
        data = message.get("data", message)
        if data.get("e") == "trade":
            time = data["T"] * 1_000_000 if clock == "exchange" else int(received)
            trades.append((data["s"], time, data["t"], _dec(data["p"]), _dec(data["q"])))
        elif "e" not in data and "u" in data:
            values = (_dec(data[key]) for key in "bBaA")
            quotes.append((data["s"], int(received), data["u"], *values))
        else:
            left_out += 1
    opened = open_source(path, clock=clock)
    table = read(path, clock=clock)
    for _ in opened.batches:
        pass
    assert (len(trades), len(quotes), left_out) == (9_757, 28_040, 3_452)
    assert sum(opened.skipped.values()) == left_out
    traded = table.filter(table["tick_type"].combine_chunks().to_numpy() == 0)
    assert rows(traded, "symbol", "timestamp_utc", "sequence", "price", "volume") == trades
    quoted = table.filter(table["tick_type"].combine_chunks().to_numpy() == 3)
    names = ("symbol", "timestamp_utc", "sequence", "bid", "bid_size", "ask", "ask_size")
    assert rows(quoted, *names) == quotes
    assert len({row[2] for row in quotes}) == len(quotes)


@pytest.mark.parametrize("clock", ["exchange", "receive"])
@pytest.mark.parametrize("name", ["bitmex_trades_XBTUSD.csv", "huobi-dm-swap_quotes_BTC-USD.csv"])
def test_tardis(vendor_data: Path, name: str, clock: str) -> None:
    path = vendor_data / "tardis" / name
    stamp = "timestamp" if clock == "exchange" else "local_timestamp"
    pairs = (
        {"price": "price", "volume": "amount"}
        if "trades" in name
        else {"bid": "bid_price", "ask": "ask_price", "bid_size": "bid_amount", "ask_size": "ask_amount"}
    )
    expected = [
        (row["symbol"], row["exchange"], int(row[stamp]) * 1000, *(_dec(row[at]) for at in pairs.values()))
        for row in csv.DictReader(path.read_text().splitlines())
    ]
    table = read(path, clock=clock)
    assert rows(table, "symbol", "exchange", "timestamp_utc", *pairs) == expected
    assert len(expected) == 10


def test_shanghai(vendor_data: Path) -> None:
    path = vendor_data / "dolphindb/20200102_SH_trade.csv"
    zone = dt.timezone(dt.timedelta(hours=8))
    expected = []
    for row in csv.DictReader(path.read_text().splitlines()):
        local = dt.datetime.strptime(row["TradeTime"], "%Y.%m.%dT%H:%M:%S.%f").replace(tzinfo=zone)
        price = _dec(repr(float(row["TradePrice"])))
        expected.append((row["SecurityID"], ns(local), price, _dec(repr(float(row["TradeQty"])))))
    assert len(expected) == 26_169
    assert rows(read(path), "symbol", "timestamp_utc", "price", "volume") == expected


DBN = sorted(
    ["dbn/test_data.trades.dbn", *(f"dbn/test_data.trades.v{version}.dbn.zst" for version in (1, 2, 3))]
    + [
        f"databento-python/{dataset}/test_data.{schema}.dbn.zst"
        for dataset in ("GLBX.MDP3", "XNAS.ITCH", "EQUS.MINI")
        for schema in ("trades", "tbbo", "mbp-1")
    ]
    + [f"nautilus/futures_{kind}_2024-07-01T23-58_2024-07-02T00-02.dbn.zst" for kind in ("trades", "mbp-1")]
)


@pytest.mark.parametrize("clock", ["exchange", "receive"])
@pytest.mark.parametrize("name", DBN)
def test_databento(vendor_data: Path, name: str, clock: str) -> None:
    databento = pytest.importorskip("databento_dbn")
    path = vendor_data / "dbn" / name
    raw = path.read_bytes()
    if path.suffix == ".zst":
        import zstandard

        raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(raw), read_across_frames=True).read()
    decoder = databento.DBNDecoder()
    decoder.write(raw)
    undefined = 2**63 - 1

    def price(value: int) -> Decimal | None:
        return None if value == undefined else _dec(str(Decimal(value) / 10**9))

    expected = []
    for record in decoder.decode():
        if not hasattr(record, "action"):
            continue
        trade = str(record.action) in {"T", "Action.TRADE", "Trade"} or getattr(record.action, "value", None) == "T"
        time = record.ts_event if clock == "exchange" else record.ts_recv
        row = [time, price(record.price) if trade else None, _dec(str(record.size)) if trade else None]
        if hasattr(record, "levels"):
            level = record.levels[0]
            row += [price(level.bid_px), price(level.ask_px)]
        expected.append(tuple(row))
    table = read(path, clock=clock)
    names = ["timestamp_utc", "price", "volume"] + (["bid", "ask"] if "bid" in table.column_names else [])
    assert rows(table, *names) == expected
    counts = {"nautilus/futures_mbp": 2_288, "nautilus/futures_tra": 120, "databento-python/EQU": 4}
    assert table.num_rows == counts.get(name[:20], table.num_rows)
    symbols = {"nautilus": "ESU4", "GLBX": "ESH1", "dbn/": "ESH1", "XNAS": "NVDA", "EQUS": "QQQ"}
    assert set(table["symbol"].to_pylist()) == {next(symbol for part, symbol in symbols.items() if part in name)}


@pytest.mark.parametrize(("name", "count"), [("trades", 2_001), ("quotes", 451)])
def test_parquet(vendor_data: Path, name: str, count: int) -> None:
    table = read(vendor_data / f"binance_parquet/btcusdt-{name}.parquet", symbol="BTCUSDT")
    assert table.num_rows == count
    assert set(table["symbol"].to_pylist()) == {"BTCUSDT"}


SNIFFED = {
    "binance_parquet": ("arrow", {"symbol": "BTCUSDT"}),
    "binance_ws": ("binance", {}),
    "dbn": ("databento", {}),
    "dolphindb": ("dolphindb", {}),
    "dukascopy": ("dukascopy", {}),
    "histdata": ("histdata", {"symbol": "EURUSD"}),
    "lean": ("lean", {}),
    "questdb": ("csv", {}),
    "tardis": ("tardis", {}),
    "truefx": ("truefx", {}),
}


def test_every_file_is_recognised(vendor_data: Path) -> None:
    files = [path for path in sorted(vendor_data.rglob("*")) if path.is_file() and path.name != "README.md"]
    assert len(files) == 34
    for path in files:
        name, options = SNIFFED[path.relative_to(vendor_data).parts[0]]
        opened = open_source(path, **options)
        assert opened.name == name, path
        opened.close()
