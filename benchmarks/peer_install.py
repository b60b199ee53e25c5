"""Installs the peers, each in an environment of its own under `.venvs/`, at a pinned version."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MACHINES = {"x86_64": "x64", "AMD64": "x64", "aarch64": "arm64", "arm64": "arm64"}


class NotInstalledError(Exception):
    """A peer cannot be installed here; the message says why."""


@dataclass(frozen=True, slots=True)
class Package:
    """What to install: from PyPI, or from npm where `registry` says so."""

    name: str
    version: str
    registry: str = "pypi"
    python: tuple[int, int] = (3, 11)


def install(package: Package, cache: Path) -> Path:
    """The folder with the package's commands; installs only what is not there yet."""
    folder = cache / f"{package.name}-{package.version}"
    done = folder / ".installed"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if package.registry == "npm":
            _npm(package, folder)
        else:
            _pip(package, folder)
        done.touch()
    return folder / ("node_modules/.bin" if package.registry == "npm" else "bin")


def _pip(package: Package, folder: Path) -> None:
    python = next((path for path in _pythons() if _version(path) >= package.python), None)
    if python is None:
        raise NotInstalledError(f"needs Python {'.'.join(map(str, package.python))} or newer")
    if python == sys.executable:
        venv.create(folder, with_pip=True)
    else:
        _quietly([python, "-m", "venv", str(folder)])
    wanted = f"{package.name}=={package.version}"
    _quietly([str(folder / "bin" / "python"), "-m", "pip", "install", "-q", wanted])


def _npm(package: Package, folder: Path) -> None:
    if shutil.which("npm") is None:
        raise NotInstalledError("needs npm")
    wanted = [f"{package.name}@{package.version}"]
    if package.name == "ccusage":
        # Its binary is an optional package that npm leaves out without a word where it can.
        system = f"{platform.system().lower()}-{MACHINES.get(platform.machine(), 'x64')}"
        wanted.append(f"@ccusage/ccusage-{system}@{package.version}")
    _quietly(["npm", "install", "--silent", "--prefix", str(folder), *wanted])


def _pythons() -> Iterator[str]:
    """This Python first, then newer ones by name, then those pyenv keeps."""
    yield sys.executable
    for minor in (12, 13, 14):
        found = shutil.which(f"python3.{minor}")
        if found:
            yield found
    kept = Path.home() / ".pyenv" / "versions"
    yield from sorted(str(path) for path in kept.glob("3.1[2-9]*/bin/python"))


def _version(python: str) -> tuple[int, int]:
    code = "import sys; print(*sys.version_info[:2])"
    told = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    numbers = told.stdout.split()
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else (0, 0)


def _quietly(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise NotInstalledError(f"{' '.join(command[:4])} … failed: {' '.join(last)}")
