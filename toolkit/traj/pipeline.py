"""Sessions to dataset, on one screen: find, read, build, merge, commit.

find the sessions      traj.sources        what lies in the given places
leave what is known    traj.dataset.held   same bytes as last time, or a shorter copy
read, scrub and build  traj.workers        a session at a time, here or in worker processes
merge into shards      traj.dataset.write  in the order of ids, old rows beside new
settle copies          _Merge._claim       a turn that two sessions hold is counted in one
commit                 traj.dataset.write  one rename
"""

from __future__ import annotations

import gc
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from traj import schema
from traj.build import AnswerKey, Built
from traj.build.tokens import DEFAULT
from traj.build.trajectory import trajectory_id
from traj.dataset import MANIFEST, Dataset, Manifest
from traj.dataset import write as writing
from traj.dataset.fingerprint import by_split
from traj.dataset.held import Held
from traj.errors import SourceError, UsageError
from traj.sources import Found, SessionFiles, find
from traj.version import __version__
from traj.workers import How, Means, build_one, run

Rank = tuple[int, int, str]  # held before (0) or new (1), end of the session, trajectory
Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(slots=True)
class Report:
    """What a recording did; `problems` are files and sessions that could not be taken."""

    recorded: int = 0
    unchanged: int = 0
    kept_longer: int = 0  # sessions of which the dataset already holds more
    joined: int = 0  # live sessions with the agent's own log
    disagreements: int = 0  # requests of these of which the log and the wire say different things
    turns: int = 0
    messages: int = 0
    tool_calls: int = 0
    source_bytes: int = 0
    dataset_bytes: int = 0
    scrubbed: str | bool = False  # the version of the rules, or false
    losses: dict[str, int] = field(default_factory=dict)
    passed_over: list[tuple[str, str]] = field(default_factory=list)  # in folders: path, reason
    problems: list[tuple[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def record(
    places: Sequence[Path],
    out: Path,
    *,
    source_format: str | None = None,
    tokenizer: str = DEFAULT,
    join: bool = True,
    scrub: bool = False,
    rules: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Records the sessions in `places` into the dataset `out`, adding what is new or grew.

    With `join` a live recording and the agent's own log of it are one trajectory.
    With `scrub` secrets and personal data are replaced before anything is written, by the
    package's rules and a team's own (`rules`, see traj.scrub). Raises UsageError where there is no
    session, or the dataset was counted with another tokenizer or scrubbed by other rules;
    ScrubError where a secret cannot be removed; TrajError where the dataset cannot be written. A
    session that cannot be read is left out and listed in the report.
    """
    if rules is not None and not scrub:
        raise UsageError(f"{rules}: rules are for scrubbing: leave --no-scrub out")
    means = Means.of(How(__version__, tokenizer, scrub, rules))
    with _without_gc():
        found = find(places, source_format, join=join)
        return _record(found, places, out, means, jobs, progress, join=join)


def _record(
    found: Found,
    places: Sequence[Path],
    out: Path,
    means: Means,
    jobs: int,
    progress: Progress | None,
    *,
    join: bool,
) -> Report:
    report = Report(scrubbed=means.scrubbed)
    named = {path for path in places if not path.is_dir()}
    for path, reason in found.refused:
        (report.problems if path in named else report.passed_over).append((str(path), reason))
    if not found.sessions:
        first = report.problems[0] if report.problems else (str(places[0]), "no sessions in it")
        raise UsageError(f"{first[0]}: {first[1]}")
    with writing.locked(out):
        old = _old(out, means)
        sessions = {trajectory_id(s.format, s.session_id): s for s in found.sessions}
        held = Held(Dataset(out, old))
        todo = held.changed(dict(sorted(sessions.items())), join=join)
        report.unchanged, report.kept_longer = held.unchanged, held.kept_longer
        logs = (log for session in found.sessions for log in session.logs)
        joined = held.ids & {trajectory_id(log.format, log.session_id) for log in logs}
        if todo or joined or not (out / MANIFEST).exists():
            ids = {*held.ids, *todo} - joined
            shards = writing.shards_for(len(ids))
            merge = _Merge(out, shards, means, jobs, progress, joined)
            manifest = merge.run(old, todo)
            merge.describe(report, todo)
            splits = by_split(Dataset(out, manifest))
            writing.commit(out, replace(manifest, splits=splits))
        else:
            writing.sweep(out, old)
    report.dataset_bytes = sum(file.bytes for file in Dataset.open(out).manifest.files)
    return report


@contextmanager
def _without_gc() -> Iterator[None]:
    """Rows are made by the hundred thousand and hold no cycles: looking for some costs a tenth of
    the time, and more the longer a session is."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _old(out: Path, means: Means) -> Manifest:
    counter = means.counter
    tokenizer = {"name": counter.tokenizer.name, "sha256": counter.tokenizer.sha256}
    if not (out / MANIFEST).exists():
        return Manifest(schema.VERSION, __version__, tokenizer, (), scrubbed=means.scrubbed)
    manifest = Dataset.open(out).manifest
    if manifest.tokenizer != tokenizer:
        raise UsageError(
            f"{out}: was counted with {manifest.tokenizer['name']}: give --tokenizer "
            f"{manifest.tokenizer['name']}, or another folder"
        )
    if manifest.scrubbed != means.scrubbed:
        was, new = (
            f"scrubbed by {rules}" if rules else "not scrubbed"
            for rules in (manifest.scrubbed, means.scrubbed)
        )
        raise UsageError(
            f"{out}: was {was}, what is new would be {new}: give another folder"
            + ("" if manifest.scrubbed else ", or traj scrub it first")
        )
    return replace(manifest, tool_version=__version__)


class _Merge:
    """Reads, builds and merges sessions, twice where some of them copy others."""

    def __init__(
        self,
        out: Path,
        shards: int,
        means: Means,
        jobs: int,
        progress: Progress | None,
        joined: frozenset[str],
    ) -> None:
        self.out, self.shards, self.means, self.jobs = out, shards, means, jobs
        self.progress = progress
        self.joined = joined  # trajectories of logs that are part of others now
        self.owners: dict[AnswerKey, Rank] = {}
        self.copies: dict[str, set[AnswerKey]] = {}  # trajectory: answers that are not its own
        self.done: dict[str, tuple[dict[str, int], dict[str, int], int, int]] = {}
        self.problems: dict[str, str] = {}  # trajectory: why it could not be read

    def run(self, old: Manifest, todo: dict[str, SessionFiles]) -> Manifest:
        """The merged dataset's manifest, not committed yet."""
        for trajectory, answer in self._answers(old):
            if trajectory not in todo and trajectory not in self.joined:
                self.owners[answer] = (0, 0, trajectory)
        manifest = self._pass(old, todo, {})
        while self.copies:
            copies, self.copies = self.copies, {}
            manifest = self._pass(manifest, {name: todo[name] for name in sorted(copies)}, copies)
        return manifest

    def describe(self, report: Report, sessions: dict[str, SessionFiles]) -> None:
        """Adds what was recorded to the report."""
        losses: Tally[str] = Tally()
        for name, (rows, lost, size, differing) in self.done.items():
            report.recorded += 1
            report.joined += bool(sessions[name].logs)
            report.disagreements += differing
            report.turns += rows["turns"]
            report.messages += rows["messages"]
            report.tool_calls += rows["tool_calls"]
            report.source_bytes += size
            losses.update(lost)
        report.losses = dict(sorted(losses.items()))
        for name, problem in self.problems.items():
            report.problems.append((str(sessions[name].parts[0].path), problem))

    def _answers(self, old: Manifest) -> Iterator[tuple[str, AnswerKey]]:
        dataset = Dataset(self.out, old)
        heads = dataset.table("trajectories", ["trajectory_id", "started_at"])
        ids, moments = heads.column(0).to_pylist(), heads.column(1).cast("int64").to_pylist()
        started: dict[str, int | None] = dict(zip(ids, moments, strict=True))
        turns = dataset.table("turns", ["trajectory_id", "response_id", "end_us"])
        for batch in turns.to_batches():
            for name, response, end in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                base = started.get(name)
                if response is not None:
                    yield name, (response, None if end is None or base is None else base + end)

    def _pass(
        self, old: Manifest, todo: dict[str, SessionFiles], copies: dict[str, set[AnswerKey]]
    ) -> Manifest:
        return writing.update(
            self.out, old, self.shards, self._built(todo, copies), {*todo, *self.joined}
        )

    def _built(
        self, todo: dict[str, SessionFiles], copies: dict[str, set[AnswerKey]]
    ) -> Iterator[Built]:
        sizes = {name: session.bytes for name, session in todo.items()}
        whole, seen = sum(sizes.values()), 0
        tasks = ((session, frozenset(copies.get(name, ()))) for name, session in todo.items())
        for name, built in zip(todo, run(tasks, self.means, self.jobs), strict=True):
            seen += sizes[name]
            if self.progress:
                self.progress(seen, whole)
            mine = built
            if isinstance(mine, Built) and (foreign := self._foreign(mine)):
                # Its session copies one that is merged already: built again without those turns.
                known = frozenset(copies.get(name, ())) | foreign
                mine = build_one((todo[name], known), self.means)
            if isinstance(mine, SourceError):
                self.problems[name] = str(mine)
                continue
            rows = {table: len(columns) for table, columns in mine.tables.items()}
            self.done[name] = (rows, mine.losses, sizes[name], mine.disagreements)
            self._claim(mine)
            yield mine

    def _foreign(self, built: Built) -> frozenset[AnswerKey]:
        """The turns of a session that belong to others: to what the dataset held before, else to
        the session that ended first."""
        rank = _rank(built)
        return frozenset(answer for answer in built.answers if self.owners.get(answer, rank) < rank)

    def _claim(self, built: Built) -> None:
        """Writes down whose these turns are; sessions that held them wrongly come up again."""
        rank = _rank(built)
        for answer in built.answers:
            owner = self.owners.get(answer, rank)
            self.owners[answer] = rank
            if owner[2] != rank[2]:
                self.copies.setdefault(owner[2], set()).add(answer)


def _rank(built: Built) -> Rank:
    return 1, built.end_us, built.trajectory_id
