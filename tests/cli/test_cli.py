"""The command line as a person or a script uses it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import backtestr as bt
from backtestr.cli import main

SAMPLES = Path(__file__).parents[2] / "samples"
IBM = str(SAMPLES / "lean/equity/usa/tick/ibm/20131008_trade.zip")
BTC = str(SAMPLES / "questdb/btc_trades.csv")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; gives exit code, output and errors."""

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        out = capsys.readouterr()
        return int(left.value.code or 0), out.out, out.err

    return call


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the sample trades of IBM."""
    path = tmp_path_factory.mktemp("cli") / "market"
    with bt.open(path) as store:
        store.ingest(IBM)
    return path


def test_ingest_prints_the_report(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("ingest", BTC, "--store", tmp_path / "m", "--feed", "coinbase")
    assert code == 0
    assert "5,882 rows in = 5,882 accepted + 0 rejected + 0 duplicate" in out
    code, out, _ = run("ingest", BTC, IBM, "--store", tmp_path / "m", "--feed", "coinbase", "--json")
    reports = [json.loads(line) for line in out.splitlines()]
    assert [report["duplicate"] for report in reports] == [5882, 0]
    assert all(report["rows_in"] == report["accepted"] + report["rejected"] + report["duplicate"] for report in reports)


def test_a_dry_run_stores_nothing(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("ingest", BTC, "-s", tmp_path / "m", "--dry-run")
    assert (code, "would store" in out) == (0, True)
    assert not (tmp_path / "m").exists()


def test_what_fails_leaves_no_new_store(run: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.csv"
    broken.write_text('timestamp_utc,price,volume\n2024-01-02,1.5,"2\n', encoding="utf-8")
    assert run("ingest", broken, "-s", tmp_path / "m", "--symbol", "A", "--feed", "f")[0] == 1
    assert run("delete", "A", "-s", tmp_path / "n", "--yes")[0] != 0
    assert not (tmp_path / "m").exists()
    assert not (tmp_path / "n").exists()
    assert run("ingest", IBM, "-s", tmp_path / "m")[0] == 0
    assert run("ingest", broken, "-s", tmp_path / "m", "--symbol", "A", "--feed", "f")[0] == 1
    assert run("symbols", "-s", tmp_path / "m")[1] == "IBM\n"


def test_options_of_a_format_and_rules(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "spread.txt"
    path.write_text("when;px;qty\n02/01/2024 09:30:00;-0,5;1\n".replace(",", "."), encoding="utf-8")
    words = ["ingest", path, "-s", tmp_path / "m", "--source", "csv", "--symbol", "CLF-CLG", "--feed", "desk"]
    words += ["--timezone", "America/New_York", "--option", "time_format=%d/%m/%Y %H:%M:%S"]
    words += ["--option", 'columns={"timestamp_utc": "when", "price": "px", "volume": "qty"}']
    code, _, err = run(*words)
    assert (code, "price_negative" in err) == (1, True)
    assert run(*words, "--allow", "price_negative")[0] == 0
    rows = json.loads(run("ticks", "CLF-CLG", "-s", tmp_path / "m", "--json")[1])
    assert [(row["timestamp_utc"], row["price"]) for row in rows] == [("2024-01-02T14:30:00Z", "-0.50000000")]


@pytest.mark.parametrize("style", ["table", "csv", "json"])
def test_bars_in_every_style(run: Run, market: Path, style: str) -> None:
    code, out, _ = run("bars", "IBM", "1h", "-s", market, "--format", style, "--start", "2013-10-08T19:00")
    assert code == 0
    rows = json.loads(out) if style == "json" else out.splitlines()[1:]
    assert len(rows) == 5
    assert "2013-10-08T19:00:00Z" in str(rows[0])
    assert "179.19338880" in str(rows[0]) if style != "table" else "179.1933888 " in rows[0]


def test_rows_go_to_files(run: Run, market: Path, tmp_path: Path) -> None:
    assert run("ticks", "IBM", "-s", market, "-o", tmp_path / "t.parquet", "--columns", "price,volume")[0] == 0
    assert pq.read_table(tmp_path / "t.parquet").num_rows == 33_381
    assert run("sql", "select 1 as one", "-s", market, "-o", tmp_path / "t.csv")[0] == 0
    assert (tmp_path / "t.csv").read_text() == '"one"\n1\n'


def test_tables_are_cut_and_say_so(run: Run, market: Path) -> None:
    _, out, err = run("ticks", "-s", market)
    assert (len(out.splitlines()), "33,331 more rows" in err) == (51, True)
    assert len(run("ticks", "-s", market, "--limit", "3")[1].splitlines()) == 4


def test_info_and_symbols(run: Run, market: Path) -> None:
    assert json.loads(run("info", "-s", market, "--json")[1])["ticks"] == 33_381
    assert "33,381 ticks of 1 symbols" in run("info", "-s", market)[1]
    assert run("symbols", "-s", market)[1] == "IBM\n"
    assert run("quarantine", "-s", market, "--json")[1] == "[]\n"
    assert "backtestr" in json.loads(run("versions", "--json")[1])
    assert run("--version")[:2] == (0, f"{bt.__version__}\n")
    assert json.loads(run("config", "show", "--json")[1])["zstd_level"]["origin"] == "default"


def test_delete_asks_first(run: Run, tmp_path: Path) -> None:
    with bt.open(tmp_path / "m") as store:
        store.ingest(IBM)
    words = ["delete", "IBM", "-s", tmp_path / "m", "--start", "2013-10-08T20:00"]
    assert "rows removed" in run(*words, "--dry-run")[1]
    assert run(*words)[0] == 1, "no answer is no consent"
    removed = json.loads(run(*words, "--yes", "--json")[1])["removed"]
    assert json.loads(run("info", "-s", tmp_path / "m", "--json")[1])["ticks"] == 33_381 - removed < 33_381


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["bars", "IBN", "1h"], 1, "nearest are 'IBM'"),
        (["bars", "ibm", "1h"], 1, "nearest are 'IBM'"),
        (["bars", ",", "1h"], 2, "names no symbol"),
        (["bars", "IBM", "7m"], 2, "divide a day"),
        (["bars", "IBM", "1h", "--start", "2014", "--end", "2013-01-01"], 2, "start='2014'"),
        (["sql", "drop table ticks"], 1, "one SELECT"),
        (["ticks", "IBM", "--columns", "prise"], 2, "no column 'prise'"),
        (["ticks", "IBM", "--format", "xml"], 2, "table, csv, json, parquet"),
        (["ingest", "absent.csv"], 2, "does not exist"),
        (["ingest", BTC, "--option", "timeformat=iso", "--source", "csv"], 2, "timeformat"),
        (["ingest", BTC, "--source", "lean"], 1, "give"),
        (["ingest", BTC, "--allow", "price_odd"], 2, "price_odd"),
        (["nonsense"], 2, "No such command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_are_one_line(run: Run, market: Path, words: list[str], code: int, message: str) -> None:
    store = [] if words == ["nonsense"] else ["-s", str(market)]
    left, out, err = run(*words, *store)
    assert (left, out) == (code, "")
    assert err.startswith("backtestr: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_store_that_is_not_there(run: Run, tmp_path: Path) -> None:
    code, _, err = run("info", "-s", tmp_path / "none")
    assert (code, "no store at" in err) == (1, True)
    assert not (tmp_path / "none").exists()


def test_help_without_a_command(run: Run) -> None:
    code, _, err = run()
    assert (code, "Commands:" in err, err.count("\n") > 10) == (2, True, True)


def test_as_a_module_with_the_store_from_the_environment(market: Path) -> None:
    words = [sys.executable, "-m", "backtestr", "symbols"]
    environment = {**os.environ, "BACKTESTR_STORE": str(market)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("IBM\n", "")


def test_a_reader_that_leaves_early_is_no_error(market: Path) -> None:
    words = f"{sys.executable} -m backtestr ticks -s {market} --format csv | head -1"
    done = subprocess.run(words, shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    assert done.stderr == ""


def test_verify_and_repair(run: Run, market: Path, tmp_path: Path) -> None:
    code, out, _ = run("verify", market, "--deep")
    assert (code, "in order" in out) == (0, True)
    assert json.loads(run("verify", market, "--json")[1])["ok"] is True
    broken = tmp_path / "broken"
    shutil.copytree(market, broken)
    (file,) = (broken / "data" / "bars").rglob("*.parquet")
    file.unlink()
    code, out, _ = run("verify", broken)
    assert (code, "missing: data/bars/" in out) == (1, True)
    code, out, _ = run("verify", broken, "--json")
    assert (code, json.loads(out)["problems"][0]["symbols"]) == (1, ["IBM"])
    assert "would rebuild bars of 1 symbols" in run("repair", broken, "--dry-run")[1]
    assert run("repair", broken)[0] == 0
    assert run("verify", broken, "--deep")[0] == 0
    (file,) = (broken / "data" / "ticks").rglob("*.parquet")
    file.write_bytes(b"")
    assert run("repair", broken, "--json")[0] == 1
    assert run("verify", tmp_path / "none")[0] == 1


def test_gc(run: Run, market: Path, tmp_path: Path) -> None:
    path = tmp_path / "cleaned"
    shutil.copytree(market, path)
    assert run("delete", "IBM", "--yes", "-s", path)[0] == 0
    assert "removed 0 data files" in run("gc", path)[1]
    code, out, _ = run("gc", path, "--retention", "0", "--dry-run")
    assert (code, "would remove 2 data files" in out) == (0, True)
    assert json.loads(run("gc", path, "--retention", "0s", "--json")[1])["files"] == 2
    code, _, err = run("gc", path, "--retention", "soon")
    assert (code, "7d" in err) == (2, True)


def test_migrations_go_up_and_down(run: Run, tmp_path: Path) -> None:
    with tarfile.open(SAMPLES.parent / "tests/data/store_v1.tar.xz") as archive:
        archive.extractall(tmp_path / "m", filter="data")
    where = ("-s", tmp_path / "m")
    states = [one["state"] for one in json.loads(run("migrate", "status", *where, "--json")[1])]
    assert states == ["applied", "pending"]
    assert run("migrate", "plan", *where)[1].startswith("schema 1 to 2\n  up    0002_indicators\n  not run")
    assert json.loads(run("migrate", "up", *where, "--dry-run", "--json")[1])["lsn"] is None
    assert json.loads(run("migrate", "up", *where, "--json")[1])["lsn"] == 4
    assert run("migrate", "up", *where)[:2] == (0, "schema 2: nothing to migrate\n")
    assert "0002_indicators  applied" in run("migrate", "status", *where)[1]
    assert run("migrate", "up", *where, "--to", "9")[0] == 2
    assert "about" in run("migrate", "down", *where, "--dry-run")[1]
    assert "commit 5" in run("migrate", "down", *where, "--to", "1", "--yes")[1]
    code, _, err = run("migrate", "down", *where, "--yes")
    assert (code, "relies on" in err) == (1, True)


def test_queries_and_explain_tell_what_it_took(run: Run, market: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("BACKTESTR_STATE_DIR", str(tmp_path / "state"))
    text = "select max(price) from ticks where symbol = 'IBM'"
    assert json.loads(run("explain", text, "-s", market, "--json")[1])["measured"] is None
    for _ in range(2):
        assert run("sql", text, "-s", market)[0] == 0
    assert run("bars", "IBM", "2m", "-s", market)[0] == 0
    rows = {row["request"]: row["runs"] for row in json.loads(run("queries", "-s", market, "--json")[1])}
    assert rows == {"select max(price) from ticks where symbol = ?": 2, "bars of 2m: 1 symbol, all time": 1}
    plan = json.loads(run("explain", text, "-s", market, "--json", "--analyze")[1])
    assert (plan["measured"]["runs"], plan["estimate"]["runs"], plan["analysis"]["rows"]) == (2, 2, 1)
    assert "measured" in run("explain", text, "-s", market)[1]
    assert "bars of 2m" in run("queries", "-s", market, "--limit", 1)[1] + run("queries", "-s", market)[1]
