"""The code of README and docs runs as it stands there."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest

from backtestr.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for language, code in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(code, page.name, "exec"), names)  # noqa: S102 - the project's own pages
        elif language == "pycon":
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
            runner.run(doctest.DocTestParser().get_doctest(code, names, page.name, str(page), 0), clear_globs=False)
            assert runner.summarize(verbose=False).failed == 0, capsys.readouterr().out
        elif language == "console":
            for line in code.splitlines():
                with pytest.raises(SystemExit) as left:
                    main(shlex.split(line.removeprefix("$ backtestr ")))
                assert left.value.code == 0, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_every_target_is_in_the_help() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))
    described = set(re.findall(r"^([a-z-]+):.*## .+", text, re.MULTILINE))
    assert targets, "no target found to judge"
    assert targets == described
