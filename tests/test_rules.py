"""The house's rules, read from its own files."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import backtestr
from backtestr import _native

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "python" / "backtestr"
BASE = {"models", "schema", "config", "errors", "instants", "machine"}
MAY_IMPORT = {
    "cli": {"store", "query", "persist", "results", "config", "errors", "instants", "models"},
    "store": {"upkeep", "ingest", "persist", *BASE},
    "upkeep": {"overview", "ingest", "persist", "storage", *BASE},
    "overview": {"streaming", "query", "persist", *BASE},
    "streaming": {"memory", "query", *BASE},
    "memory": {"reader", "query", "storage", *BASE},
    "reader": {"ingest", "query", "persist", "storage", *BASE},
    "ingest": {"sources", "storage", *BASE},
    "query": {"storage", *BASE},
    "persist": {"storage", *BASE},
    "results": {"storage", *BASE},
    "sources": BASE,
    "storage": BASE,
    "versions": set(),
    **dict.fromkeys(BASE, BASE),
}


def modules() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 40, f"found only {len(found)} modules under {PACKAGE}"
    return found


def imports(path: Path) -> set[str]:
    """Rooms of the package that a module imports, examples in docstrings aside."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "backtestr":
            parts = node.module.split(".")[1:2]
            rooms |= set(parts) or {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("backtestr.")}
    return rooms - {"_native"}


def test_imports_point_down() -> None:
    judged = 0
    for path in modules():
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room in {"__init__", "__main__"}:
            continue
        assert room in MAY_IMPORT, f"{path}: a room that no rule knows"
        judged += 1
        wrong = imports(path) - MAY_IMPORT[room] - {room}
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"
    assert judged > 40


def test_files_are_short() -> None:
    sources = [*modules(), *(ROOT / "rust").rglob("*.rs")]
    assert len(sources) > 80
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in sources}
    assert not {path: lines for path, lines in lengths.items() if lines > 450}


def test_the_library_never_prints() -> None:
    for path in modules():
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        printed = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert not printed, f"{path}: print in line {printed}"


def test_crates_do_not_panic_outside_tests() -> None:
    sources = sorted((ROOT / "rust").glob("*/src/**/*.rs"))
    assert len(sources) > 40
    for path in sources:
        if path.stem.endswith("tests"):
            continue
        code = path.read_text(encoding="utf-8").split("#[cfg(test)]")[0]
        code = "\n".join(line for line in code.splitlines() if not line.lstrip().startswith("//"))
        found = re.findall(r"\.unwrap\(\)|\.expect\(|\b(?:panic|todo|unimplemented)!", code)
        assert not found, f"{path}: {found}"


@pytest.mark.parametrize("name", [name for name in backtestr.__all__ if name not in {"__version__", "REASONS"}])
def test_public_names_have_a_runnable_example(name: str) -> None:
    stub = (PACKAGE / "_native.pyi").read_text(encoding="utf-8")
    stubbed = [node for node in ast.parse(stub).body if getattr(node, "name", None) == name]
    public = getattr(backtestr, name)
    documented = ast.get_docstring(stubbed[0]) if stubbed else inspect.getsource(public)
    assert inspect.getdoc(public), f"backtestr.{name} has no docstring"
    assert ">>>" in (documented or ""), f"backtestr.{name} has no example"


def test_examples_of_the_stub_run() -> None:
    nodes = [
        node for node in ast.parse((PACKAGE / "_native.pyi").read_text(encoding="utf-8")).body if hasattr(node, "name")
    ]
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner()
    for node in nodes:
        text = ast.get_docstring(node) if isinstance(node, (ast.ClassDef, ast.FunctionDef)) else None
        runner.run(parser.get_doctest(text or "", dict(vars(_native)), node.name, "_native.pyi", node.lineno))
    assert runner.tries > 5
    assert runner.failures == 0


def test_importing_stays_light() -> None:
    code = "import sys, backtestr; print(sorted({'duckdb', 'pandas', 'polars', 'typer'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_stubs_match_the_extension(tmp_path: Path) -> None:
    # PyO3 writes __all__ into every module; the stub of a private one needs none.
    allowed = tmp_path / "allowed"
    allowed.write_text("backtestr._native.__all__\n")
    options = ["--concise", "--mypy-config-file", "pyproject.toml", "--allowlist", str(allowed)]
    command = [sys.executable, "-m", "mypy.stubtest", "backtestr._native", *options]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
