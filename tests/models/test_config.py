"""Settings, the machine, errors and versions."""

from __future__ import annotations

import datetime as dt
import inspect
import pickle
from pathlib import Path
from typing import Any

import pytest

import backtestr as bt
from backtestr import errors, machine
from backtestr.config import Settings
from backtestr.errors import ConfigError

GOOD: dict[str, tuple[Any, str, Any]] = {
    "memory_limit": (1024**3, "1.5GiB", 3 * 512 * 1024**2),
    "threads": (3, "2", 2),
    "temp_dir": ("spill", "other", Path("other")),
    "materialized_timeframes": (["1m"], "1d, 60s", ("1m", "1d")),
    "max_rejected": (0, "0.5", 0.5),
    "sort_memory_bytes": (1, "1kib", 1024),
    "day_interval_bytes": (1, "1 KB", 1000),
    "max_file_bytes": (1, "64MB", 64 * 10**6),
    "zstd_level": (1, "22", 22),
    "flush_rows": (1, "5", 5),
    "flush_seconds": (0.5, "5m", 300.0),
    "verify": ("always", "never", "never"),
    "retention": (dt.timedelta(days=1), "1.5d", 129_600.0),
    "hot_cache_bytes": (0, "64MiB", 64 * 2**20),
    "hot_cache_ttl": (0, "1h", 3600.0),
    "read_ahead": ("on", "off", "off"),
    "state_dir": ("/var/state", "off", None),
    "network_fs": ("refuse", "allow", "allow"),
}
BAD: dict[str, list[Any]] = {
    "memory_limit": [0, -1, "lots", True, 1.5, "1 XB"],
    "threads": [0, 1025, "two", True, 1.0],
    "temp_dir": [3],
    "materialized_timeframes": ["", "7m", 5, [1]],
    "max_rejected": [-0.1, 1.1, "nan", "all", True],
    "sort_memory_bytes": ["-1"],
    "day_interval_bytes": ["1e6"],
    "max_file_bytes": [""],
    "zstd_level": [0, 23],
    "flush_rows": [0, "all"],
    "flush_seconds": [-1, "soon"],
    "verify": ["Always", 1],
    "retention": [-1, "soon", "7w", True, float("nan"), float("inf"), dt.timedelta(-1)],
    "hot_cache_bytes": [-1, False, "all"],
    "hot_cache_ttl": [-1, "soon"],
    "read_ahead": [True, "always"],
    "network_fs": ["maybe"],
}


@pytest.mark.parametrize("name", GOOD)
def test_each_setting_comes_from_its_first_origin(name: str, tmp_path: Path) -> None:
    keyword, text, value = GOOD[name]
    file = tmp_path / "pyproject.toml"
    file.write_text(f"[tool.backtestr]\n{name} = '{text}'\n")
    variable = f"BACKTESTR_{name.upper()}"
    default = Settings.load(directory="/", environment={})
    from_file = Settings.load(directory=tmp_path, environment={})
    stated = Settings.load(directory=tmp_path, environment={variable: text})
    given = Settings.load(directory=tmp_path, environment={variable: text}, **{name: keyword})
    origins = [settings.origins[name] for settings in (default, from_file, stated, given)]
    assert origins == ["default", str(file), variable, "keyword"]
    assert getattr(from_file, name) == getattr(stated, name) == value
    assert set(GOOD) == set(default.to_dict())
    assert pickle.loads(pickle.dumps(given)) == given


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_names_its_origin(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^keyword: {name} = "):
        Settings.load(environment={}, **{name: value})
    if isinstance(value, str) and value:
        with pytest.raises(ConfigError, match=rf"^BACKTESTR_{name.upper()}: {name} = "):
            Settings.load(environment={f"BACKTESTR_{name.upper()}": value})


@pytest.mark.parametrize(
    "text",
    ["not toml", "[tool]\nbacktestr = 3", "tool = 3", "[tool.backtestr]\nthread = 3", "[tool.backtestr]\nthreads = 0"],
)
def test_a_bad_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"pyproject\.toml"):
        Settings.load(directory=tmp_path, environment={})


