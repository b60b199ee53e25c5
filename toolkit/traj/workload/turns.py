"""What exporters read of a trajectory's turns: columns as lists, prompts as ranges, lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

Ranges = list[tuple[int, int]]  # half-open, of message numbers


class Columns:
    """Columns of one trajectory's turns as lists, by name; a turn's number is its index."""

    def __init__(self, table: pa.Table, names: Sequence[str]) -> None:
        self._columns: dict[str, list[Any]] = {
            name: table.column(name).to_pylist() for name in names
        }

    def keep(self, count: int) -> None:
        """Leaves the first turns alone."""
        for values in self._columns.values():
            del values[count:]

    def __getitem__(self, name: str) -> list[Any]:
        return self._columns[name]

    def ranges(self, turn: int) -> Ranges:
        """The messages of the prompt."""
        return [(span["start"], span["stop"]) for span in self["input"][turn]]

    def input_tokens(self, turn: int) -> int:
        """The provider's figure for the prompt, else the dataset's count."""
        reported = self["input_tokens"][turn]
        return int(self["counted_input_tokens"][turn] or 0 if reported is None else reported)

    def output_tokens(self, turn: int) -> int:
        """The provider's figure for the answer, else the dataset's count; no engine makes none."""
        reported = self["output_tokens"][turn]
        counted = int(self["counted_output_tokens"][turn] or 0)
        if reported is None:
            return max(1, counted)
        # Partial usage may be a placeholder, written before the answer was complete.
        partial = self["usage_source"][turn] == "partial"
        return max(1, int(reported), counted if partial else 0)


def added(before: Ranges, after: Ranges) -> Ranges | None:
    """What a prompt has beyond an earlier one; None where it does not begin with that."""
    if not before:
        return after
    last = len(before) - 1
    if len(after) <= last or after[:last] != before[:last]:
        return None
    (start, stop), (new_start, new_stop) = before[last], after[last]
    if new_start != start or new_stop < stop:
        return None
    rest = after[last + 1 :]
    return [(stop, new_stop), *rest] if new_stop > stop else rest
