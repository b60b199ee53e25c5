"""The small repository that the tasks are run in: generated, the same every time."""

from __future__ import annotations

from pathlib import Path

MODULES = 120
FUNCTIONS = 12  # in each module
TESTED = 24  # modules with tests
C_FUNCTIONS = 150
EDITED = "package/module_003.py"
NOTES = "notes.md"
FILES = MODULES + TESTED + 5  # and two __init__.py, the C file, the notes, .gitignore


def make(folder: Path) -> None:
    """Writes the repository into an empty folder."""
    for name in ("package", "tests", "native"):
        (folder / name).mkdir()
    (folder / ".gitignore").write_text("__pycache__/\n*.bak\n*.o\n", "utf-8")
    (folder / NOTES).write_text("A package to work on.\n", "utf-8")
    (folder / "native/table.c").write_text(_c(), "utf-8")
    for name in ("package", "tests"):
        (folder / name / "__init__.py").write_text("", "utf-8")
    for number in range(MODULES):
        path = folder / f"package/module_{number:03}.py"
        path.write_text(_module(number), "utf-8")
    for number in range(0, MODULES, MODULES // TESTED):
        path = folder / f"tests/test_module_{number:03}.py"
        path.write_text(_test(number), "utf-8")


def _module(number: int) -> str:
    functions = "".join(
        f'''

def scale_{number}_{factor}(values):
    """Scale what is under the limit by {factor} and shift it by {number}."""
    found = []
    for value in values:
        if value < LIMIT:
            found.append(value * {factor} + {number})
    return found
'''
        for factor in range(FUNCTIONS)
    )
    about = f"Part {number} of a package that was made to be worked on."
    return f'"""{about}"""\n\nLIMIT = 1000\n{functions}'


def _test(number: int) -> str:
    methods = "".join(
        f"""
    def test_scale_{factor}(self):
        found = module.scale_{number}_{factor}(range(100))
        self.assertEqual(found, [value * {factor} + {number} for value in range(100)])
"""
        for factor in range(FUNCTIONS)
    )
    return (
        f"import unittest\n\nfrom package import module_{number:03} as module\n\n\n"
        f"class Module(unittest.TestCase):{methods}"
    )


def _c() -> str:
    return "".join(
        f"""
int table_{number}(const int *values, int count) {{
    int sum = {number};
    for (int i = 0; i < count; i++)
        if (values[i] % {number + 2} != 0) sum += values[i] * (i + {number});
    return sum;
}}
"""
        for number in range(C_FUNCTIONS)
    )
