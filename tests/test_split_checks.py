"""Every check of a split finds the fault that it is there for, and a sound split has none."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

import rows
from fleet import repository, session, together
from traj.dataset import MANIFEST, Dataset
from traj.validation import Finding, Report, split_content, split_distances, splits, validate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CHECKS = (*splits.CHECKS, *split_content.CHECKS, *split_distances.CHECKS)
SYSTEM = "You work here. " + rows.words(60, "system")
DESCRIBED = {"public": {"canary": "a"}, "private": {"canary": "b"}}
Split = dict[str, list[rows.Tables]]  # sessions by split

PROSE = " ".join(f"word{number}" for number in range(200))
NEARLY = PROSE.replace("word50 ", "other ").replace("word120 ", "more ")
FAR = PROSE.replace("1", "one").replace("7", "seven")


def ours(**over: Any) -> rows.Tables:
    """A session that is public unless said otherwise."""
    return session("a", repository("github.com/x/one"), **over)


def theirs(where: str = "github.com/y/two", **over: Any) -> rows.Tables:
    """A session that is private unless said otherwise."""
    return session("b", repository(where), **over)


def two() -> Split:
    """A public and a private session that share a system prompt."""
    return {"public": [ours(system=SYSTEM)], "private": [theirs(system=SYSTEM)]}


def same(**over: Any) -> Split:
    """What is said is the same in both splits."""
    return {"public": [ours(**over)], "private": [theirs(**over)]}


def nearly(what: str) -> Split:
    """What is said is nearly the same in both splits."""
    return {"public": [ours(**{what: PROSE})], "private": [theirs(**{what: NEARLY})]}


def into(where: str) -> Split:
    """The private session's repository is this one."""
    return {"public": [ours()], "private": [theirs(where)]}


def written(folder: Path, split: Split, **manifest: Any) -> Dataset:
    """The dataset of these sessions."""
    tables = together(*(one for found in split.values() for one in found))
    names = {
        one["trajectories"][0]["trajectory_id"]: name
        for name, found in split.items()
        for one in found
    }
    for head in tables["trajectories"]:
        name = names[head["trajectory_id"]]
        head["split"] = None if name == "rest" else name
    return Dataset.open(rows.write(folder, tables, **manifest))


def of(report: Report, check: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.check == check]


def copied() -> Split:
    """Two whole sessions that say the same, ids of calls and all."""
    copy = session("a", repository("github.com/y/two"))
    for table in copy.values():
        for row in table:
            row["trajectory_id"] = rows.trajectory_id("b")
    copy["trajectories"][0]["source"]["session_id"] = "b"
    return {"public": [ours()], "private": [copy]}


LONG = [session(f"l{n}", repository(f"github.com/y/l{n}"), turns=9) for n in range(16)]
SHORT = [session(f"s{n}", repository(f"github.com/x/s{n}")) for n in range(16)]


def prompts_of(split: str) -> Callable[[Path], None]:
    """The prompts, all of them, in the files of one split."""

    def plant(folder: Path) -> None:
        data = json.loads((folder / MANIFEST).read_bytes())
        next(file for file in data["files"] if file["table"] == "prompts")["split"] = split
        (folder / MANIFEST).write_text(json.dumps(data))

    return plant


@dataclass(frozen=True)
class Plant:
    """A split with a fault, and the check that is to find it."""

    check: str
    name: str
    split: Split = field(default_factory=two)
    files: Callable[[Path], None] | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    severity: str = "error"


