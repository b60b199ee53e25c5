"""Disclosures: proof that some trajectories were in the private split that was committed to.

`reveal` writes one JSON file with all rows of the trajectories and of their prompts, each with its
salt and its place in the tree, and the hashes that the rest of the tree amounts to. `verify` works
the root out of it and compares that with the public dataset's. A row that was changed, added or
left out gives another root, or contradicts the trajectory's own totals, which are a row themselves.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from traj import schema
from traj.dataset import Dataset
from traj.errors import DatasetError, TrajError, UsageError
from traj.release import commitment, merkle
from traj.release.assign import PRIVATE
from traj.release.keys import SplitKey, read_key
from traj.release.parts import Parts

FORMAT = "traj-disclosure-1"
_COUNTED = ("turns", "messages", "tool_calls")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Revealed:
    """What a disclosure holds."""

    file: str
    trajectories: tuple[str, ...]
    rows: dict[str, int]  # by table

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a disclosure is what was committed to; `problems` say why it is not."""

    trajectories: tuple[str, ...]
    rows: dict[str, int]
    root: str
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"ok": self.ok} | asdict(self)


def reveal(private: Dataset, trajectories: Sequence[str], out: Path, key_file: Path) -> Revealed:
    """Writes a disclosure of private trajectories, given by their ids or the beginnings of them.

    Raises UsageError where one is not there or the key is another, DatasetError where the rows are
    not what the dataset's commitment says.
    """
    key = read_key(key_file, [private.path])
    check_key(private, key)
    secret = key.derive("commitment")
    parts = Parts.of(private, None)
    ids = [name for name, split in parts.assigned.items() if split == PRIVATE]
    chosen = frozenset(_one_of(ids, name, private.path) for name in trajectories)
    if not chosen:
        raise UsageError(f"{private.path}: no trajectory to reveal was named")
    prompts = parts.prompts(ids)
    version = commitment.version_of(private.manifest.commitment)
    found = commitment.leaves(parts.rows(ids, PRIVATE), prompts, secret, version)
    if commitment.root(found) != private.manifest.commitment["root"]:
        raise DatasetError(
            f"{private.path}: the private rows are not those that were committed to: they have "
            "changed since; traj split commits to them as they are now"
        )
    places = {(leaf.table, leaf.key): place for place, leaf in enumerate(found)}
    own = parts.prompts(chosen)
    rows = list(_disclosed(parts, chosen, secret, places, version))
    told = commitment.of_version(version, "prompts", commitment.prompt_rows(own))
    rows += [_entry("prompts", row, secret, places) for row in told]
    rows.sort(key=lambda row: row["place"])
    missing = merkle.prove([leaf.hash for leaf in found], [row["place"] for row in rows])
    disclosure = {
        "format": FORMAT,
        "algorithm": commitment.ALGORITHM,
        "root": private.manifest.commitment["root"],
        "trajectories": sorted(chosen),
        "rows": rows,
        "missing": [digest.hex() for digest in missing],
    }
    _write(out, json.dumps(disclosure, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    tally = Counter(row["table"] for row in rows)
    return Revealed(str(out), tuple(sorted(chosen)), {x: tally[x] for x in commitment.TABLES})


def verify(file: Path, public: Dataset) -> Verdict:
    """Holds a disclosure against the commitment in a public dataset.

    Raises UsageError where the file is no disclosure or the dataset has no commitment.
    """
    wanted, counts = _committed(public)
    try:
        data = json.loads(file.read_bytes())
        if data["format"] != FORMAT:
            raise UsageError(f"{file}: a disclosure of another kind: upgrade traj")
        names = tuple(map(str, data["trajectories"]))
        rows = [
            _Row(str(row["table"]), row["place"], bytes.fromhex(row["salt"]), dict(row["row"]))
            for row in data["rows"]
        ]
        missing = [bytes.fromhex(digest) for digest in data["missing"]]
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{file}: not a disclosure ({error!r})") from None
    version = commitment.version_of(public.manifest.commitment)
    problems = [*_places(rows, counts, version), *_complete(rows, names, counts)]
    if not problems:
        problems = list(_root(rows, missing, sum(counts.values()), wanted))
    tally = Counter(row.table for row in rows)
    return Verdict(names, dict(sorted(tally.items())), wanted, tuple(problems))


def check_key(dataset: Dataset, key: SplitKey) -> None:
    """Raises UsageError unless the dataset was split, and with this key."""
    mark = dataset.manifest.commitment.get("key")
    if mark is None:
        raise UsageError(f"{dataset.path}: has no commitment: run traj split")
    if mark != key.mark:
        raise UsageError(f"{key.file}: not the key that {dataset.path} was split with")


def _committed(public: Dataset) -> tuple[str, dict[str, int]]:
    """The root, and the rows by table."""
    said = public.manifest.commitment
    if not said:
        raise UsageError(f"{public.path}: has no commitment to a private split")
    if said.get("algorithm") != commitment.ALGORITHM:
        raise UsageError(f"{public.path}: a commitment of another kind: upgrade traj")
    try:
        return str(said["root"]), {name: int(said["counts"][name]) for name in commitment.TABLES}
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{public.path}: the commitment is damaged ({error!r})") from None


@dataclass(frozen=True, slots=True)
class _Row:
    table: str
    place: int
    salt: bytes
    row: Row


def _places(rows: Sequence[_Row], counts: Mapping[str, int], version: str) -> Iterator[str]:
    """Every row stands where the tree has rows of its table, after the one before it, and has that
    table's columns."""
    ends = list(accumulate(counts[name] for name in commitment.TABLES))
    bounds = dict(zip(commitment.TABLES, pairwise([0, *ends]), strict=True))
    last = -1
    for row in rows:
        where = f"row {row.place} ({row.table})"
        low, high = bounds.get(row.table, (0, 0))
        if not isinstance(row.place, int) or not low <= row.place < high:
            yield f"{where} stands where no row of that table was committed to"
        elif row.place <= last:
            yield f"{where} stands out of order, or twice"
        elif not set(schema.names(row.table, version)) <= row.row.keys():
            yield f"{where} lacks columns"
        else:
            last = row.place
        if len(row.salt) != 32:
            yield f"{where} has a salt of {len(row.salt)} bytes, not 32"


def _complete(
    rows: Sequence[_Row], names: Sequence[str], counts: Mapping[str, int]
) -> Iterator[str]:
    """Each trajectory is whole: its row, as many others as its totals say, numbered without a gap,
    and the prompts that its turns name; nothing else is there. A split without text has neither
    messages nor prompts."""
    rows_of = [row.row for row in rows if row.table == "trajectories"]
    heads = {str(row.get("trajectory_id")): row for row in rows_of}
    if sorted(heads) != sorted(names) or not names:
        yield "the trajectories are not those that the disclosure names"
    numbers: dict[tuple[str, str], list[Any]] = {}
    prompts: set[Any] = set()
    for row in rows:
        if row.table in _COUNTED:
            name = str(row.row.get("trajectory_id"))
            number = row.row.get(schema.table(row.table).key[-1])
            numbers.setdefault((row.table, name), []).append(number)
        if row.table == "turns":
            prompts |= {row.row.get("system_id"), row.row.get("tools_id")}
    for table, name in numbers:
        if name not in heads:
            yield f"{table} of trajectory {name}, which the disclosure does not name"
    for name, head in heads.items():
        totals = head.get("totals")
        for table in _COUNTED:
            said = totals.get(table) if isinstance(totals, dict) and counts[table] else 0
            own = numbers.get((table, name), [])
            if len(own) != said or own != list(range(len(own))):
                yield f"trajectory {name} has {said} {table}, and not all of them are disclosed"
    held = {row.row.get("prompt_id") for row in rows if row.table == "prompts"}
    if held != (prompts - {None} if counts["prompts"] else set()):
        yield "the prompts are not those that the turns refer to"


def _root(rows: Sequence[_Row], missing: Sequence[bytes], count: int, wanted: str) -> Iterator[str]:
    known = {}
    for row in rows:
        try:
            known[row.place] = merkle.leaf(row.salt, commitment.canonical(row.row))
        except ValueError as error:
            yield f"row {row.place} ({row.table}) has no canonical form: {error}"
            return
    found = merkle.recompute(count, known, missing)
    if found is None:
        yield "the hashes beside the rows are not those that they lack"
    elif found.hex() != wanted:
        yield f"the rows give root {found.hex()}, and {wanted} was committed to"


def _disclosed(
    parts: Parts,
    chosen: frozenset[str],
    secret: bytes,
    places: Mapping[tuple[str, tuple[Any, ...]], int],
    version: str,
) -> Iterator[Row]:
    for _, spans in parts.rows(chosen, PRIVATE):
        for table, span in spans.items():
            own = commitment.plain_rows(span)
            for row in commitment.of_version(version, table, own):
                yield _entry(table, row, secret, places)


def _entry(
    table: str, row: Row, secret: bytes, places: Mapping[tuple[str, tuple[Any, ...]], int]
) -> Row:
    place = places[table, commitment.key_of(table, row)]
    salt = commitment.salt(table, row, secret)
    return {"table": table, "place": place, "salt": salt.hex(), "row": row}


def _one_of(ids: Sequence[str], name: str, path: Path) -> str:
    found = [one for one in ids if one.startswith(name)]
    if len(found) != 1:
        which = "no private trajectory" if not found else f"{len(found)} private trajectories"
        raise UsageError(f"{path}: {which} {name!r}")
    return found[0]


def _write(out: Path, data: bytes) -> None:
    """The file appears whole or not at all, readable by its owner alone."""
    scratch = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        handle = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(out)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise TrajError(f"{out}: cannot write: {error.strerror}") from None
