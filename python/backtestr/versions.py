"""Versions of this installation, for reports of errors."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

from backtestr._native import BUILD_PROFILE, __version__

_PACKAGES = ("duckdb", "pyarrow", "numpy", "zstandard", "typer", "pandas", "polars", "databento-dbn")


def show_versions() -> dict[str, str]:
    """Versions of backtestr, Python, the system, and the packages it stands on.

    Returns:
        Version by name; ``not installed`` for an optional package that is missing.

    Example:
        >>> import backtestr
        >>> backtestr.show_versions()["backtestr"].startswith(backtestr.__version__)
        True
    """
    build = "" if BUILD_PROFILE == "release" else f" ({BUILD_PROFILE} build)"
    found = {
        "backtestr": __version__ + build,
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