REST = session("c", repository("github.com/z/three"))
LONE = session("d", repository("github.com/q/r"), system="Another.")
ONE_COMMIT = {
    "public": [session("a", repository("github.com/x/one", commit="c" * 40))],
    "private": [session("b", repository("github.com/y/two", commit="c" * 40))],
}
PLANTED = (
    Plant("split_repositories", "one name", into("github.com/x/one")),
    Plant("split_repositories", "capitals", into("GitHub.com/X/One")),
    Plant("split_repositories", "one commit", ONE_COMMIT),
    Plant("split_forks", "one name", into("github.com/y/one"), severity="finding"),
    Plant("split_rest", "one left", two() | {"rest": [REST]}, severity="finding"),
    Plant("split_prompts", "not its own", two() | {"rest": [LONE]}, prompts_of("private")),
    Plant("split_canaries", "none", manifest={"splits": {"public": {"canary": None}}}),
    Plant(
        "split_canaries",
        "one for both",
        manifest={"splits": {name: {"canary": "a"} for name in DESCRIBED}},
    ),
    Plant("commitment_counts", "rows", manifest={"commitment": {"counts": {"turns": 99}}}),
    Plant("split_content", "a prompt", same(prompt=PROSE)),
    Plant("split_content", "an answer", same(answer=PROSE)),
    Plant("split_content", "much of what was read", same(result=PROSE)),
    Plant("split_content", "a whole session", copied()),
    Plant("split_near_duplicates", "a prompt", nearly("prompt")),
    Plant("split_near_duplicates", "an answer", nearly("answer")),
    Plant("split_near_duplicates", "much of what was read", nearly("result")),
    Plant(
        "split_distances",
        "short and long",
        {"public": SHORT, "private": LONG},
        severity="finding",
    ),
    Plant("published_distances", "others", manifest={"commitment": {"distances": {"turns": 0.7}}}),
)


def planted(folder: Path, plant: Plant) -> Report:
    dataset = written(folder, plant.split, **plant.manifest)
    if plant.files is not None:
        plant.files(folder)
        dataset = Dataset.open(folder)
    return validate(dataset)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: f"{plant.check}: {plant.name}")
def test_planted_fault_is_found(plant: Plant, tmp_path: Path) -> None:
    """A planted fault is found by the check that is there for it, with its severity."""
    found = of(planted(tmp_path, plant), plant.check)
    assert plant.severity in {finding.severity for finding in found}
    assert all(finding.where and finding.message and finding.count > 0 for finding in found)


def test_every_check_of_a_split_has_a_planted_fault() -> None:
    """No check is without a fault that shows that it finds something."""
    assert {plant.check for plant in PLANTED} == {check.name for check in CHECKS}


def test_a_sound_split_has_no_findings(tmp_path: Path) -> None:
    """Two repositories that share a system prompt and nothing else."""
    dataset = written(tmp_path, two(), splits=DESCRIBED)
    report = validate(dataset)
    assert report.findings == ()
    status = {one.name: one.status for one in report.checks}
    lacking = {"split_prompts", "commitment_counts", "published_distances"}
    assert {status[one.name] for one in CHECKS if one.name not in lacking} == {"passed"}
    assert {status[name] for name in lacking} == {"not_applicable"}


def test_without_both_splits_there_is_nothing_to_compare(tmp_path: Path) -> None:
    """The checks of a split say that they do not apply to a dataset that has none."""
    dataset = written(tmp_path, {"rest": [REST]})
    status = {one.name: (one.status, one.reason) for one in validate(dataset).checks}
    for check in CHECKS:
        assert status[check.name][0] == "not_applicable", check.name
        assert status[check.name][1]


@pytest.mark.parametrize("text", ["prompt", "answer", "result"])
def test_what_differs_is_no_duplicate(text: str, tmp_path: Path) -> None:
    """Texts that share half their words, and short ones that are equal, are told nowhere."""
    far: Split = {"public": [ours(**{text: PROSE})], "private": [theirs(**{text: FAR})]}
    short = same(**{text: rows.words(40, "short")})
    for number, split in enumerate((far, short)):
        report = validate(written(tmp_path / str(number), split))
        assert not of(report, "split_content")
        assert not of(report, "split_near_duplicates")


@pytest.mark.parametrize("role", ["tool", "user"])
def test_what_was_read_in_both_is_a_finding(role: str, tmp_path: Path) -> None:
    """A licence text that two repositories share, or an agent's reminder, is told, but stops
    nothing: much else was said."""
    public = ours(turns=9, prompt=rows.words(900, "long"))
    private = theirs(turns=9, prompt=rows.words(900, "tall"))
    for one in (public, private):
        one["messages"][2] = rows.message(
            one["trajectories"][0]["source"]["session_id"],
            2,
            "tool",
            rows.words(90, "licence" if role == "tool" else str(one["trajectories"])),
            tool_call_id=one["messages"][2]["tool_call_id"],
        )
        if role == "user":
            name = one["trajectories"][0]["source"]["session_id"]
            said = f"<system-reminder>{rows.words(90, 'rules')}</system-reminder>"
            one["messages"].append(rows.message(name, len(one["messages"]), "user", said))
    report = validate(written(tmp_path, {"public": [public], "private": [private]}))
    assert {one.severity for one in of(report, "split_content")} == {"finding"}
    assert report.ok


