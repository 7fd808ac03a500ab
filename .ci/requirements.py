"""Prints what development needs, as pyproject.toml pins it, for a pip that knows no dependency groups."""

import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
extras = project["project"]["optional-dependencies"]
own = [line for name, lines in extras.items() if name != "all" for line in lines]
print("\n".join([*project["dependency-groups"]["dev"], *project["project"]["dependencies"], *own]))
