"""Requests into lanes: whose conversation each one goes on with, told by what prompts share.

All prompts are paths in one tree of messages (`Tree`); a lane is at the node of its last answer.

- A prompt that goes through a lane's node goes on with that lane; what lies behind is new.
- One that leaves a lane's path earlier, with the same tools or system prompt and not while the
  lane's last request is still running, is that lane in another context: a compaction where it
  brings an earlier answer's text along, a rewind where a user's message stands in the place of
  what came after, an edit otherwise. One that shares nothing is a compaction or a clear.
- Any other begins a lane: a sub-agent's where its first messages hold what a call, still without
  a result, says; a side lane otherwise.

The same text told twice is one message. An answer is known again by its text and its calls,
whatever became of its reasoning and of the spelling of arguments. Where an agent sends a call with
other arguments than the model's own, that is another message in the answer's place.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from traj.events import Lane, Message, Rebase, Session, Step, ToolRun, Turn
from traj.sources.requests.evidence import Asking, Summaries
from traj.sources.requests.likeness import (
    Front,
    alike,
    front_of,
    key_of,
    opening_of,
    retold,
    systems,
)
from traj.sources.requests.spoken import Asked, Exchange, Prompt, proper, reasoned
from traj.sources.requests.tree import Tree


def chain(session: Session, exchanges: Sequence[Exchange]) -> list[str | None]:
    """Appends the lanes of the exchanges to a session without any, and the times of their tools;
    gives the thread of each lane.

    Exchanges are taken by their start, those without one in the order given. Lane 0 is the one
    with the most requests of those that no call started.
    """
    order = sorted(range(len(exchanges)), key=lambda i: (exchanges[i].start_us or 0, i))
    if any(one.start_us is None for one in exchanges):
        order = list(range(len(exchanges)))
    chains = _Chains(session)
    for index in order:
        chains.add(exchanges[index])
    return chains.finish()


class _Chain(Struct):
    """A lane while it grows."""

    index: int
    thread: str | None
    front: Front
    lane: Lane
    node: int  # where it stands: the last message of its context
    messages: int = 0
    turns: int = 0
    end_us: int | None = None
    attempts: int = 0  # requests in a row that failed
    cancelled: bool = False
    compacts: bool = False  # its last request was for a summary, as the agent says
    asks: bool = False  # its last answer asks for tools
    asked: tuple[str, ...] = ()  # ids of the calls that it asks for
    thought: bool = False  # one of its answers had reasoning


class _Chains:
    """The lanes of a log, as far as it has been read."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tree = Tree()
        self._chains: list[_Chain] = []
        self._at: dict[int, _Chain] = {}  # by the node where it stands
        self._ends: dict[tuple[int, Prompt], int] = {}  # of beginnings behind a node
        self._answers: dict[str, int] = {}  # nodes by response id
        self._asking = Asking()
        self._summaries = Summaries()

    def add(self, exchange: Exchange) -> None:
        asked = exchange.asked
        before = self._answers.get(asked.follows or "")
        if asked.follows is not None and before is None:
            self._session.lose("unknown_prior_response")
        root = self._tree.root(exchange.thread) if before is None else before
        node, new = self._known(root, asked)
        chain = self._place(exchange, node, new)
        self._bring(chain, exchange, new)
        self._turn(chain, exchange)

    def _known(self, root: int, asked: Asked) -> tuple[int, list[Message]]:
        """The end of the known part of a prompt, and what is behind it. Beginnings that were
        found once are not looked for again."""
        sections: list[Prompt] = []
        section = asked.before
        while section is not None and (root, section) not in self._ends:
            sections.append(section)
            section = section.before
        node = root if section is None else self._ends[root, section]
        while sections:
            section = sections.pop()
            node, count = self._tree.walk(node, map(key_of, section.messages))
            if count < len(section.messages):
                new = [*section.messages[count:]]
                for behind in reversed(sections):
                    new += behind.messages
                return node, [*new, *asked.messages]
            self._ends[root, section] = node
        node, count = self._tree.walk(node, map(key_of, asked.messages))
        return node, [*asked.messages[count:]]

    def _place(self, exchange: Exchange, node: int, new: Sequence[Message]) -> _Chain:
        """The lane that a request belongs to, at the end of the known part of its prompt."""
        going_on = self._at.get(node)
        if going_on is not None and not _busy(going_on, exchange):
            return going_on
        # More than the agent's instructions is shared.
        spoken = self._tree.depth(node) > systems(exchange)
        owner = self._chains[self._tree.places[node][0]] if spoken else None
        front = front_of(exchange)
        call = None if spoken else self._asking.started(opening_of(exchange))
        if owner is None and call is None:
            owner = self._idle(exchange, front, new)
        if owner is not None and not _busy(owner, exchange) and alike(owner.front, front):
            self._rebase(owner, node, self._reason(owner, node, new, spoken=spoken))
            return owner
        lane = Lane("side")
        if call is not None:
            joined = call if self._asking.waits(call) else None
            lane = Lane("subagent", spawned_by=call, joined_by=joined)
        elif not spoken and front[0] is not None and any(one.asks for one in self._chains):
            lane = Lane("subagent")
        root = self._tree.root(exchange.thread)
        chain = _Chain(len(self._chains), exchange.thread, front, lane, root)
        self._chains.append(chain)
        if node >= 0:
            self._rebase(chain, node, None)
        return chain

    def _idle(self, exchange: Exchange, front: Front, new: Sequence[Message]) -> _Chain | None:
        """The lane that may have been compacted or cleared: the same agent, waiting for nothing."""
        brought = self._summaries.brought(new)
        likely = [
            one
            for one in self._chains
            if one.thread == exchange.thread
            and (one.front == front or (brought and alike(one.front, front)))
            and one.lane.spawned_by is None
            and not _busy(one, exchange)
        ]
        latest = max(likely, key=lambda one: (one.end_us or 0, one.index), default=None)
        if latest is None or (latest.asks and not brought):
            return None
        return latest

    def _reason(
        self, chain: _Chain, node: int, new: Sequence[Message], *, spoken: bool
    ) -> str | None:
        before = self._tree.parent(chain.node)
        same = node == before or (node < 0 and before < 0)
        if same and (chain.cancelled or retold(chain.asked, new)):
            return None  # what was said until then is told otherwise or not: the same context
        if chain.compacts or self._summaries.brought(new):
            return "compaction"
        if not spoken:
            return "clear"
        return "rewind" if not new or new[0].role == "user" else "edit"

    def _rebase(self, chain: _Chain, node: int, reason: str | None) -> None:
        self._at.pop(chain.node, None)
        chain.lane.steps.append(Rebase(reason, self._tree.ranges(node)))
        chain.node = node

    def _bring(self, chain: _Chain, exchange: Exchange, new: Sequence[Message]) -> None:
        """Adds what is new in a prompt to its lane."""
        person = chain.turns > 0 and not chain.asks
        for message in new:
            if message.role == "tool" and message.tool_call_id is not None:
                self._ran(message.tool_call_id, exchange)
            typed = person and message.role == "user"
            placed = replace(
                proper(message),
                file=exchange.file,
                line=exchange.line,
                by_person=typed,
                time_us=exchange.start_us if typed else None,
            )
            self._append(chain, key_of(message), exchange)
            chain.lane.steps.append(placed)

    def _append(self, chain: _Chain, key: Hashable, exchange: Exchange) -> None:
        node = chain.node if chain.node >= 0 else self._tree.root(exchange.thread)
        self._at.pop(node, None)
        chain.node = self._tree.grow(node, key, (chain.index, chain.messages))
        chain.messages += 1

    def _ran(self, call: str, exchange: Exchange) -> None:
        """A call's result has come: it ran between the answer that asked and this request."""
        since = self._asking.answer(call)
        if since is not None and exchange.start_us is not None:
            run = ToolRun(since, max(since, exchange.start_us), "derived")
            self._session.tool_runs.setdefault(call, run)

    def _turn(self, chain: _Chain, exchange: Exchange) -> None:
        asked, answered = exchange.asked, exchange.answered
        status = "error" if answered.error else "ok" if answered.complete else "cancelled"
        message = None if status == "error" else answered.message
        if message is not None:
            message = replace(
                proper(message, "assistant"),
                time_us=exchange.end_us,
                file=exchange.file,
                line=exchange.line,
            )
        elif status == "ok":
            self._session.lose("answer_not_recorded")
        turn = Turn(
            answer=message,
            api=asked.api,
            model=answered.model or asked.model,
            response_id=answered.response_id,
            usage=answered.usage,
            start_us=exchange.start_us,
            first_token_us=exchange.first_token_us,
            answer_us=exchange.first_token_us,
            end_us=exchange.end_us,
            clock=exchange.clock,
            system=asked.system,
            tools=asked.tools,
            earlier_reasoning=_reasoning(chain, exchange),
            stop_reason=answered.stop_reason,
            status=status,
            error=answered.error,
            attempt=chain.attempts,
            sampling=asked.sampling,
            file=exchange.file,
            line=exchange.line,
        )
        chain.lane.steps.append(turn)
        chain.turns += 1
        chain.front = front_of(exchange)
        chain.attempts = chain.attempts + 1 if status == "error" else 0
        chain.cancelled = status == "cancelled" and message is not None
        chain.end_us = exchange.end_us
        chain.compacts = exchange.compacts
        chain.asked = () if message is None else tuple(call.id for call in message.tool_calls)
        chain.asks = bool(chain.asked)
        if message is not None:
            self._append(chain, key_of(message), exchange)
            self._asking.ask(message, exchange.end_us)
            self._summaries.add(message)
            chain.thought |= message.reasoning is not None
        if chain.node >= 0:
            self._at[chain.node] = chain
            if answered.response_id is not None:
                self._answers[answered.response_id] = chain.node

    def finish(self) -> list[str | None]:
        """Gives the session its lanes, the main agent's first."""
        free = [one for one in self._chains if one.lane.spawned_by is None]
        main = max(free or self._chains, key=lambda one: (one.turns, -one.index), default=None)
        if main is None:
            return []
        main.lane.kind = "main"
        order = [main, *(one for one in self._chains if one is not main)]
        number = {one.index: place for place, one in enumerate(order)}
        for one in order:
            one.lane.steps = [_renumbered(step, number) for step in one.lane.steps]
        self._session.lanes += [one.lane for one in order]
        return [one.thread for one in order]


def _renumbered(step: Step, number: dict[int, int]) -> Step:
    if not isinstance(step, Rebase):
        return step
    return Rebase(step.reason, tuple((number[a], b, c) for a, b, c in step.ranges))


def _reasoning(chain: _Chain, exchange: Exchange) -> str:
    """Whether the reasoning of earlier answers was sent with them."""
    if reasoned(exchange.asked.before, exchange.asked.messages):
        return "kept"
    if exchange.asked.encrypted:
        return "encrypted"
    return "dropped" if chain.thought else "unknown"


def _busy(chain: _Chain, exchange: Exchange) -> bool:
    """Whether the lane's last request was still running."""
    start, end = exchange.start_us, chain.end_us
    return start is not None and end is not None and start < end
