"""Hypothesis profiles: HYPOTHESIS_PROFILE = fast (default), ci or deep."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import backtestr as bt
from backtestr.sources import OpenedSource, register
from backtestr.sources.arrow import open_arrow

for name, examples in {"fast": 50, "ci": 200, "deep": 5000}.items():
    settings.register_profile(name, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


def pytest_configure() -> None:
    """Remember nothing of what tests ask, but where they say so."""
    os.environ["BACKTESTR_STATE_DIR"] = "off"


@pytest.fixture(scope="session")
def vendor_data() -> Path:
    """The folder of real vendor files beside the repository; without it these tests are counted as not run."""
    folder = Path(__file__).parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no vendor files at {folder}")
    return folder


def _open_numbered(data: Any, /, **options: Any) -> OpenedSource:
    return dataclasses.replace(open_arrow(data, feed="numbered", **options), row_unique_sequence=True)


@pytest.fixture
def numbered_feed() -> Callable[..., bt.IngestReport]:
    """Ingest rows of a feed whose sequence numbers each row."""
    register("numbered", _open_numbered)
    return lambda store, rows, **options: store.ingest(rows, source="numbered", **options)
