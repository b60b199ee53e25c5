"""Check of the ideal cache: its lengths computed anew from the definition.

A prompt is a sequence of parts: tool definitions, system prompt, messages. The ideal cache holds
every prefix, in whole parts, of every earlier prompt of the trajectory, each followed by its
answer. Here a prefix is known by a hash chained over its parts, and the cache is the set of these
hashes: the cached length of a prompt is that of its longest prefix in the set.

An answer is cached as it was generated, with its reasoning. A later prompt that sends it without
reasoning has another part in that place, which is cached only once such a prompt has been sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from traj.validation.order import with_text
from traj.validation.report import Check, Fault, faults

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traj.validation.tables import Tables

TURN = ("trajectory_id", "turn")
Range = dict[str, int]  # start, stop
Key = tuple[int, str | None, str | None, bool]  # lane, tools_id, system_id, reasoning kept


@dataclass(frozen=True, slots=True)
class Message:
    """What the ideal cache needs to know of a message."""

    sha256: str
    tokens: int
    reasoning_tokens: int

    def part(self, kept: bool) -> tuple[str, bool]:
        """What tells this part of a prompt from others: the text, and whether it was stripped."""
        return self.sha256, not kept and self.reasoning_tokens > 0

    def length(self, kept: bool) -> int:
        return self.tokens if kept else self.tokens - self.reasoning_tokens


@dataclass(slots=True)
class _Prompt:
    """A prompt's prefixes: after none, one, … of its parts their chained hash and their length.
    The first `front` parts are not messages.
    """

    front: int
    ranges: Sequence[Range]
    hashes: list[int]
    tokens: list[int]

    def add(self, part: tuple[str, bool], tokens: int) -> None:
        self.hashes.append(hash((self.hashes[-1], part)))
        self.tokens.append(self.tokens[-1] + tokens)


class IdealCache:
    """The ideal cache of one trajectory. Turns are to come in their order."""

    def __init__(self, messages: Sequence[Message], prompts: dict[str, int]) -> None:
        self._messages = messages
        self._prompts = prompts  # tokens by prompt_id
        self._seen = {0}
        # Prompts of one lane, prompts and treatment of reasoning mostly extend one another: only
        # what the last such prompt did not have is hashed, so a session costs linear time.
        self._last: dict[Key, _Prompt] = {}

    def send(self, key: Key, ranges: Sequence[Range], output: int | None) -> int:
        """Sends a prompt, and gives the length of its longest prefix that was cached.

        Raises LookupError for a range, a prompt or an output that is not there.
        """
        kept = key[3]
        if any(not 0 <= one["start"] < one["stop"] <= len(self._messages) for one in ranges):
            raise IndexError
        prompt = self._last.get(key) or self._begin(key)
        self._last[key] = prompt
        same = _shared(prompt.ranges, ranges)
        del prompt.hashes[prompt.front + same + 1 :], prompt.tokens[prompt.front + same + 1 :]
        prompt.ranges = ranges
        for message in self._after(ranges, same):
            prompt.add(message.part(kept), message.length(kept))
        return self._look_up(prompt, prompt.front + same, output)

    def _look_up(self, prompt: _Prompt, depth: int, output: int | None) -> int:
        # Every prefix of a cached prefix is cached, so the first unknown one ends the search.
        while depth and prompt.hashes[depth] not in self._seen:
            depth -= 1
        while depth + 1 < len(prompt.hashes) and prompt.hashes[depth + 1] in self._seen:
            depth += 1
        self._seen.update(prompt.hashes[depth + 1 :])
        if output is not None:
            self._seen.add(hash((prompt.hashes[-1], self._messages[output].part(kept=True))))
        return prompt.tokens[depth]

    def _begin(self, key: Key) -> _Prompt:
        prompt = _Prompt(0, [], [0], [0])
        for prompt_id in key[1:3]:
            if prompt_id is not None:
                prompt.add((prompt_id, False), self._prompts[prompt_id])
                prompt.front += 1
        return prompt

    def _after(self, ranges: Sequence[Range], skip: int) -> Iterator[Message]:
        """The messages of a prompt but for its first `skip`."""
        for one in ranges:
            start, stop = one["start"], one["stop"]
            skipped = min(skip, stop - start)
            skip -= skipped
            yield from self._messages[start + skipped : stop]


def cached_lengths(tables: Tables) -> Iterator[Fault]:
    """counted_cached_tokens is the length of the longest prefix, in whole parts, that the turn
    shares with an earlier turn of its trajectory and that turn's answer.
    """
    import polars as pl

    tables.need_text()
    rows = tables.frame("turns", [*TURN, "counted_cached_tokens"]).sort(TURN)
    found = pl.Series(_ideal(tables), dtype=pl.Int64)
    rows = with_text(tables, rows.with_columns(found=found))
    bad = rows.filter(
        pl.col("found").is_not_null(), pl.col("counted_cached_tokens").ne_missing(pl.col("found"))
    )
    what = "counted_cached_tokens is not what an ideal cache would hold"
    yield from faults("turns", bad, what, show=["counted_cached_tokens", "found"])


def _ideal(tables: Tables) -> list[int | None]:
    """Ideal cached lengths of the part's turns in the order of trajectory and turn; None for all
    turns of a trajectory of which a prompt cannot be put together (other checks report why).
    """
    columns = ["lane", "tools_id", "system_id", "earlier_reasoning", "input", "output"]
    turns = tables.frame("turns", [*TURN, *columns]).sort(TURN)
    fronts = tables.frame("prompts", ["prompt_id", "tokens"])
    prompts = dict(fronts.iter_rows())
    messages = _messages(tables)
    found: list[int | None] = []
    for trajectory_id, own in groupby(turns.iter_rows(), itemgetter(0)):
        cache = IdealCache(messages.get(trajectory_id, ()), prompts)
        found.extend(_of_trajectory(cache, list(own)))
    return found


def _of_trajectory(cache: IdealCache, turns: list[tuple[Any, ...]]) -> list[int | None]:
    found: list[int | None] = []
    try:
        for _, _, lane, tools_id, system_id, reasoning, ranges, output in turns:
            key = (lane, tools_id, system_id, reasoning == "kept")
            found.append(cache.send(key, ranges, output))
    except (LookupError, TypeError):  # something is not there, or null
        return [None] * len(turns)
    return found


def _messages(tables: Tables) -> dict[str, list[Message]]:
    """Messages by trajectory, each at the index that is its number. A trajectory whose messages
    are not numbered densely has none here.
    """
    columns = ["sha256", "tokens", "reasoning_tokens"]
    rows = tables.frame("messages", ["trajectory_id", "message", *columns])
    found: dict[str, list[Message]] = {}
    for trajectory_id, own in groupby(
        rows.sort("trajectory_id", "message").iter_rows(), itemgetter(0)
    ):
        numbered = list(own)
        if all(row[1] == index for index, row in enumerate(numbered)):
            found[trajectory_id] = [Message(*row[2:]) for row in numbered]
    return found


def _shared(before: Sequence[Range], now: Sequence[Range]) -> int:
    """How many messages two prompts begin with in common, by number."""
    shared = 0
    for one, other in zip(before, now, strict=False):
        if one["start"] != other["start"]:
            break
        shared += min(one["stop"], other["stop"]) - one["start"]
        if one["stop"] != other["stop"]:
            break
    return shared


CHECKS = (Check(cached_lengths),)
