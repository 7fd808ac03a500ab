"""The command line: ``backtestr``, and ``python -m backtestr``."""

from __future__ import annotations

from backtestr.cli.app import app, main

__all__ = ["app", "main"]
