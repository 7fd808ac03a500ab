"""Whose rows they are: feeds and the symbols they own, the feed of a load, and the ids of exchange codes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from backtestr.errors import ArgumentError, FeedConflictError, SourceAmbiguousError
from backtestr.sources import OpenedSource
from backtestr.storage.snapshot import Version


@dataclass(frozen=True, slots=True)
class Feeds:
    """The feeds of a version.

    Attributes:
        names: the name of each feed id.
        numbered: whether the feed of an id numbers its rows, so that its sequence names a row.
        owners: the ids of the feeds that each symbol has rows of.
    """

    names: dict[int, str]
    numbered: dict[int, bool]
    owners: dict[str, set[int]]

    @classmethod
    def of(cls, version: Version) -> Feeds:
        """Read them from a version's tables."""
        feeds = version.rows_of("feeds")
        owners: dict[str, set[int]] = {}
        for row in version.rows_of("symbol_feeds"):
            owners.setdefault(row["symbol"], set()).add(row["feed_id"])
        return cls(
            {row["id"]: row["name"] for row in feeds},
            {row["id"]: row["row_unique_sequence"] for row in feeds},
            owners,
        )


class LoadFeed:
    """The feed that a load's rows belong to: one that is known by its name, or a new one.

    Attributes:
        name: identity the rows are deduplicated under.
        id: its number in ``feed_id``.
        row_unique: whether its sequence names a row: settled by its first load.
    """

    def __init__(self, feeds: Feeds, source: OpenedSource) -> None:
        self._feeds = feeds
        self._source = source
        self.name = source.feed or source.name
        known = {name: number for number, name in self._feeds.names.items()}.get(self.name)
        self._is_new = known is None
        self.id = len(self._feeds.names) + 1 if known is None else known
        self.row_unique = source.row_unique_sequence if known is None else self._feeds.numbered[known]

    def check(self, symbols: Iterable[str], *, allow_mixed: bool) -> None:
        """Refuse rows that are not the feed's to bring.

        Raises:
            FeedConflictError: the feed numbers its rows and this source does not, or a symbol is another feed's.
            SourceAmbiguousError: a symbol has rows and the source names no feed.
        """
        names, owners = self._feeds.names, self._feeds.owners
        if self.row_unique and not self._source.row_unique_sequence:
            raise FeedConflictError(
                f"feed {self.name!r} numbers its rows, this source brings none of its numbers; name another feed="
            )
        for symbol in symbols:
            if self._source.feed is None and symbol in owners:
                raise SourceAmbiguousError(
                    f"{symbol!r} has rows already, and this source does not say where its rows come from: name feed=, "
                    f"such as feed={names[min(owners[symbol])]!r} if it is the same"
                )
            others = owners.get(symbol, set()) - {self.id}
            if others and self.id not in owners[symbol] and not allow_mixed:
                raise FeedConflictError(
                    f"{symbol!r} comes from feed {names[min(others)]!r}, this source is feed {self.name!r}; "
                    "give the rows another name with symbol=, name the same feed with feed=, or pass allow_mixed=True"
                )

    def new_rows(self, symbols: Iterable[str]) -> dict[str, pa.Table]:
        """Rows that the tables ``feeds`` and ``symbol_feeds`` gain, by table."""
        rows: dict[str, pa.Table] = {}
        if self._is_new:
            rows["feeds"] = pa.table(
                {
                    "id": pa.array([self.id], pa.uint16()),
                    "name": [self.name],
                    "row_unique_sequence": [self.row_unique],
                }
            )
        new = [symbol for symbol in symbols if self.id not in self._feeds.owners.get(symbol, set())]
        if new:
            rows["symbol_feeds"] = pa.table({"symbol": new, "feed_id": pa.array([self.id] * len(new), pa.uint16())})
        return rows


class ExchangeIds:
    """Small ids for exchange codes, new ones given in order of sight."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._new: dict[str, int] = {}

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {row["code"]: row["id"] for row in self._version.rows_of("exchanges")}

    @property
    def codes(self) -> dict[int, str]:
        """The code of each id."""
        return {number: code for code, number in self._ids.items()}

    def encode(self, codes: pa.Array) -> pa.Array:
        """The id of each code, as ``uint16``; null stays null.

        Raises:
            ArgumentError: more codes than ids.
        """
        if not pa.types.is_dictionary(codes.type):
            codes = codes.dictionary_encode()
        table = []
        for code in codes.dictionary.to_pylist():
            if code not in self._ids:
                self._ids[code] = self._new[code] = len(self._ids) + 1
            table.append(self._ids[code])
        if len(self._ids) > np.iinfo(np.uint16).max:
            raise ArgumentError("more than 65,535 exchange codes; map the exchange column with columns=")
        return pa.array(table, pa.uint16()).take(codes.indices)

    def replace_codes(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """A source's rows with ids in place of exchange codes, if they have these."""
        at = rows.schema.get_field_index("exchange")
        return rows if at < 0 else rows.set_column(at, "exchange_id", self.encode(rows.column(at)))

    def new_rows(self) -> dict[str, pa.Table]:
        """Rows that the table ``exchanges`` gains, by table."""
        if not self._new:
            return {}
        ids = pa.array(list(self._new.values()), pa.uint16())
        return {"exchanges": pa.table({"id": ids, "code": list(self._new)})}
