"""Settings: keyword, then environment, then file, then a default from the machine; each remembers its origin."""

from __future__ import annotations

import datetime as dt
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from backtestr import machine
from backtestr.errors import ConfigError, TimeframeError
from backtestr.models.timeframe import Timeframe

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])?")
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_FILES = ("backtestr.toml", "pyproject.toml")
_ENVIRONMENT = "BACKTESTR_"
STORE_VARIABLE = "BACKTESTR_STORE"
"""Names the command line's store; it is no setting."""
_DEFAULT = "default"
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Settings:
    """What a store may use, and how it writes. Load them with `Settings.load`.

    A value is taken from the first of: a keyword; the environment variable ``BACKTESTR_<NAME>``; the table
    ``[tool.backtestr]`` of a ``pyproject.toml`` or the top level of a ``backtestr.toml``; the default. The file is
    looked for in the working directory and upwards, and the first folder that has one, or a ``.git``, is the last
    one looked at; ``backtestr.toml`` goes before ``pyproject.toml``. Sizes are bytes, or text such as ``64MiB``
    (binary) or ``64MB`` (decimal).

    Args:
        memory_limit: memory DuckDB may use, in bytes; by default half of what the process may use.
        threads: threads DuckDB may use; by default the processors the process may use.
        temp_dir: folder for DuckDB's spilled data; None for the store's own ``tmp``. Bars computed for a
            statement go there too, or to the system's folder for temporary files.
        materialized_timeframes: timeframes whose bars are stored, finest first; settled when a store is created.
        max_rejected: largest share of rows that may be rejected before a load aborts, from 0 to 1.
        sort_memory_bytes: rows held before they are sorted and spilled, in bytes.
        day_interval_bytes: Parquet bytes of a commit from which a day gets files of its own, in bytes.
        max_file_bytes: size at which a data file is cut, in bytes.
        zstd_level: compression level of data files, 1 to 22.
        flush_rows: appended rows that only the log holds from which they are written to files; an append waits for that
            where there are four times as many.
        flush_seconds: age at which appended rows are written to files, in seconds or as text such as ``5m``.
        verify: ``always`` checks the digests of files before they are read; ``never`` trusts them.
        retention: how long `Store.gc` keeps old versions, in seconds; also text such as ``7d``, or a timedelta.
        hot_cache_bytes: memory for ticks and bars that were read lately, in bytes, 0 for none; by default an eighth of
            what the process may use.
        hot_cache_ttl: how long they stay without being asked for, in seconds or as text such as ``1h``.
        read_ahead: ``on`` or ``off``: whether what the last requests foretell is read in the background.
        state_dir: folder for what is remembered of requests, each store's in a folder of its own; never part of a
            store, and may be deleted. By default the user's state folder; ``off`` remembers nothing.
        network_fs: ``refuse`` or ``allow`` stores on network file systems, whose locks and syncs cannot be trusted.
        origins: where each value came from.

    Example:
        >>> settings = Settings.load(zstd_level=5, max_file_bytes="32MiB")
        >>> settings.zstd_level, settings.max_file_bytes, settings.origins["zstd_level"]
        (5, 33554432, 'keyword')
    """

    memory_limit: int
    threads: int
    temp_dir: Path | None
    materialized_timeframes: tuple[str, ...]
    max_rejected: float
    sort_memory_bytes: int
    day_interval_bytes: int
    max_file_bytes: int
    zstd_level: int
    flush_rows: int
    flush_seconds: float
    verify: str
    retention: float
    hot_cache_bytes: int
    hot_cache_ttl: float
    read_ahead: str
    state_dir: Path | None
    network_fs: str
    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def load(
        cls,
        *,
        directory: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> Settings:
        """Settle every value.

        Args:
            directory: where the search for a file begins; None for the working directory.
            environment: variables to read; None for the process's.
            **overrides: settings by name; None leaves a setting to the next origin.

        Returns:
            The settings, each with its origin.

        Raises:
            ConfigError: a name is no setting, or a value is not taken; the message names the origin.

        Example:
            >>> Settings.load(environment={"BACKTESTR_THREADS": "2"}).origins["threads"]
            'BACKTESTR_THREADS'
        """
        variables = os.environ if environment is None else environment
        path, table = _find_file(Path.cwd() if directory is None else Path(directory))
        given = {name: _Given(value, "keyword") for name, value in overrides.items()}
        stated = {name: _Given(value, _ENVIRONMENT + name.upper()) for name, value in _from_environment(variables)}
        written = {name: _Given(value, str(path)) for name, value in table.items()}
        layers = [given, stated, written]
        for layer in layers:
            for name, (_, origin) in layer.items():
                if name not in _SETTINGS:
                    raise ConfigError(f"{origin}: no such setting as {name!r}; take from {', '.join(_SETTINGS)}")
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for name, (default, read) in _SETTINGS.items():
            found = (layer[name] for layer in layers if name in layer and layer[name].value is not None)
            raw, origins[name] = next(found, None) or _Given(default(), _DEFAULT)
            try:
                values[name] = read(raw)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{origins[name]}: {name} = {raw!r}: {error}") from error
        return cls(**values, origins=MappingProxyType(origins))

    def to_dict(self) -> dict[str, Any]:
        """The values by name, without their origins; paths as text.

        Example:
            >>> Settings.load(threads=3).to_dict()["threads"]
            3
        """
        out = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "origins"}
        return out | {
            "materialized_timeframes": list(self.materialized_timeframes),
            "temp_dir": None if self.temp_dir is None else str(self.temp_dir),
            "state_dir": None if self.state_dir is None else str(self.state_dir),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        values = [getattr(self, item.name) for item in fields(self) if item.name != "origins"]
        return type(self), (*values, dict(self.origins))


class _Given(NamedTuple):
    value: Any
    origin: str


def _from_environment(variables: Mapping[str, str]) -> list[tuple[str, str]]:
    return [
        (name.removeprefix(_ENVIRONMENT).lower(), value)
        for name, value in variables.items()
        if name.startswith(_ENVIRONMENT) and value and name != STORE_VARIABLE
    ]


def _find_file(directory: Path) -> tuple[Path | None, dict[str, Any]]:
    for folder in (directory.absolute(), *directory.absolute().parents):
        for name in _FILES:
            path = folder / name
            if not path.is_file():
                continue
            try:
                table = tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error
            for key in ("tool", "backtestr") if name == _FILES[1] else ():
                table = table.get(key, {})
                if not isinstance(table, dict):
                    raise ConfigError(f"{path}: {key} is {table!r}; write a table [tool.backtestr]")
            return path, table
        if (folder / ".git").exists():
            break
    return None, {}


def _size(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        count = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())) is not None:
        number, unit = match.group(1), (match.group(2) or "B").upper()
        base = 1024 if "I" in unit else 1000
        count = int(Fraction(number) * base ** _POWERS[unit[:-2] if "I" in unit else unit[:-1]])
    else:
        raise ValueError("write a number of bytes, or text such as 64MiB")
    if count < 1:
        raise ValueError("must be at least one byte")
    return count