def test_the_search_ends_at_the_first_project(tmp_path: Path) -> None:
    (tmp_path / "backtestr.toml").write_text("threads = 7")
    inner = tmp_path / "project" / "notebooks"
    inner.mkdir(parents=True)
    assert Settings.load(directory=inner, environment={}).threads == 7
    (inner.parent / ".git").mkdir()
    assert Settings.load(directory=inner, environment={}).origins["threads"] == "default"
    (inner.parent / "backtestr.toml").write_text("threads = 5")
    (inner.parent / "pyproject.toml").write_text("[tool.backtestr]\nthreads = 6")
    assert Settings.load(directory=inner, environment={}).threads == 5


def test_unknown_names_are_refused_and_the_store_is_no_setting() -> None:
    with pytest.raises(ConfigError, match="keyword: no such setting as 'thread'"):
        Settings.load(environment={}, thread=1)
    with pytest.raises(ConfigError, match="BACKTESTR_THREAD: no such"):
        Settings.load(environment={"BACKTESTR_THREAD": "1"})
    assert Settings.load(environment={"BACKTESTR_STORE": "market"}).origins["threads"] == "default"


def test_containers_bound_memory_and_processors(tmp_path: Path) -> None:
    group = tmp_path / "a" / "b"
    group.mkdir(parents=True)
    membership = tmp_path / "cgroup"
    membership.write_text("0::/a/b\n")
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text(str(5 * 1024**2))
    (group / "cpu.max").write_text("50000 100000\n")
    assert machine.memory_bytes(tmp_path, membership) == 5 * 1024**2
    assert machine.processors(tmp_path, membership) == 1
    nowhere = tmp_path / "nowhere"
    assert machine.memory_bytes(nowhere, nowhere) > 5 * 1024**2


PARENTS = {
    "ArgumentError": ValueError,
    "ConfigError": ValueError,
    "SchemaError": TypeError,
    "InvalidTickError": ValueError,
    "TimeframeError": ValueError,
    "BarOverflowError": OverflowError,
    "MissingDependencyError": ImportError,
    "SymbolNotFoundError": KeyError,
    "StoreNotFoundError": FileNotFoundError,
    "StoreLockedError": BlockingIOError,
    "StoreReadOnlyError": PermissionError,
    "StoreIOError": OSError,
}


def test_every_error_is_in_one_tree_with_a_builtin_parent() -> None:
    classes = [one for _, one in inspect.getmembers(errors, inspect.isclass) if one.__module__ == errors.__name__]
    assert len(classes) > 25
    for one in classes:
        assert issubclass(one, errors.BacktestrError)
        assert pickle.loads(pickle.dumps(one("why"))).args == ("why",)
        assert str(one("why")) == "why"
    for name, parent in PARENTS.items():
        assert issubclass(getattr(errors, name), parent), name


def test_kernels_raise_these_classes(tmp_path: Path) -> None:
    with pytest.raises(errors.TimeframeError, match="7m"):
        bt.aggregate_bars(bt.tick_schema().empty_table(), ["7m"])
    with pytest.raises(errors.ArgumentError, match="last"):
        bt.aggregate_bars(bt.tick_schema().empty_table(), ["1m"], price="last")
    with pytest.raises(errors.StateError):
        bt.BarAggregator.from_bytes(b"junk")
    with pytest.raises(errors.StoreIOError, match="nowhere"):
        bt._native.sync_file(tmp_path / "nowhere")


def test_versions_name_every_package() -> None:
    found = bt.show_versions()
    assert found["backtestr"] == bt.__version__
    assert {"python", "system", "duckdb", "pyarrow", "numpy", "pandas", "polars"} <= set(found)
