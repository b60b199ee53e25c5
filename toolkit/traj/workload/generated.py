"""Prompts for trajectories without text: words of the recorded lengths, shared as was recorded.

Each prompt is the front of an earlier one (`traj.workload.shared_fronts`) and tokens of its own.
Here those become messages, so that whatever sends a record's own messages sends these: equal
messages where prompts share something, cut where a later prompt parts from an earlier one. What a
prompt adds is the answer before it, as far as there is room, and then a message of the user.

A message's words are drawn by (seed, trajectory, turn, place): the same in all phases and plays,
other ones in each trajectory. So nothing is shared across trajectories: no record without text
says what was.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from traj.build import NO_TEXT
from traj.workload import chat
from traj.workload.lengths import Lengths
from traj.workload.shared_fronts import SharedFronts, shared_fronts
from traj.workload.turns import Columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from traj.dataset import Rows
    from traj.workload.turns import Ranges
    from traj.workload.words import Words

_ROOT = -1  # above all stretches
_UNTOLD: dict[str, Any] = {  # prompts are generated whole: nothing stands in front of them
    "system_id": None,
    "tools_id": None,
    "earlier_reasoning": "unknown",
    "unseen_input_tokens": None,
}


def is_without_text(rows: Rows) -> bool:
    """Whether a trajectory has requests, but no message of them."""
    return bool(rows.messages.num_rows == 0 and rows.turns.num_rows > 0)


@dataclass(slots=True)
class Generated:
    """What stands in place of a trajectory's messages; lists are by message, `keys` draw words."""

    fronts: SharedFronts
    roles: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    lanes: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def columns(self) -> Columns:
        """What `Load` reads of a record's messages."""
        import pyarrow as pa

        count = len(self.roles)
        columns = {
            "lane": self.lanes,
            "role": self.roles,
            "tokens": self.tokens,
            "reasoning_tokens": [0] * count,
            "sha256": self.keys,
            "tool_calls": [None] * count,
        }
        return Columns(pa.table(columns), tuple(columns))

    def add(self, lane: int, role: str, tokens: int, key: str) -> int:
        self.lanes.append(lane)
        self.roles.append(role)
        self.tokens.append(tokens)
        self.keys.append(key)
        return len(self.roles) - 1

    def lengths(self, turns: Columns, messages: Columns) -> Lengths:
        """The requests' lengths: as recorded, with nothing left to fill."""
        found = Lengths(turns, messages, {}, filled=False)
        for turn, tokens in self.fronts.tokens.items():
            found.text[turn] = found.input[turn] = tokens
        return found

    def messages(self, words: Callable[[], Words]) -> chat.Messages:
        return _Words(self, words)


class _Words(chat.Messages):
    """The messages in their chat form, their words made when they are asked for."""

    def __init__(self, generated: Generated, words: Callable[[], Words]) -> None:
        self._generated, self._make = generated, words

    def role(self, number: int) -> str:
        return self._generated.roles[number]

    def sha256(self, number: int) -> str:
        return self._generated.keys[number]

    def attachments(self) -> int:
        return 0

    def message(self, number: int, *, reasoning: bool, as_user: bool = False) -> dict[str, Any]:
        del reasoning, as_user
        made = self._generated
        text = self._make().text(made.tokens[number], made.keys[number].encode())
        return {"role": made.roles[number], "content": text}


def generate(rows: Rows, turns: Columns, seed: str) -> Generated:
    """The messages of a trajectory without text. `turns` is changed to speak of them: `input`,
    `output`, and no system prompt or tool definitions."""
    losses = rows.trajectories.column("losses")[0].as_py() or ()
    by_status = any(one["kind"] == NO_TEXT for one in losses)
    answered = [
        turn
        for turn, output in enumerate(turns["output"])
        if output is not None or (by_status and turns["status"][turn] == "ok")
    ]
    made = Generated(shared_fronts(turns, answered))
    _Tree(made, rows.trajectory_id, seed, turns).write(answered)
    for name, value in _UNTOLD.items():
        turns[name][:] = [value] * len(turns[name])
    return made


