"""What an engine would find in its cache: computed from what was written, prompt by prompt.

The engine is thought to keep everything, in blocks of B tokens, and to look prompts up from the
front. For a prompt of L tokens and a set of earlier prompts it finds

    floor(min(longest front shared with one of them, L - 1) / B) * B

tokens: whole blocks only, and the last token is always computed. The sets are
- `within`: the earlier prompts of the same play (a trajectory, played once),
- `across_trajectories`: the earlier prompts of other plays of the same phase,
- `across_phases`: all prompts of earlier phases.
A rate is the sum of what was found over the sum of L. Answers are in no set until a prompt repeats
them. Texts are counted each by itself, without a chat template; roles are not looked at. Two
prompts share no more than up to the first text in which they differ, and of that the tokens that
both begin with.

This holds an export to its promises, so it knows nothing of how the export was made: neither the
dataset's cached lengths nor the blocks and prefixes of other modules here.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from traj.build.tokens import Tokenizer
from traj.workload.prefix_trie import SCOPES, BlockTrie, Moment
from traj.workload.prompt_tree import ROOT, Part, PromptTree, Seen

BLOCK_SIZES = (16, 64, 128, 512)

__all__ = ["BLOCK_SIZES", "BlockPrompt", "CacheHits", "Part", "Prompt", "simulate"]


class Prompt(NamedTuple):
    """A prompt as text: its parts from the front on, or those that it adds to an earlier one."""

    phase: int
    play: str
    parts: Sequence[Part]
    after: int | None = None  # which prompt of the play it goes on from, counted from 0


class BlockPrompt(NamedTuple):
    """A prompt without text: ids of its whole blocks.

    Equal ids mean equal prompts up to the end of the block, in all plays and phases alike.
    """

    phase: int
    play: str
    blocks: Sequence[int]
    block_size: int
    tokens: int


@dataclass(frozen=True, slots=True)
class CacheHits:
    """What the cache held of all prompts, in tokens.

    `hit_tokens` is by block size and scope; without the block sizes that the prompts' own blocks
    cannot tell. `longest_tokens` is the most that one prompt shared, by scope, not rounded to
    blocks (but to the prompts' own): 0 where nothing was shared.
    """

    phases: int
    plays: int
    prompts: int
    tokens: int
    hit_tokens: dict[int, dict[str, int]]
    longest_tokens: dict[str, int]

    def rate(self, block_size: int, scope: str) -> float | None:
        """Share of the prompts' tokens that was found; None where it is unknown."""
        if not self.tokens or block_size not in self.hit_tokens:
            return None
        return round(self.hit_tokens[block_size][scope] / self.tokens, 6)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "phases": self.phases,
            "plays": self.plays,
            "prompts": self.prompts,
            "tokens": self.tokens,
            "longest_tokens": self.longest_tokens,
            "by_block_size": {
                str(size): {
                    scope: {"hit_tokens": tokens, "rate": self.rate(size, scope)}
                    for scope, tokens in hits.items()
                }
                for size, hits in self.hit_tokens.items()
            },
        }


def simulate(
    prompts: Iterable[Prompt | BlockPrompt],
    tokenizer: Tokenizer | None = None,
    read: Callable[[int], Sequence[str]] | None = None,
    block_sizes: Sequence[int] = BLOCK_SIZES,
) -> CacheHits:
    """Plays prompts in their order: phase after phase, all prompts of a play together.

    With `read`, which gives the texts of a part again by its `place`, no text is kept: a part is
    read again where another one begins like it. Prompts without text need no tokenizer. Raises
    ValueError for prompts out of order.
    """
    simulation = _Simulation(tokenizer, read, block_sizes)
    for prompt in prompts:
        simulation.add(prompt)
    return simulation.result()


class _Simulation:
    def __init__(
        self,
        tokenizer: Tokenizer | None,
        read: Callable[[int], Sequence[str]] | None,
        block_sizes: Sequence[int],
    ) -> None:
        self._now = Moment()
        self._tree = PromptTree(tokenizer, self._now, read) if tokenizer else None
        self._blocks = BlockTrie(self._now)
        self._phases = 0
        self._phase: int | None = None
        self._plays: set[str] = set()  # of the phase
        self._play: str | None = None
        self._nodes: list[int] = []  # of the play's prompts
        self._prompts = self._tokens = 0
        self._longest = [0] * len(SCOPES)
        self._hits = {size: [0] * len(SCOPES) for size in block_sizes}

    def add(self, prompt: Prompt | BlockPrompt) -> None:
        if prompt.phase != self._phase or prompt.play != self._play:
            self._begin(prompt.phase, prompt.play)
        if isinstance(prompt, BlockPrompt):
            size = prompt.block_size
            for known in [known for known in self._hits if known % size]:
                del self._hits[known]
            found = self._blocks.add(array("q", prompt.blocks))
            self._sum(Seen(prompt.tokens, [blocks * size for blocks in found]))
            return
        if self._tree is None:
            raise ValueError("prompts as text need a tokenizer")
        after = ROOT
        if prompt.after is not None:
            if not 0 <= prompt.after < len(self._nodes):
                raise ValueError(f"{prompt.play}: no prompt {prompt.after} to go on from")
            after = self._nodes[prompt.after]
        self._nodes.append(self._tree.add(after, prompt.parts))
        for seen in self._tree.settle():
            self._sum(seen)

    def result(self) -> CacheHits:
        for seen in self._tree.settle(now=True) if self._tree else ():
            self._sum(seen)
        return CacheHits(
            self._phases,
            self._now.play + 1,
            self._prompts,
            self._tokens,
            {size: dict(zip(SCOPES, hits, strict=True)) for size, hits in self._hits.items()},
            dict(zip(SCOPES, self._longest, strict=True)),
        )

    def _begin(self, phase: int, play: str) -> None:
        fresh = phase != self._phase
        if fresh and self._phase is not None and phase < self._phase:
            raise ValueError(f"phase {phase} comes after phase {self._phase}")
        if fresh:
            self._plays.clear()
            self._phases += 1
        if play in self._plays:
            raise ValueError(f"the prompts of play {play} in phase {phase} are not together")
        self._plays.add(play)
        self._phase, self._play = phase, play
        self._nodes.clear()
        self._now.begin(phase=fresh)
        if self._tree:
            self._tree.begin_play()

    def _sum(self, seen: Seen) -> None:
        self._prompts += 1
        self._tokens += seen.tokens
        for scope, shared in enumerate(seen.shared):
            usable = max(0, min(shared, seen.tokens - 1))
            if usable:
                self._longest[scope] = max(self._longest[scope], usable)
                for size, hits in self._hits.items():
                    hits[scope] += usable // size * size
