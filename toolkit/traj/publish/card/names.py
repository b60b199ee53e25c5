"""What a published dataset is called, and where its files lie in the repository."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

DEFAULT = "turns"  # the config that is loaded where none is named
TRACES = "traces"
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
VERSION = re.compile(r"\w[\w.+-]*", re.ASCII)
SPLIT = re.compile(r"\w+(\.\w+)*")  # what `datasets` takes for a split's name

Files = Mapping[str, Mapping[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Names:
    """Names of one publication. `files` are repository paths with forward slashes, by config (a
    table's name, or `traces`) and split; a config without files is not published."""

    repo_id: str
    private_repo_id: str | None
    version: str  # also the tag
    traces: bool
    files: Files

    @property
    def name(self) -> str:
        """The repository's name, without its owner."""
        return self.repo_id.rpartition("/")[2]

    @property
    def root(self) -> str:
        """Where fsspec, DuckDB and polars find this version."""
        return f"hf://datasets/{self.repo_id}@{self.version}"

    def patterns(self, config: str, split: str) -> list[str]:
        """The files of a config's split: one glob where it names them and no others, so that the
        next version has the same; else all paths, sorted."""
        paths = sorted(self.files[config][split])
        others = {
            path
            for name, splits in self.files.items()
            for part, found in splits.items()
            if (name, part) != (config, split)
            for path in found
        }
        first = PurePosixPath(paths[0]) if paths else PurePosixPath()
        for glob in (f"{split}-*{first.suffix}", f"*{first.suffix}"):
            pattern = (first.parent / glob).as_posix()
            named = {path for path in (*paths, *others) if _matches(path, pattern)}
            if paths and named == set(paths):
                return [pattern]
        return paths


def _matches(path: str, pattern: str) -> bool:
    # A star of the Hub's does not cross a slash, one of fnmatch's does.
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)