class _Stretches:
    """Where stretches begin, with pointers far up the tree: to find one costs a logarithm, however
    many prompts each begin like the end of a long session's."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {_ROOT: _ROOT}
        self._far: dict[int, int] = {_ROOT: _ROOT}
        self._depth: dict[int, int] = {_ROOT: 0}
        self._start: dict[int, int] = {_ROOT: -1}

    def add(self, turn: int, owner: int | None, start: int) -> None:
        above = _ROOT if owner is None else owner
        far = self._far[above]
        depth = self._depth
        even = depth[above] - depth[far] == depth[far] - depth[self._far[far]]
        self._above[turn], self._far[turn] = above, self._far[far] if even else above
        self._depth[turn], self._start[turn] = depth[above] + 1, start

    def holding(self, turn: int | None, tokens: int) -> int | None:
        """In whose stretch a front ends that is so long, on the way up from a turn."""
        node = _ROOT if turn is None else turn
        while tokens <= self._start[node]:
            far = self._far[node]
            node = far if tokens <= self._start[far] else self._above[node]
        return None if node == _ROOT else node


class _Tree:
    """Prompts as a tree of stretches, one a turn: what it adds to the one that it begins with."""

    def __init__(self, made: Generated, trajectory_id: str, seed: str, turns: Columns) -> None:
        self._made, self._turns, self._fronts = made, turns, made.fronts
        self._key = f"{seed}\0{trajectory_id}"
        self._stretches = _Stretches()
        self._owner: dict[int, int | None] = {}  # in whose stretch the shared front ends
        self._cuts: dict[int, set[int]] = {}  # by turn: where others part, in tokens of the prompt
        self._prefix: dict[int, Ranges] = {}  # messages in front of the stretch
        self._ends: dict[int, dict[int, int]] = {}  # by place in the prompt: messages up to there

    def write(self, answered: Sequence[int]) -> None:
        turns, fronts = self._turns, self._fronts
        for turn in answered:
            before, shared = fronts.before[turn], fronts.shared[turn]
            owner = self._stretches.holding(before, shared)
            self._stretches.add(turn, owner, shared)
            self._owner[turn] = owner
            self._cuts[turn] = set()
            if owner is not None:
                self._cuts[owner].add(shared)
        turns["input"][:] = [[] for _ in turns["input"]]
        turns["output"][:] = [None] * len(turns["output"])
        # Lane by lane, so that what a lane says lies together; a front may lie in another one.
        lanes: dict[int, list[int]] = {}
        for turn in answered:
            lanes.setdefault(turns["lane"][turn], []).append(turn)
        for own in lanes.values():
            for turn in own:
                self._stretch(turn)
        for turn in answered:
            self._join(turn)
        for turn in answered:
            if turns["output"][turn] is None:  # an answer that no prompt repeats
                tokens = turns.output_tokens(turn)
                key = self._name(turn, "answer")
                number = self._made.add(turns["lane"][turn], "assistant", tokens, key)
                turns["output"][turn] = number

    def _stretch(self, turn: int) -> None:
        """Makes the messages that a prompt adds."""
        turns, fronts = self._turns, self._fronts
        start, stop = fronts.shared[turn], fronts.tokens[turn]
        before, said = fronts.before[turn], 0
        if before is not None and (
            start != fronts.tokens[before] or turns["output"][before] is not None
        ):
            before = None  # its answer does not stand here
        if before is not None:
            thought = turns["reasoning_tokens"][before] or 0
            said = max(1, turns.output_tokens(before) - thought)
            said = max(0, min(said, stop - start - 1))  # a request ends with something asked
        places = sorted({start, stop, *([start + said] if said else ()), *self._cuts[turn]})
        ends = self._ends[turn] = {start: len(self._made.roles)}
        for place, end in pairwise(places):
            role = "assistant" if end <= start + said else "user"
            key = self._name(turn, place)
            number = self._made.add(turns["lane"][turn], role, end - place, key)
            ends[end] = number + 1
            if said and place == start and before is not None:
                turns["output"][before] = number

    def _join(self, turn: int) -> None:
        """Puts a prompt's ranges together: those of the front that it shares, and its own."""
        owner, shared = self._owner[turn], self._fronts.shared[turn]
        found: Ranges = []
        if owner is not None:
            found = _with(self._prefix[owner], self._own(owner).start, self._ends[owner][shared])
        self._prefix[turn] = found
        own = self._own(turn)
        whole = _with(found, own.start, own.stop)
        self._turns["input"][turn] = [{"start": start, "stop": stop} for start, stop in whole]

    def _own(self, turn: int) -> range:
        """The messages that a prompt adds."""
        ends, fronts = self._ends[turn], self._fronts
        return range(ends[fronts.shared[turn]], ends[fronts.tokens[turn]])

    def _name(self, turn: int, what: object) -> str:
        key = f"{self._key}\0{turn}\0{what}".encode()
        return hashlib.blake2b(key, digest_size=32, person=b"traj generated").hexdigest()


def _with(ranges: Ranges, start: int, stop: int) -> Ranges:
    """Ranges and one more, joined to the last where they touch."""
    if start == stop:
        return ranges
    if ranges and ranges[-1][1] == start:
        return [*ranges[:-1], (ranges[-1][0], stop)]
    return [*ranges, (start, stop)]