def _size_or_none(value: object) -> int:
    return 0 if value in (0, "0") and not isinstance(value, bool) else _size(value)


def duration_s(value: object) -> float:
    """Seconds in a duration: a number of them, text such as ``90``, ``45m``, ``36h`` or ``7d``, or a timedelta.

    Raises:
        ValueError: it is none of these, or negative.

    Example:
        >>> duration_s("1.5d"), duration_s(60)
        (129600.0, 60.0)
    """
    if isinstance(value, dt.timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())) is not None:
        seconds = float(Fraction(match.group(1)) * _UNITS_S[match.group(2) or "s"])
    else:
        raise ValueError("write seconds, or text such as 7d, 36h, 45m or 30s")
    if not 0 <= seconds < math.inf:
        raise ValueError("must be 0 or more")
    return seconds


def _whole(least: int, most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, str) and value.strip().isdigit():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return value

    return read


def _share(value: object) -> float:
    try:
        share = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else -1.0
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError("write a share from 0 to 1")
    return share


def _choice(*choices: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in choices:
            raise ValueError(f"write one of {', '.join(choices)}")
        return str(value)

    return read


def _timeframes(value: object) -> tuple[str, ...]:
    words = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, (str, Timeframe)) for word in words):
        raise ValueError("write timeframes such as '1m 5m 1d'")
    try:
        parsed = {Timeframe.parse(word) for word in words}
    except TimeframeError as error:
        raise ValueError(str(error)) from error
    if not parsed:
        raise ValueError("at least one timeframe must be stored")
    return tuple(str(timeframe) for timeframe in sorted(parsed))


def _folder(value: object) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError("write a path")
    return Path(value).expanduser()


def _folder_or_off(value: object) -> Path | None:
    return None if value == "off" else _folder(value)


_SETTINGS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "memory_limit": (lambda: machine.memory_bytes() // 2, _size),
    "threads": (machine.processors, _whole(1, 1024)),
    "temp_dir": (lambda: None, _folder),
    "materialized_timeframes": (lambda: "1m 5m 15m 30m 1h 4h 1d", _timeframes),
    "max_rejected": (lambda: 0.10, _share),
    "sort_memory_bytes": (lambda: 512 * _MIB, _size),
    "day_interval_bytes": (lambda: 8 * _MIB, _size),
    "max_file_bytes": (lambda: 64 * _MIB, _size),
    "zstd_level": (lambda: 3, _whole(1, 22)),
    "flush_rows": (lambda: 1_000_000, _whole(1, 1_000_000_000)),
    "flush_seconds": (lambda: 60, duration_s),
    "verify": (lambda: "always", _choice("always", "never")),
    "retention": (lambda: "7d", duration_s),
    "hot_cache_bytes": (lambda: machine.memory_bytes() // 8, _size_or_none),
    "hot_cache_ttl": (lambda: "1h", duration_s),
    "read_ahead": (lambda: "on", _choice("on", "off")),
    "state_dir": (machine.state_home, _folder_or_off),
    "network_fs": (lambda: "refuse", _choice("refuse", "allow")),
}
