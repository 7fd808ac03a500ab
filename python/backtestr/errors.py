"""One tree of errors; each message says what was being done, to what, and what to do next."""

from __future__ import annotations


class BacktestrError(Exception):
    """Base of every error that backtestr raises on purpose."""


class ArgumentError(BacktestrError, ValueError):
    """An argument has a value that is not taken."""


class ConfigError(BacktestrError, ValueError):
    """A setting has a value that is not taken; says where it came from."""


class SchemaError(BacktestrError, TypeError):
    """Columns or types are not those of a tick table."""


class InvalidTickError(BacktestrError, ValueError):
    """A tick's values cannot be used where they must be."""


class TimeframeError(BacktestrError, ValueError):
    """A timeframe that neither divides a day nor is a whole number of days."""


class BarOverflowError(BacktestrError, OverflowError):
    """A bar's volume or turnover leaves its decimal type."""


class StateError(BacktestrError, ValueError):
    """A saved aggregator state is damaged or of another version."""


class MissingDependencyError(BacktestrError, ImportError):
    """An optional package is needed; the message holds the exact install line."""


class SourceError(BacktestrError, ValueError):
    """A source cannot be read as asked."""


class SourceStructureError(SourceError):
    """A source's structure is broken: quoting, field count, bytes, truncation or columns. Nothing was loaded."""


class SourceNotFoundError(SourceError, FileNotFoundError):
    """There is no file at a source's path, or no file in its folder."""


class SourceAmbiguousError(SourceError):
    """The format, market, date or zone of a source cannot be told; the message names the argument that says it."""


class TooManyRejectedError(SourceError):
    """More rows were rejected than ``max_rejected`` allows. Nothing was loaded."""


class FeedConflictError(BacktestrError, ValueError):
    """A symbol belongs to another feed."""


class SequenceConflictError(BacktestrError, ValueError):
    """The same key arrived with other values."""


class SymbolNotFoundError(BacktestrError, KeyError):
    """No such symbol; the message has the nearest names."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class SQLError(BacktestrError, ValueError):
    """A SQL text is not one read-only statement over the store's tables, or does not run."""


class StoreError(BacktestrError):
    """A store cannot do what was asked."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """There is no store at that path."""


class VersionNotFoundError(StoreError, LookupError):
    """The store has no such version: no such LSN or tag, or an instant before its first commit."""


class StoreFormatError(StoreError, ValueError):
    """The folder is not a store, or one of a newer format."""


class NetworkFilesystemError(StoreError, OSError):
    """A store would be on a file system of the network, whose locks and syncs cannot be trusted."""


class StoreLockedError(StoreError, BlockingIOError):
    """Another process writes to the store; the message has its pid."""


class StoreClosedError(StoreError, ValueError):
    """The store was closed, or carried across a fork."""


class StoreReadOnlyError(StoreError, PermissionError):
    """The store was opened read-only."""


class StorePoisonedError(StoreError, OSError):
    """A write failed part-way; reopen the store to go on. Nothing acknowledged is lost."""


class StoreFullError(StorePoisonedError):
    """The disk is full: close the store, open it again, and make room by ``delete`` and ``gc``."""


class StoreIOError(StoreError, OSError):
    """The operating system refused a file operation of the store."""


class MigrationError(StoreError):
    """A migration cannot be run; the store is as it was."""


class MigrationModifiedError(MigrationError, ValueError):
    """A migration that the store applied was edited since: its checksum is another one."""


class MigrationMissingError(MigrationError, LookupError):
    """A migration that the store applied is not in this release."""


class MigrationOrderError(MigrationError):
    """A migration older than the store's schema was never applied."""


class MigrationNewerError(MigrationError):
    """The store's schema is newer than this release knows, so it neither reads nor writes it."""


class MigrationIrreversibleError(MigrationError):
    """A migration has no way down."""


class DataCorruptError(StoreError, ValueError):
    """A data file does not match what the log says of it."""


class LogCorruptError(StoreError, ValueError):
    """The log holds something that no writer of it wrote."""
