"""Value objects: ticks, bars, timeframes, rules and reports."""

from __future__ import annotations

from backtestr.models.bar import PRICE_BASES, Bar
from backtestr.models.cache import AheadStats, CacheReport, CacheStats
from backtestr.models.check import GcReport, Problem, RepairReport, VerifyReport
from backtestr.models.migration import MigrationReport, MigrationStatus, MigrationStep
from backtestr.models.plan import Analysis, Estimate, Measured, Plan, Scan
from backtestr.models.report import AppendReport, IngestReport, ReviseReport, StoreInfo, TableReport, VersionDiff
from backtestr.models.rules import BarSpec, ValidationRules
from backtestr.models.tick import Tick, TickType
from backtestr.models.timeframe import Timeframe

__all__ = [
    "PRICE_BASES",
    "AheadStats",
    "Analysis",
    "AppendReport",
    "Bar",
    "BarSpec",
    "CacheReport",
    "CacheStats",
    "Estimate",
    "GcReport",
    "IngestReport",
    "Measured",
    "MigrationReport",
    "MigrationStatus",
    "MigrationStep",
    "Plan",
    "Problem",
    "RepairReport",
    "ReviseReport",
    "Scan",
    "StoreInfo",
    "TableReport",
    "Tick",
    "TickType",
    "Timeframe",
    "ValidationRules",
    "VerifyReport",
    "VersionDiff",
]
