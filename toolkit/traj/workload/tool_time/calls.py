"""A trajectory's tool calls: which of them take time of their own, how long they took, and how
long a number of them takes when those that followed each other still do.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

Span = tuple[int | None, int | None]
Timed = tuple[int | None, int | None, int]  # recorded start and end, and how long it takes now


@dataclass(frozen=True, slots=True)
class Calls:
    """Columns of tool calls as lists; a call is named by its index in them."""

    call: list[int]
    turn: list[int]
    category: list[str]
    start_us: list[int | None]
    end_us: list[int | None]
    permission_us: list[int | None]
    status: list[str]
    background: list[bool | None]
    spawned_lane: list[int | None]

    COLUMNS: ClassVar[tuple[str, ...]] = (
        *("call", "turn", "category", "start_us", "end_us", "permission_us", "status"),
        *("background", "spawned_lane"),
    )

    @classmethod
    def of(cls, table: pa.Table) -> Calls:
        """Of a table with at least COLUMNS."""
        return cls(*(table.column(name).to_pylist() for name in cls.COLUMNS))

    def part(self, start: int, stop: int) -> Calls:
        return Calls(*(getattr(self, name)[start:stop] for name in self.COLUMNS))

    def by_turn(self) -> dict[int, list[int]]:
        """Indices of the calls that a turn asked for, by turn."""
        found: dict[int, list[int]] = {}
        for index, turn in enumerate(self.turn):
            found.setdefault(turn, []).append(index)
        return found

    def own(self) -> list[bool]:
        """Of each call, whether it takes tool time of its own.

        Not where a sub-agent worked (its requests are the time, or the record lacks them), where a
        person did (a question to them), nor where nothing ran (a rejected call).
        """
        return [
            lane is None and category not in ("agent", "ask_user") and status != "rejected"
            for lane, category, status in zip(
                self.spawned_lane, self.category, self.status, strict=True
            )
        ]

    def took_us(self) -> list[int | None]:
        """How long each tool worked, without the wait for permission.

        None where that is unknown, where the call takes no tool time of its own, and for one that
        went on in the background: its end is not its result's.
        """
        return [
            max(0, end - start - (permission or 0))
            if own and start is not None and end is not None and not background
            else None
            for own, start, end, permission, background in zip(
                self.own(),
                self.start_us,
                self.end_us,
                self.permission_us,
                self.background,
                strict=True,
            )
        ]

    def for_a_person(self, index: int) -> bool:
        """Whether a person was awaited for some of the call's span, or all of it."""
        if self.category[index] == "ask_user" or self.status[index] == "rejected":
            return True
        return bool(self.permission_us[index])

    def worked(self, index: int) -> Span | None:
        """When the tool worked. Permission is awaited first; None where a person did it all."""
        start, permission = self.start_us[index], self.permission_us[index]
        if self.category[index] == "ask_user" or self.status[index] == "rejected":
            return None
        return None if start is None else start + (permission or 0), self.end_us[index]


def critical_path_us(calls: Iterable[Timed], since_us: int | None) -> int:
    """How long calls take that begin together, but for those that had to follow others.

    A call followed those that had ended when it began. Only what the record shows after `since_us`,
    when the answer was complete, counts: calls that began while it came in did so because it asked
    for them one after the other, and in a replay all are there at once. A call whose times are
    unknown neither follows nor is followed.
    """
    longest = before = 0
    late: list[tuple[int, int, int]] = []
    ended: list[tuple[int, int]] = []  # a heap: recorded end, and when it ends now
    for start, end, lasts in calls:
        longest = max(longest, lasts)
        if start is None or end is None:
            continue
        if since_us is None or start > since_us:
            late.append((start, end, lasts))
        elif end > since_us:
            heappush(ended, (end, lasts))
    late.sort(key=itemgetter(0))
    for start, together in groupby(late, key=itemgetter(0)):
        while ended and ended[0][0] <= start:
            before = max(before, heappop(ended)[1])
        for _, end, lasts in together:
            longest = max(longest, before + lasts)
            heappush(ended, (end, before + lasts))
    return longest


def union_us(spans: Iterable[Span | None], start_us: int, stop_us: int) -> int:
    """How much of a window is covered by spans; those of unknown times cover nothing."""
    known = sorted(
        (max(span[0], start_us), min(span[1], stop_us))
        for span in spans
        if span is not None and span[0] is not None and span[1] is not None
    )
    covered, until = 0, start_us
    for start, stop in known:
        covered += max(0, stop - max(start, until))
        until = max(until, stop)
    return covered
