"""What a store tells of itself: its symbols, size, rules and past."""

from __future__ import annotations

from functools import partial

from backtestr.instants import Instant
from backtestr.models import BarSpec, StoreInfo, VersionDiff
from backtestr.persist.history import compare, read_history
from backtestr.query.describe import describe
from backtestr.query.frame import Frame
from backtestr.query.runs import as_table
from backtestr.streaming import Streaming


class Overview(Streaming):
    """What can be asked of an open store beside its rows."""

    def symbols(self) -> list[str]:
        """All symbols, by name."""
        return list(self._version().symbols)

    def info(self) -> StoreInfo:
        """What the store holds and how much it takes on disk."""
        return describe(self._readable(), self._version(), read_only=self._read_only)

    def quarantine(self) -> Frame:
        """Rejected rows with reason, source line and raw text."""
        return self.sql("select * from quarantine order by source, member, line")

    @property
    def bar_spec(self) -> BarSpec:
        """The bar specification in force: which ticks make bars."""
        return self._version().bar_spec

    def history(self) -> Frame:
        """The commits that the log has, oldest first: LSN, time, kind, files added and removed, tags, a note (JSON)."""
        return Frame(read_history(self._readable(), self._version()))

    def diff(self, old: int | Instant, new: int | Instant | None = None) -> VersionDiff:
        """What changed from one version to another, by default the newest: files, ticks, bars, symbols.

        Raises:
            VersionNotFoundError: there is no such version.
        """
        with self._reading(old) as (storage, before), self._reading(new) as (_, after):
            session = self._opened_session()
            return compare(storage, before, after, partial(self._in_files, storage, session))

    def queries(self) -> Frame:
        """The requests that were made of this store: what each kind took, most time in all first.

        Requests of `ticks`, `bars` and `sql` are alike if only their values differ: statements without their constants,
        other requests by timeframe, number of symbols and length of time. What other processes of the user asked for on
        this machine is there too. They are kept in the folder ``state_dir``, and may be deleted.

        Returns:
            request, runs, rows and median_ms (medians of the newest runs), slowest_ms, total_ms, last_utc.

        Example:
            >>> import backtestr as bt, tempfile
            >>> trades = {"ts": ["2024-01-02T14:30:00", "2024-01-02T14:30:40"], "price": [10, 12], "volume": [1, 3]}
            >>> with bt.open(tempfile.mkdtemp(), state_dir=tempfile.mkdtemp()) as store:
            ...     report = store.ingest(trades, symbol="A", feed="example")
            ...     frames = [store.bars("A", timeframe) for timeframe in ("1m", "5m", "60s")]
            ...     {row["request"]: row["runs"] for row in store.queries().to_pylist()} == {
            ...         "bars of 1m: 1 symbol, all time": 2,
            ...         "bars of 5m: 1 symbol, all time": 1,
            ...     }
            True
        """
        self._readable()
        return Frame(as_table(self._runs.known()))
