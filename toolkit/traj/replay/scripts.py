"""Plays as bytes: all that the clock's process needs, made by another one ahead of time.

To make a play takes tokenizing and tens of milliseconds, in which no request could be sent in time.
So a process of its own makes scripts, some ahead, and hands them over as one message each.
"""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from msgspec import Struct

from traj.errors import UsageError
from traj.exporters.whole_prompts import WholePrompts
from traj.replay.apis import open_api

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Sequence

    from traj.replay.apis import Api
    from traj.replay.options import ReplayOptions
    from traj.workload.load import Load
    from traj.workload.play import Play
    from traj.workload.prompts import Prompts, Spoken


class Step(Struct, frozen=True, array_like=True):
    """One request of a script. Waits are places in `Script.steps`."""

    turn: int
    lane: int
    waits: list[int]
    delay_us: int
    input_tokens: int  # by the load's tokenizer
    cached_tokens: int  # of the whole messages that the prompt's front shares with earlier ones
    output_tokens: int  # as recorded
    head: bytes  # the request's beginning; what follows are slices of `Script.data`
    slices: list[int]  # start, stop, start, stop, ...


class Script(Struct, frozen=True, array_like=True):
    """One play; `data` holds each piece of its requests once."""

    place: int  # in the order of the run
    name: str
    trajectory_id: str
    phase: int
    number: int
    steps: list[Step]
    data: bytes

    def body(self, step: Step) -> bytes:
        """A request as it goes over the wire."""
        data, ends = memoryview(self.data), iter(step.slices)
        return b"".join((step.head, *(data[start : next(ends)] for start in ends)))


def scripts(
    load: Load, options: ReplayOptions, *, every: int = 1, first: int = 0
) -> Iterator[Script]:
    """The plays of a run in their order: the whole dataset, again and again if more are asked for,
    each time with prefixes of its own. `every` and `first`: for one process of several. Raises
    UsageError where there are none.
    """
    place = 0
    for number in count():
        found = False
        for play in load.plays(options.phase, numbers=(number,)):
            if not play.sent:
                continue
            found = True
            if options.trajectories is not None and place >= options.trajectories:
                return
            if place % every == first:
                yield script(play, place, options)
            place += 1
        if not found and number == 0:
            fits = f" that fits into {limit} tokens" if (limit := options.load.max_context) else ""
            raise UsageError(f"{load.dataset.path}: holds no answered request{fits}: none to send")
        if not found or (options.trajectories is None and not options.endless):
            return


def script(play: Play, place: int, options: ReplayOptions) -> Script:
    """One play as bytes."""
    assert play.prompts is not None

    prompts, whole, shared = play.prompts, WholePrompts(play), _Shared(play)
    api, forced = open_api(options.api), options.load.output == "forced"
    pieces = _Pieces(prompts, api)
    places = {turn: index for index, turn in enumerate(play.sent)}
    steps = []
    for turn in play.sent:
        spoken = whole.of(turn)
        steps.append(
            Step(
                turn,
                play.turns["lane"][turn],
                [places[wait] for wait in play.schedule.waits(turn)],
                play.delay_us(turn),
                play.input_tokens(turn),
                shared.tokens(turn, spoken),
                play.output_tokens(turn),
                api.head(options.model, play.output_tokens(turn), forced=forced),
                pieces.slices(turn, spoken),
            )
        )
    return Script(
        place, play.name, play.trajectory_id, play.phase, play.number, steps, pieces.data()
    )


class _Pieces:
    """Pieces of requests, each once, in the order of their first appearance: what one request says
    after another lies side by side."""

    def __init__(self, prompts: Prompts, api: Api) -> None:
        self._prompts, self._api = prompts, api
        self._known: dict[tuple[Hashable, str], tuple[int, int, str]] = {}
        self._pieces: list[bytes] = []
        self._size = 0

    def slices(self, turn: int, spoken: Sequence[Spoken]) -> list[int]:
        """Where a request's pieces lie: start, stop, start, stop, ..."""
        found: list[int] = []
        tools, before = self._prompts.tools(turn), ""
        if tools:
            self._join(found, (id(tools), "tools"), lambda: (self._api.tools(tools), ""))
        for one in spoken:
            before = self._join(found, (one, before), partial(self._message, one, before))
        self._join(found, (None, before), lambda: (self._api.close(before), ""))
        return found

    def data(self) -> bytes:
        return b"".join(self._pieces)

    def _message(self, one: Spoken, before: str) -> tuple[bytes, str]:
        return self._api.message(self._prompts.message(one), before)

    def _join(
        self, slices: list[int], key: tuple[Hashable, str], make: Callable[[], tuple[bytes, str]]
    ) -> str:
        known = self._known.get(key)
        if known is None:
            piece, leads = make()
            known = self._known[key] = self._size, self._size + len(piece), leads
            self._pieces.append(piece)
            self._size += len(piece)
        start, stop, leads = known
        if slices and slices[-1] == start:
            slices[-1] = stop
        else:
            slices += (start, stop)
        return leads


class _Shared:
    """What each prompt of a play has in common with the earlier ones, in whole messages from the
    front: what an engine's cache can hold of it, whatever its blocks and its template."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._after: dict[
            tuple[int, Spoken | str | None], int
        ] = {}  # nodes of a trie; 0 is its root
        self._last = 0

    def tokens(self, turn: int, spoken: Sequence[Spoken]) -> int:
        """Tokens of the longest shared front; the prompt joins the earlier ones."""
        play = self._play
        tools = play.turns["tools_id"][turn]
        shared, known = 0, True
        # Templates put tools first or into the first message: shared where that is shared too.
        pending = play.prompt_tokens.get(tools, 0) if tools is not None else 0
        node = self._after.setdefault((0, tools), self._last + 1)
        self._last = max(self._last, node)
        for one in spoken:
            following = self._after.get((node, one))
            if following is None:
                known = False
                self._last += 1
                following = self._after[node, one] = self._last
            elif known:
                shared, pending = shared + pending + self._spoken(turn, one), 0
            node = following
        return min(shared, play.input_tokens(turn))

    def _spoken(self, turn: int, one: Spoken) -> int:
        play, found = self._play, 0
        if one.number >= 0:
            found = play.messages["tokens"][one.number] + play.lengths.fills.get(one.number, 0)
            found -= 0 if one.reasoning else play.messages["reasoning_tokens"][one.number]
        if one.front is not None:
            prefix, kind, system = one.front
            found += play.prefixes.tokens() if prefix else 0
            found += play.lengths.fronts[kind] if kind else 0
            found += play.prompt_tokens[play.turns["system_id"][turn]] if system else 0
        return found
