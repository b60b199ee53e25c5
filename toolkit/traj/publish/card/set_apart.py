"""What was set apart: the private split that the public part commits to; and the canary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from traj.dataset import Manifest
from traj.publish.card.markup import code, count, fenced, folded, inert, prose, table
from traj.publish.card.names import Names
from traj.release.assign import PRIVATE


def private_split(manifest: Manifest, names: Names) -> list[str]:
    """The commitment in words; nothing where there is none. Where the private split lies is its
    owner's to say, so the card does not."""
    commitment = manifest.commitment
    if not commitment:
        return []
    root = fenced("", inert(str(commitment.get("root", ""))))
    if any(file.split == PRIVATE for file in manifest.files):
        return [
            "## The private split",
            """\
This is it. The public part of the dataset holds this root of a Merkle tree over all of its rows,
and `traj reveal` discloses some of them with proofs:""",
            root,
        ]
    rows = [(code(name), count(number)) for name, number in commitment.get("counts", {}).items()]
    return [
        "## The private split",
        """\
A part of the sessions, by whole families of repositories, is kept back, so that results can be held
against data that nobody could train on. Its owners are bound to it by this root of a Merkle tree
over all of its rows:""",
        root,
        table(("table", "private rows"), rows, (1,)),
        """\
Whoever is given some of them can see that they were there from the start, unchanged and whole:""",
        fenced("sh", f"traj verify disclosure.json --public {names.name}"),
        folded("How the tree is made", "\n".join(_tree(commitment))),
        *_distances(commitment),
    ]


def _tree(commitment: dict[str, Any]) -> Iterator[str]:
    yield f"- algorithm: {code(commitment.get('algorithm'))}"
    for part in ("leaf", "node"):
        yield f"- {part}: {prose(str(commitment.get(part, '')))}"


def _distances(commitment: dict[str, Any]) -> Iterator[str]:
    distances = commitment.get("distances")
    if distances:
        yield """\
How far the two parts' distributions are from each other, which is what a public result says of a
private one (Kolmogorov-Smirnov: 0 for equal ones, 1 for disjoint ones):"""
        apart = [(code(name), f"{value:.3f}") for name, value in sorted(distances.items())]
        yield table(("column", "distance"), apart, (1,))


def canary(guid: str | None) -> list[str]:
    """The mark by which a leak into training data is seen; nothing where there is none."""
    if not guid:
        return []
    return [
        "## Canary",
        """\
This is data to measure with. Please leave it out of training corpora: drop every document that
holds the mark below. A model that can complete the mark has seen them.""",
        fenced("", f"canary {inert(guid)}"),
    ]
