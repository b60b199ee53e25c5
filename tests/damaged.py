"""Damaged logs, for tests of sources: bytes cut off and overwritten, values of the wrong type."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import traj
from traj.build import build
from traj.build.tokens import Counter, open_tokenizer
from traj.errors import SourceError, TrajError
from traj.pipeline import record
from traj.sources import find

ODD = [None, 0, -1, 10**25, 1.5, True, "", "x", [], {}, [1], {"a": 1}, "\ud800", "2026-01-01"]


def survive_bytes(path: Path, only: str, examples: int = 60) -> None:
    """Whatever is cut off from a log and written over in it, it is read or refused by SourceError,
    and what was read can be built."""
    whole = path.read_bytes()
    counter = Counter(open_tokenizer())

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_damage(len(whole)))
    def check(damage: Callable[[bytes], bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            spoilt = Path(folder) / path.name
            spoilt.write_bytes(damage(whole))
            for session in find([spoilt], only).sessions:
                try:
                    read = session.read()
                except SourceError as error:
                    assert "\n" not in str(error)
                else:
                    build(read, counter, "test")

    check()


def survive_values(path: Path, only: str, examples: int = 25) -> None:
    """Whatever the values of a log are, recording it gives a sound dataset or one clear error."""
    text = path.read_text()
    lines = path.suffix == ".jsonl"
    rows = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(seed=st.integers(0, 2**32))
    def check(seed: int) -> None:
        spoilt = _odd(rows, random.Random(seed))
        with tempfile.TemporaryDirectory() as folder:
            log, out = Path(folder) / path.name, Path(folder) / "x.traj"
            found = spoilt if lines and isinstance(spoilt, list) else None
            log.write_text("\n".join(map(json.dumps, found)) if found else json.dumps(spoilt))
            try:
                record([log], out, source_format=only)
            except TrajError as error:
                assert "\n" not in str(error)
                return
            checked = traj.validate(traj.load(out))
            assert checked.ok, checked.findings

    check()


def _damage(size: int) -> st.SearchStrategy[Callable[[bytes], bytes]]:
    flips = st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, 255)), max_size=8)
    ends = st.one_of(st.just(size), st.integers(0, size))

    def made(flips: list[tuple[int, int]], end: int) -> Callable[[bytes], bytes]:
        def damage(whole: bytes) -> bytes:
            found = bytearray(whole[:end])
            for place, byte in flips:
                if place < len(found):
                    found[place] = byte
            return bytes(found)

        return damage

    return st.builds(made, flips, ends)


def _odd(value: object, dice: random.Random) -> object:
    """A copy with some values replaced by odd ones, dropped or repeated."""
    if dice.random() < 0.01:
        return dice.choice(ODD)
    if isinstance(value, dict):
        return {k: _odd(v, dice) for k, v in value.items() if dice.random() > 0.005}
    if isinstance(value, list):
        items = [_odd(item, dice) for item in value if dice.random() > 0.005]
        return items + items[:1] if dice.random() < 0.01 else items
    return value