@pytest.mark.parametrize("text", [PROSE, NEARLY])
def test_boilerplate_is_what_three_repositories_hold(text: str, tmp_path: Path) -> None:
    """A template that is used in three repositories is nobody's secret; in two it may be."""
    third = session("c", repository("github.com/z/three"), prompt=PROSE)
    for public, ok in (([], False), ([third], True)):
        split = {"public": [ours(prompt=PROSE), *public], "private": [theirs(prompt=text)]}
        assert validate(written(tmp_path / str(ok), split)).ok is ok


def test_copies_in_unknown_repositories_are_no_boilerplate(tmp_path: Path) -> None:
    """However often a session was copied, its copies do not excuse one another."""
    copies = [session(f"c{number}", None, prompt=PROSE) for number in range(6)]
    split = {"public": copies[:4], "private": copies[4:]}
    assert of(validate(written(tmp_path, split)), "split_content")


def test_planted_near_duplicates_are_found(tmp_path: Path) -> None:
    """Of 200 texts with one word in forty changed, all are found; of 200 others, none."""
    rng = random.Random(1)
    words = [f"w{number}" for number in range(3000)]
    public, private = ours(), theirs()
    for _ in range(200):
        text = rng.choices(words, k=rng.randint(80, 400))
        nearly = [rng.choice(words) if n % 40 == 7 else word for n, word in enumerate(text)]
        other = rng.choices(words, k=len(text))
        for one, said in ((public, text), (private, nearly), (private, other)):
            name = one["trajectories"][0]["source"]["session_id"]
            place = len(one["messages"])
            one["messages"].append(rows.message(name, place, "user", " ".join(said)))
    report = validate(written(tmp_path, {"public": [public], "private": [private]}))
    found = {one.table: one.count for one in of(report, "split_near_duplicates")}
    assert found == {"messages": 200, "trajectories": 1}


def test_distances_tell_splits_apart(tmp_path: Path) -> None:
    """Splits of other lengths are told apart; halves of one population are not."""
    apart = {"public": SHORT, "private": LONG}
    report = validate(written(tmp_path / "apart", apart))
    assert {"column turns", "column input_tokens"} <= {
        one.where for one in of(report, "split_distances")
    }
    assert report.ok
    even = {"public": SHORT[::2] + LONG[::2], "private": SHORT[1::2] + LONG[1::2]}
    report = validate(written(tmp_path / "even", even))
    assert "column turns" not in {one.where for one in of(report, "split_distances")}


def test_the_distance_is_that_of_the_definition() -> None:
    """Against the plain reading: the largest gap of two empirical distribution functions."""
    import polars as pl

    rng = random.Random(2)
    for _ in range(50):
        ours = [rng.randint(0, 9) for _ in range(rng.randint(1, 30))]
        theirs = [rng.randint(2, 12) for _ in range(rng.randint(1, 30))]
        plain = max(
            abs(sum(x <= at for x in ours) / len(ours) - sum(x <= at for x in theirs) / len(theirs))
            for at in [*ours, *theirs]
        )
        split = ["public"] * len(ours) + ["private"] * len(theirs)
        frame = pl.DataFrame({"value": ours + theirs, "split": split})
        assert split_distances._kolmogorov_smirnov(frame) == pytest.approx(plain)


def test_without_rensa_nothing_is_proven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library is missing, near-duplicates are reported as not looked for."""
    monkeypatch.setitem(sys.modules, "rensa", None)
    report = validate(written(tmp_path, two()))
    (check,) = (one for one in report.checks if one.name == "split_near_duplicates")
    assert check.status == "not_run"
    assert "traj-toolkit[release]" in (check.reason or "")
    assert not report.ok
