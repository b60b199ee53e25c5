"""Fuzzes the parsers of session logs, guided by coverage and seeded by samples: not collected by
pytest, run by `make fuzz`.

    python tests/fuzz_sources.py codex 60 [FOLDER OF SEEDS...]

For so many seconds logs of one format are changed and read. Whatever is in them, they are taken,
refused, or raise SourceError; rows are built of what is taken. Anything else ends the run with the
input that did it, kept in the working directory, and so does an input that takes 10 s.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["traj.sources", "traj.build"]):
    from traj.build import build
    from traj.build.tokens import Counter, open_tokenizer
    from traj.errors import SourceError
    from traj.sources import SOURCES, find

ROOT = Path(__file__).resolve().parent.parent
SLOWEST_S = 10
LARGEST = 64 << 10


def seeds(name: str, folders: list[Path], into: Path) -> str:
    """Copies the logs of a format that lie in the folders; gives the suffix that they have."""
    suffixes = []
    for number, session in enumerate(find(folders, name).sessions):
        for part in session.parts:
            if part.path.stat().st_size <= LARGEST:
                (into / str(number)).write_bytes(part.path.read_bytes())
                suffixes.append("".join(part.path.suffixes[-1:]))
    if not suffixes:
        raise SystemExit(f"no small samples of {name}: give folders of seeds")
    return max(suffixes, key=suffixes.count)


def main() -> None:
    name, seconds, *more = sys.argv[1:]
    if name not in SOURCES:
        raise SystemExit(f"unknown format {name!r}: {', '.join(sorted(SOURCES))}")
    counter = Counter(open_tokenizer())
    with tempfile.TemporaryDirectory() as scratch:
        corpus, logs = Path(scratch, "corpus"), Path(scratch, "logs")
        corpus.mkdir()
        logs.mkdir()
        suffix = seeds(name, [ROOT / "sample_data", *map(Path, more)], corpus)
        log = logs / f"session{suffix}"

        def one(data: bytes) -> None:
            log.write_bytes(data)
            for session in find([log], name).sessions:
                try:
                    read = session.read()
                except SourceError:
                    continue
                build(read, counter, "fuzz")

        options = [f"-max_total_time={seconds}", f"-timeout={SLOWEST_S}", f"-max_len={LARGEST}"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
