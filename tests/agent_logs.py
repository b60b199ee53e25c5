"""What tests of sources ask of a log: its sessions read, their turns, and that damage to it does
no harm."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import traj
from traj import events
from traj.build import build
from traj.build.tokens import Counter, open_tokenizer
from traj.errors import SourceError
from traj.pipeline import record
from traj.sources import find

FIGURES = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


def read(*places: Path, only: str | None = None) -> dict[str, events.Session]:
    """The sessions in some places, by id."""
    return {one.session_id: one.read() for one in find(places, only).sessions}


def turns(session: events.Session, kind: str | None = None) -> list[events.Turn]:
    """Its turns, or those of the lanes of one kind."""
    lanes = [lane for lane in session.lanes if kind in (None, lane.kind)]
    return [step for lane in lanes for step in lane.steps if isinstance(step, events.Turn)]


def figures(usage: events.Usage) -> tuple[int | None, ...]:
    return tuple(getattr(usage, name) for name in FIGURES)


def sent(session: events.Session, lane: int = 0) -> list[list[events.Message]]:
    """The messages of each request of a lane, by following its steps."""
    found: list[list[events.Message]] = []
    every: list[events.Message] = []
    context: list[events.Message] = []
    for step in session.lanes[lane].steps:
        if isinstance(step, events.Rebase):
            context = [m for _, start, stop in step.ranges for m in every[start:stop]]
            continue
        if isinstance(step, events.Turn):
            found.append(list(context))
        message = step.answer if isinstance(step, events.Turn) else step
        if message is not None:
            every.append(message)
            context.append(message)
    return found


def sound(folder: Path, *places: Path, only: str | None = None) -> tuple[list[dict], dict]:
    """Trajectories and losses of some places, recorded and found without errors."""
    report = record(list(places), folder / "x.traj", source_format=only)
    assert not report.problems
    dataset = traj.load(folder / "x.traj")
    checked = traj.validate(dataset)
    assert checked.ok, checked.findings
    return dataset.table("trajectories").to_pylist(), report.losses


# What a field of another type looks like.
VALUES = (
    b"null",
    b"-1",
    b'"x"',
    b"[]",
    b"{}",
    b"1e400",
    b"true",
    b"[[1]]",
    b'"\\ud800"',
    b"9" * 30,
)


def survives(path: Path, only: str) -> None:
    """Whatever is cut off from a log and written over in it, it is read and can be built, or is
    refused in one line."""
    whole = path.read_bytes()
    colons = [at for at in range(len(whole)) if whole[at : at + 1] == b":"]
    counter = Counter(open_tokenizer())
    # documents.read cannot close a document yet that is cut off and has a figure beyond 64 bits.
    values = VALUES[:-1] if path.suffix == ".json" else VALUES
    place = st.integers(0, len(whole) - 1)
    flips = st.lists(st.tuples(place, st.integers(0, 255)), max_size=6)
    swaps = st.lists(st.tuples(st.sampled_from(colons), st.sampled_from(values)), max_size=4)

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(flips, swaps, st.one_of(st.just(len(whole)), place))
    def check(flips: list[tuple[int, int]], swaps: list[tuple[int, bytes]], end: int) -> None:
        spoilt = bytearray(whole)
        for at, byte in flips:
            spoilt[at] = byte
        for at, value in sorted(swaps, reverse=True):
            ends = (spoilt.find(b",", at), spoilt.find(b"}", at), spoilt.find(b"\n", at))
            stop = min((x for x in ends if x > at), default=at + 1)
            spoilt[at + 1 : stop] = value
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            copy.write_bytes(spoilt[:end])
            for session in find([copy], only).sessions:
                try:
                    read = session.read()
                except SourceError as error:
                    assert "\n" not in str(error)
                else:
                    build(read, counter, "test")

    check()
