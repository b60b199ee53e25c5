"""Builds the corpus that the benchmarks read: real sessions replicated, or generated ones.

    python -m benchmarks.corpus OUT --megabytes 100

Takes the Claude Code and Codex files of a corpus folder (`../shared/corpus`) and copies them as
often as the size demands, every copy with fresh ids (see `rewrite.py`), in the layout of the
original, so that the files of sub-agents stay beside their parents. Where that folder is
absent, sessions are generated from a seed instead (see `synthetic.py`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.rewrite import FreshIds
from benchmarks.synthetic import claude_session
from benchmarks.synthetic_codex import codex_session

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_CORPUS = ROOT.parent / "shared" / "corpus"
FORMATS = ("claude_code", "codex_rollout")
MEGABYTE = 1_000_000
_GENERATED_UNIT = 8 * MEGABYTE


@dataclass(frozen=True, slots=True)
class Corpus:
    """A corpus on disk: `kind` is `real` or `generated`."""

    folder: str
    kind: str
    replicas: int
    files: int
    bytes: int
    largest_line_bytes: int


def originals(corpus: Path) -> list[Path]:
    """The session files to copy, sorted; empty where the folder is absent."""
    folders = [corpus / name for name in FORMATS]
    return sorted(path for folder in folders for path in folder.rglob("*.jsonl"))


def build(out: Path, megabytes: float, corpus: Path = DEFAULT_CORPUS) -> Corpus:
    """Fills `out` with at least so many megabytes; 0 gives the unreplicated files."""
    found = originals(corpus)
    replicas = _replicate(out, found, corpus, megabytes) if found else _generate(out, megabytes)
    return describe(out, "real" if found else "generated", replicas)


def describe(out: Path, kind: str, replicas: int) -> Corpus:
    files = session_files(out)
    longest = max((len(line) for path in files for line in _lines(path)), default=0)
    size = sum(path.stat().st_size for path in files)
    return Corpus(str(out), kind, replicas, len(files), size, longest)


def session_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jsonl"))


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as lines:
        yield from lines


def _replicate(out: Path, found: list[Path], corpus: Path, megabytes: float) -> int:
    written = replica = 0
    while replica == 0 or written < megabytes * MEGABYTE:
        # The first replica keeps its ids: alone, it is the unreplicated corpus.
        fresh = FreshIds(replica) if replica else None
        for path in found:
            relative = str(path.relative_to(corpus))
            name = fresh.name(relative) if fresh else relative
            content = path.read_bytes()
            target = out / f"replica-{replica:04d}" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            written += target.write_bytes(fresh.text(content) if fresh else content)
        replica += 1
    return replica


def _generate(out: Path, megabytes: float) -> int:
    written = replica = 0
    unit = min(_GENERATED_UNIT, max(megabytes, 1) * MEGABYTE)
    while replica == 0 or written < megabytes * MEGABYTE:
        folder = out / f"replica-{replica:04d}"
        for number in range(1_000):
            _generate_one(folder, replica * 1_000 + number)
            done = sum(path.stat().st_size for path in session_files(folder))
            if done >= unit:
                break
        written += done
        replica += 1
    return replica


def _generate_one(folder: Path, seed: int) -> None:
    """Sessions of several lengths, one in four with sub-agents, one in five from Codex."""
    turns = (4, 12, 3, 40, 8)[seed % 5]
    if seed % 5 == 4:
        codex_session(folder / "codex_rollout" / "sessions", seed, turns)
    else:
        project = folder / "claude_code" / "projects" / "-home-dev-project"
        claude_session(project, seed, turns, subagents=3 if seed % 4 == 0 else 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, help="folder to fill (made if absent)")
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--corpus", type=Path, default=DEFAULT_CORPUS)
    options = parser.parse_args()
    if session_files(options.out):
        parser.error(f"{options.out} already holds sessions: give an empty folder")
    print(json.dumps(asdict(build(options.out, options.megabytes, options.corpus)), indent=2))


if __name__ == "__main__":
    main()
