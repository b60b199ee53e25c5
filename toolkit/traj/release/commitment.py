"""The commitment to the private split: a hash that binds its owner and gives nothing away.

A leaf is a row: SHA-256(0x00, salt, row), the salt HMAC-SHA-256 of the row's id under a secret
key, the row as RFC 8785 JSON of all its columns. Leaves stand table by table in the order of
TABLES, in each by key, so a leaf's place says which table it is of. The published counts by table
are part of what is checked: no row can be added, and a disclosed trajectory's own totals say how
many rows it has.

Salts are what keeps the rows secret: without them anybody could try out guesses of a row.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from traj import schema
from traj.dataset.write import Prompts
from traj.errors import MissingExtraError
from traj.release import merkle

if TYPE_CHECKING:
    from traj.dataset import Span

ALGORITHM = "traj-merkle-1"
PARTS = {
    "leaf": "SHA-256(0x00 || HMAC-SHA-256(key, RFC 8785 of [table, *key columns]) || RFC 8785 row)",
    "node": "SHA-256(0x01 || left || right), the tree of RFC 6962",
}
TABLES = schema.TABLES
_SAFE_INTEGER = 2**53 - 1  # larger ones RFC 8785 does not write


@dataclass(frozen=True, slots=True)
class Leaf:
    """One row, as it is committed to."""

    table: str
    key: tuple[Any, ...]
    hash: bytes

    def order(self) -> tuple[Any, ...]:
        return TABLES.index(self.table), *self.key


def leaves(
    trajectories: Iterable[tuple[str, Mapping[str, Span]]],
    prompts: Prompts,
    secret: bytes,
    version: str = schema.VERSION,
) -> list[Leaf]:
    """The leaves of whole trajectories and their prompts, in the tree's order; of the columns that
    a version of the schema has, so that a dataset whose version is raised keeps its root."""
    found = [
        Leaf(table, key_of(table, row), leaf_hash(table, row, secret))
        for _, spans in trajectories
        for table, span in spans.items()
        for row in of_version(version, table, plain_rows(span))
    ]
    found += [
        Leaf("prompts", (row["prompt_id"],), leaf_hash("prompts", row, secret))
        for row in of_version(version, "prompts", prompt_rows(prompts))
    ]
    return sorted(found, key=Leaf.order)


def counts(found: Sequence[Leaf]) -> dict[str, int]:
    """Leaves by table."""
    tally = dict.fromkeys(TABLES, 0)
    for leaf in found:
        tally[leaf.table] += 1
    return tally


def root(found: Sequence[Leaf]) -> str:
    return merkle.root([leaf.hash for leaf in found]).hex()


def leaf_hash(table: str, row: Mapping[str, Any], secret: bytes) -> bytes:
    return merkle.leaf(salt(table, row, secret), canonical(row))


def salt(table: str, row: Mapping[str, Any], secret: bytes) -> bytes:
    return hmac.digest(secret, canonical([table, *key_of(table, row)]), "sha256")


def key_of(table: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in schema.table(table).key)


def plain_rows(span: Span) -> list[dict[str, Any]]:
    """Rows as plain JSON types: times in RFC 3339 with microseconds, integers that JSON numbers do
    not hold in decimal digits, as text."""
    return [{name: _plain(value) for name, value in row.items()} for row in span.rows().to_pylist()]


def version_of(said: Mapping[str, Any]) -> str:
    """The schema version that the leaves of a manifest's commitment follow."""
    return str(said.get("schema_version", "1.0"))


def of_version(
    version: str, table: str, rows: Iterable[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Plain rows as a version of the schema has them, where the newest has more columns."""
    known = frozenset(schema.names(table, version))
    for row in rows:
        own = {name: value for name, value in row.items() if name in known}
        yield own | {"schema_version": version}


def prompt_rows(prompts: Prompts) -> list[dict[str, Any]]:
    """The rows of the prompts table."""
    return [
        {
            "schema_version": schema.VERSION,
            "prompt_id": name,
            "kind": kind,
            "content": content,
            "tokens": tokens,
        }
        for name, (kind, content, tokens) in sorted(prompts.items())
    ]


def canonical(value: Any) -> bytes:
    """RFC 8785 JSON. Raises MissingExtraError where the library is missing, ValueError for what
    has no such form."""
    try:
        import rfc8785
    except ImportError:
        raise MissingExtraError("the commitment to a private split", "release") from None
    return rfc8785.dumps(value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _SAFE_INTEGER else str(value)
    return value if abs(value) < float("inf") else str(value)  # not a number, too, is no number
