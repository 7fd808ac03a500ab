"""DBN files made by the vendor's own encoder: several instruments, and schemas that are not read."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest

import backtestr as bt
from backtestr.errors import BacktestrError, SourceAmbiguousError, SourceStructureError
from tests.sources.reading import ns, read, rows

dbn = pytest.importorskip("databento_dbn")

START = ns(dt.datetime(2024, 1, 2, 14, 30, tzinfo=dt.UTC))
DAY = 86_400 * 10**9
UNIT = 10**9
UNREAD = [
    "mbo", "mbp-10", "bbo-1s", "bbo-1m", "cmbp-1", "cbbo-1s", "cbbo-1m", "tcbbo",
    "ohlcv-1s", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d", "definition", "statistics", "status", "imbalance",
]  # fmt: skip


def written(path: Path, schema: str | None, records: list[object], **spans: list[tuple[str, str, int]]) -> Path:
    """A file of records; per symbol (first day, day after the last, instrument)."""
    mappings = [
        SimpleNamespace(
            raw_symbol=symbol,
            intervals=[
                SimpleNamespace(
                    start_date=dt.date.fromisoformat(first), end_date=dt.date.fromisoformat(end), symbol=str(instrument)
                )
                for first, end, instrument in intervals
            ],
        )
        for symbol, intervals in spans.items()
    ]
    metadata = dbn.Metadata(
        dataset="GLBX.MDP3",
        start=START,
        stype_in=dbn.SType.RAW_SYMBOL,
        stype_out=dbn.SType.INSTRUMENT_ID,
        schema=None if schema is None else dbn.Schema.from_str(schema),
        symbols=list(spans),
        mappings=mappings,
    )
    path.write_bytes(metadata.encode() + b"".join(map(bytes, records)))
    return path


def trade(instrument: int, price: str, at: int = START) -> object:
    fixed = int(Decimal(price) * UNIT)
    return dbn.TradeMsg(1, instrument, at, fixed, 3, dbn.Action.TRADE, dbn.Side.ASK, 0, at)


def quote(instrument: int, bid: str, ask: str, action: str = "Add") -> object:
    pair = dbn.BidAskPair(int(Decimal(bid) * UNIT), int(Decimal(ask) * UNIT), 5, 7, 1, 1)
    kind = dbn.Action.from_str(action[0])
    return dbn.MBP1Msg(1, instrument, START, pair.bid_px, 2, kind, dbn.Side.BID, 0, START, levels=pair)


def record(schema: str) -> object:
    if schema.startswith("ohlcv"):
        kind = dbn.RType.from_schema(dbn.Schema.from_str(schema))
        return dbn.OHLCVMsg(kind, 1, 1, START, UNIT, 2 * UNIT, UNIT, UNIT, 10)
    if schema.startswith("bbo"):
        kind = dbn.RType.from_schema(dbn.Schema.from_str(schema))
        return dbn.BBOMsg(kind, 1, 1, START, UNIT, 1, dbn.Side.BID, START, levels=dbn.BidAskPair(UNIT, 2 * UNIT))
    if schema == "mbp-10":
        levels = [dbn.BidAskPair(UNIT, 2 * UNIT)] * 10
        return dbn.MBP10Msg(1, 1, START, UNIT, 1, dbn.Action.ADD, dbn.Side.BID, 0, START, levels=levels)
    return trade(1, "1")


def test_several_instruments(tmp_path: Path) -> None:
    records = [trade(7, "1.5"), trade(9, "-2.25"), trade(7, "1.50000001"), trade(8, "4", START + DAY)]
    spans = {
        "ESH4": [("2024-01-02", "2024-01-03", 7), ("2024-01-03", "2024-01-04", 8)],
        "CLG4-CLH4": [("2024-01-01", "2024-02-01", 9)],
    }
    path = written(tmp_path / "a.dbn", "trades", records, **spans)
    assert rows(read(path), "symbol", "timestamp_utc", "price", "volume") == [
        ("ESH4", START, Decimal("1.5"), 3),
        ("CLG4-CLH4", START, Decimal("-2.25"), 3),
        ("ESH4", START, Decimal("1.50000001"), 3),
        ("ESH4", START + DAY, 4, 3),
    ]
    with bt.open(tmp_path / "store") as store:
        spreads = bt.ValidationRules().allowing("price_negative")
        report = store.ingest(path, rules=spreads, symbol={"CLG4-CLH4": "CL1-2"})
        assert (report.accepted, report.symbols) == (4, ("CL1-2", "ESH4"))
        assert store.bars("ESH4", "1d").to_arrow()["trade_count"].to_pylist() == [2, 1]


def test_an_instrument_without_a_name_goes_to_quarantine(tmp_path: Path) -> None:
    records = [trade(7, "1"), trade(8, "2"), trade(7, "3", START + DAY)]
    path = written(tmp_path / "a.dbn", "trades", records, ESH4=[("2024-01-02", "2024-01-03", 7)])
    with bt.open(tmp_path / "store") as store:
        report = store.ingest(path, max_rejected=0.7)
        assert (report.accepted, report.reasons) == (1, {"symbol_missing": 2})
        kept = store.quarantine().to_pylist()
    assert [(row["line"], row["reasons"]) for row in kept] == [(2, ["symbol_missing"]), (3, ["symbol_missing"])]


def test_two_names_for_one_instrument_are_told_apart_the_same_way_each_time(tmp_path: Path) -> None:
    spans = {name: [("2024-01-02", "2024-01-03", 7)] for name in ("ES.v.0", "ES.c.0", "ES.n.0")}
    path = written(tmp_path / "a.dbn", "trades", [trade(7, "1")], **spans)
    assert {read(path)["symbol"][0].as_py() for _ in range(20)} == {"ES.c.0"}


def test_one_name_for_two_instruments_is_refused(tmp_path: Path) -> None:
    spans = {"A": [("2024-01-02", "2024-01-03", 7)], "B": [("2024-01-02", "2024-01-03", 8)]}
    path = written(tmp_path / "a.dbn", "trades", [trade(7, "1"), trade(8, "2")], **spans)
    with pytest.raises(SourceAmbiguousError, match="the one name 'X'"):
        read(path, symbol="X")


def test_quotes_of_several_instruments(tmp_path: Path) -> None:
    spans = {"A": [("2024-01-02", "2024-01-03", 7)], "B": [("2024-01-02", "2024-01-03", 8)]}
    records = [quote(7, "1", "2"), quote(8, "3", "5", "Trade"), quote(7, "9223372036.854775807", "2")]
    table = read(written(tmp_path / "a.dbn", "mbp-1", records, **spans))
    assert rows(table, "symbol", "tick_type", "price", "bid", "ask") == [
        ("A", 3, None, 1, 2),
        ("B", 0, 3, 3, 5),
        ("A", 2, None, None, 2),
    ]


@pytest.mark.parametrize("schema", UNREAD)
def test_other_schemas_are_refused_by_name(tmp_path: Path, schema: str) -> None:
    path = written(tmp_path / "a.dbn", schema, [record(schema)], A=[("2024-01-02", "2024-01-03", 1)])
    with pytest.raises(SourceStructureError, match=f"'{schema}' is not read; give trades, tbbo, mbp-1"):
        read(path)


def test_a_file_of_several_schemas_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dbn", None, [trade(1, "1")])
    with pytest.raises(BacktestrError, match="mixed"):
        read(path)


@pytest.mark.parametrize("other", ["mbp-10", "ohlcv-1s", "bbo-1s"])
def test_records_of_another_schema_than_the_file_says_are_refused(tmp_path: Path, other: str) -> None:
    records = [trade(1, "1"), record(other), trade(1, "1")]
    path = written(tmp_path / "a.dbn", "trades", records, A=[("2024-01-02", "2024-01-03", 1)])
    with pytest.raises(SourceStructureError, match=r"record 2 is not of schema trades|ends within record"):
        read(path)
