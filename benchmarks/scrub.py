"""Measures scrubbing: megabytes a second, planted secrets found, and what start-up costs.

    python -m benchmarks.scrub --json benchmarks/results/scrub.json

Speed is of the texts of real sessions as a dataset would store them, each session by itself, in one
process with one thread, everything included that `traj record` would do: learning, cleaning,
scanning again. Equal texts are scanned once, as there; each round begins with nothing
remembered. The floor is kingfisher alone, once over the same texts, in turn. Findings are of
secrets made up for the run (see tests/plants.py).
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import corpus, measure
from benchmarks.results import scrub_tables

ROUNDS = 5
SEEDS = 20


def speed(megabytes: float, originals: Path) -> dict[str, Any]:
    """Megabytes of text a second, over sessions of a corpus."""
    from traj.scrub import Detector, Engines, load_rules, scrub_session
    from traj.scrub.session import texts
    from traj.sources import find

    rules = load_rules()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KF_RULE_CACHE_DIR"] = folder  # mode 700, empty: rules are compiled once
        begun = time.perf_counter()
        engines = Engines(rules.helpers)
        compiled_s = time.perf_counter() - begun
        begun = time.perf_counter()
        Engines(rules.helpers)
        loaded_s = time.perf_counter() - begun
        built = corpus.build(Path(folder, "corpus"), megabytes, originals)
        sessions = [files.read() for files in find([Path(built.folder)], None).sessions]
    distinct = {text for session in sessions for text in texts(session)}
    size = sum(len(text.encode()) for text in distinct)
    whole = sum(len(text.encode()) for session in sessions for text in texts(session))
    rounds, floors = [], []
    scan = engines.scanner.scan
    encoded = [text.encode() for text in distinct]
    redactions: Counter[str] = Counter()
    for number in range(ROUNDS + 1):  # the first warms the engines up
        detector = Detector(rules, engines)
        begun = time.perf_counter()
        replaced = [scrub_session(session, detector).replaced for session in sessions]
        rounds.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        for data in encoded:
            scan(data)
        floors.append(time.perf_counter() - begun)
        if number == 0:
            for one in replaced:
                redactions.update(one)
    wall_s = median(rounds[1:])
    return {
        "kind": built.kind,
        "sessions": len(sessions),
        "texts": len(distinct),
        "distinct_bytes": size,
        "bytes": whole,
        "wall_s": wall_s,
        "source_bytes": built.bytes,
        "megabytes_per_s": whole / wall_s / 1e6,
        "distinct_megabytes_per_s": size / wall_s / 1e6,
        "source_megabytes_per_s": built.bytes / wall_s / 1e6,
        "rounds_s": rounds[1:],
        "floor_s": floors[1:],
        "floor_ratio": median(a / b for a, b in zip(rounds[1:], floors[1:], strict=True)),
        "start_s": compiled_s,
        "start_from_cache_s": loaded_s,
        "redactions": dict(redactions.most_common()),
    }


def recall() -> dict[str, Any]:
    """How many planted secrets are gone, by kind and context."""
    sys.path.insert(0, str(corpus.ROOT / "tests"))
    from plants import CONTEXTS, planted, plants
    from traj.scrub import Redaction, open_detector

    detector = open_detector()
    gone: dict[str, Counter[str]] = {}
    for seed in range(SEEDS):
        rng = random.Random(seed)
        for plant in plants(rng):
            for case in planted(rng, plant):
                redaction = Redaction(detector, "benchmark")
                redaction.learn(case.text)
                clean = redaction.clean(case.text, "text")
                gone.setdefault(plant.kind, Counter())[case.context] += not case.left(clean)
    return {
        "planted": SEEDS,
        "contexts": CONTEXTS,
        "gone": {kind: {c: counts[c] for c in CONTEXTS} for kind, counts in gone.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--corpus", type=Path, default=corpus.DEFAULT_CORPUS)
    parser.add_argument("--megabytes", type=float, default=30, help="of session files")
    options = parser.parse_args()
    result = {
        "benchmark": "scrub",
        **measure.machine(),
        "speed": speed(options.megabytes, options.corpus),
        "recall": recall(),
    }
    if options.json:
        measure.write_json(options.json, result)
    print(scrub_tables(result))


if __name__ == "__main__":
    main()
