"""Runs the command line: ``python -m backtestr``."""

from __future__ import annotations

from backtestr.cli import main

if __name__ == "__main__":
    main()
