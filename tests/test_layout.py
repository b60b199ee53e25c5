"""The tree: modules stay small, say what they are for, and name things plainly."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from conftest import ROOT
from traj.exporters import TARGETS, describe
from traj.report.exports import targets_markdown
from traj.report.sources import page
from traj.sources import SOURCES
from traj.sources import describe as described

MODULES = sorted((ROOT / "toolkit" / "traj").rglob("*.py"))
LONGEST = 300
LONGER = {  # lines, each with its reason in AGENTS.md
    "sources/claude_code/lane.py": 340,
}
FORBIDDEN = {"utils", "common", "helpers", "manager", "factory", "misc"}


def name(path: Path) -> str:
    return path.relative_to(ROOT / "toolkit" / "traj").as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_are_short_and_open_with_what_they_are_for(path):
    """A docstring first, and at most 300 lines unless AGENTS.md says why."""
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= LONGER.get(name(path), LONGEST)
    assert not FORBIDDEN & set(path.with_suffix("").parts)


def test_longer_modules_are_explained():
    """Each exception to the length rule stands in AGENTS.md."""
    manners = (ROOT / "AGENTS.md").read_text()
    assert all(module in manners for module in LONGER)


@pytest.mark.parametrize("dotted", [*SOURCES.values(), *TARGETS.values()])
def test_every_registered_module_is_there(dotted):
    """A registry entry leads to a module or package of that name."""
    path = ROOT / "toolkit" / Path(*dotted.split("."))
    assert path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_the_page_of_targets_is_what_the_code_says():
    """docs/targets.md is made from the targets' own words (`make docs`)."""
    assert (ROOT / "docs" / "targets.md").read_text() == targets_markdown(describe())


def test_the_page_of_sources_is_what_the_code_says():
    """docs/sources.md is made from the sources' own words (`make docs`)."""
    assert (ROOT / "docs" / "sources.md").read_text() == page(described())


def test_every_source_is_held_apart_from_the_others():
    """The import contract between sources names all of them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    apart = next(one for one in contracts["contracts"] if "Sources" in one["name"])
    assert set(apart["modules"]) == set(SOURCES.values())


def test_every_target_is_held_apart_from_the_others():
    """The import contract between exporters names all of them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    apart = next(one for one in contracts["contracts"] if "Exporters" in one["name"])
    assert set(apart["modules"]) == set(TARGETS.values())


def test_no_machine_is_named():
    """Tracked text holds no path of a machine and no registry's host."""
    for path in [
        *MODULES,
        *ROOT.glob("*.md"),
        *(ROOT / "schema").rglob("*"),
        *(ROOT / "docs").rglob("*"),
    ]:
        if path.is_file():
            text = path.read_text()
            assert "/root/" not in text, path
            assert "/work/" not in text, path
