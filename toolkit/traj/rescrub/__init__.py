"""`traj scrub DATASET`: a dataset's texts scrubbed, and every figure that follows from them.

told    one trajectory's rows as the session that they tell of, and the rows of its clean twin
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from traj import schema
from traj.build.tokens import Counter, open_tokenizer
from traj.dataset import Dataset
from traj.dataset import write as writing
from traj.dataset.files import UNSPLIT, Chunk
from traj.dataset.fingerprint import by_split
from traj.errors import UsageError
from traj.rescrub.told import Fresh, Texts, Told
from traj.scrub import Detector, scrub_session
from traj.version import __version__


@dataclass(slots=True)
class ScrubReport:
    """What scrubbing a dataset did."""

    rules: str  # the version of all rules
    trajectories: int = 0
    changed: int = 0
    redactions: int = 0
    kinds: dict[str, int] = field(default_factory=dict)  # pieces of text by kind

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def scrub_dataset(path: Path, detector: Detector, tokenizer: str | None = None) -> ScrubReport:
    """Scrubs a dataset in place: the old files stand until the new ones are whole, and are gone
    then. `tokenizer` is for a dataset that was counted with a file.

    Raises ScrubError, and changes nothing, where something cannot be removed; UsageError where
    the dataset is split (its rows may be committed to) or its tokenizer is not at hand.
    """
    report = ScrubReport(detector.version)
    with writing.locked(path):
        dataset = Dataset.open(path)
        manifest = dataset.manifest
        if any(file.split != UNSPLIT for file in manifest.files):
            raise UsageError(
                f"{path}: is split, and what is private may be committed to: record and scrub it "
                "anew, then split it with the same key"
            )
        counter = Counter(open_tokenizer(tokenizer or manifest.tokenizer["name"]))
        if manifest.tokenizer["sha256"] != counter.tokenizer.sha256:
            raise UsageError(f"{path}: was counted with another tokenizer; give --tokenizer")
        texts = {
            row["prompt_id"]: row["content"]
            for row in dataset.table("prompts", ["prompt_id", "content"]).to_pylist()
        }
        fresh: Fresh = {}
        rows = _rows(dataset, texts, detector, counter, fresh, report)
        files = writing.write_shards(path, manifest.shards, UNSPLIT, rows)
        files.append(writing.write_prompts(path, UNSPLIT, fresh))
        scrubbed = replace(
            manifest,
            schema_version=schema.VERSION,
            tool_version=__version__,
            scrubbed=detector.version,
            files=writing.in_order(files),
        )
        writing.commit(path, replace(scrubbed, splits=by_split(Dataset(path, scrubbed))))
    report.kinds = dict(sorted(report.kinds.items()))
    return report


def _rows(
    dataset: Dataset,
    texts: Texts,
    detector: Detector,
    counter: Counter,
    fresh: Fresh,
    report: ScrubReport,
) -> Iterator[tuple[str, Mapping[str, Chunk]]]:
    for rows in dataset.trajectories():
        told = Told(rows, texts)
        result = scrub_session(told.session, detector)
        tables = told.again(result, counter, fresh)
        report.trajectories += 1
        report.changed += result.redactions > 0
        report.redactions += result.redactions
        for kind, count in result.replaced.items():
            report.kinds[kind] = report.kinds.get(kind, 0) + count
        yield rows.trajectory_id, tables
