"""The prompts of a play as block ids: what targets write that have lengths in place of text.

A prompt that goes on from the one before in its lane continues that one's layout, any other is laid
out from its front. `traj.workload.blocks` says what ids mean.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from traj.workload.blocks import Blocks, Layout
from traj.workload.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traj.workload.play import Play

COUNTED_LENGTH = "requests without the provider's figures have the dataset's own counts"


@dataclass(frozen=True, slots=True)
class LaidPrompt:
    """One prompt: `ids` of its whole blocks; `tail`, the id of what lies behind them, which no
    prompt shares but one that is equal as a whole; None where nothing does.

    `begins`: it does not go on from the one before in its lane.
    """

    turn: int
    tokens: int
    begins: bool
    ids: list[int]
    tail: int | None

    def all_ids(self) -> list[int]:
        """The ids of as many blocks as hold the prompt."""
        return self.ids if self.tail is None else [*self.ids, self.tail]


class PromptBlocks:
    """The prompts of one play, in the order of its turns. With `shared`, equal ids mean equal
    beginnings in all plays of an export, else in the play alone.

    `counted` is how many of the requests have lengths that no provider told.
    """

    def __init__(self, play: Play, block: int, *, shared: bool = True) -> None:
        self.parts = Parts(play)
        figures = (play.turns["input_tokens"], play.turns["output_tokens"])
        self.counted = sum(None in (figure[turn] for figure in figures) for turn in play.sent)
        self._play = play
        self._blocks = Blocks(block, own=play.name if shared else None)
        self._block = block

    def __iter__(self) -> Iterator[LaidPrompt]:
        play, blocks = self._play, self._blocks
        layouts: dict[int, tuple[int, Layout]] = {}  # by lane: the turn before, and its prompt
        for turn in play.sent:
            lane = play.turns["lane"][turn]
            parts = None
            if lane in layouts:
                before, layout = layouts[lane]
                parts = self.parts.added(before, turn)
            begins = parts is None
            if parts is None:
                layout, parts = blocks.empty(), self.parts.all(turn)
            tokens = max(1, play.input_tokens(turn))
            ids = blocks.extend(layout, parts, tokens, self.parts.prefix_tokens(turn))
            layouts[lane] = turn, layout
            yield LaidPrompt(turn, tokens, begins, ids, self._tail(turn, layout, tokens))

    def _tail(self, turn: int, layout: Layout, tokens: int) -> int | None:
        if not tokens % self._block:
            return None
        whole = tokens // self._block
        before = layout.blocks[max(0, whole - 1) : whole]
        # A prompt that ends elsewhere than its parts do is filled or cut like no other.
        rest = layout.rest if layout.length == tokens else (self._play.name, turn)
        return block_id("tail", before, rest)


def block_id(*what: object) -> int:
    """An id for what those values stand for, which must be plain: the same in every export."""
    digest = hashlib.blake2b(repr(what).encode(), digest_size=8, person=b"traj block")
    return int.from_bytes(digest.digest()) >> 1
