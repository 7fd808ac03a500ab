"""Install the newest wheel of a folder into an empty environment and use it away from the repository."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

SAMPLE = Path(__file__).parents[1] / "samples" / "questdb" / "btc_trades.csv"
SCRIPT = """
import sys
import backtestr as bt
with bt.open("store") as store:
    report = store.ingest(sys.argv[1], source="csv", feed="coinbase")
    assert report.is_reconciled and report.accepted == 5882, report
    assert store.bars("BTC-USD", "5m").num_rows == 12
    assert store.sql("select count(*) n from bars where timeframe = '1h'").to_pylist() == [{"n": 1}]
assert "site-packages" in bt.__file__, bt.__file__
print("wheel", bt.__version__, "works")
"""


def main(folder: Path) -> None:
    wheel = max(folder.glob("*.whl"), key=lambda path: path.stat().st_mtime)
    with tempfile.TemporaryDirectory() as away:
        venv.create(f"{away}/env", with_pip=True)
        python = f"{away}/env/bin/python"

        def run(*words: str) -> str:
            return subprocess.run(words, cwd=away, check=True, stdout=subprocess.PIPE, text=True).stdout

        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel.resolve()))
        print(run(python, "-c", SCRIPT, str(SAMPLE.resolve())), end="")
        info = json.loads(run(f"{away}/env/bin/backtestr", "info", "--store", "store", "--json"))
        assert info["ticks"] == 5882, info
        installed = json.loads(run(python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"))
        extras = {"pandas", "polars", "databento-dbn"} & {entry["name"] for entry in installed}
        assert not extras, f"the core install brings {extras}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
