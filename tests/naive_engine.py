"""What the simulated engine should do, written for being read: token by token, block by block.

It shares no code and no idea with `traj.engine`: no sums, no tree, no heap. Every block is an entry
in a table, every step goes through all sequences, time is added up step by step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from traj.engine.parameters import Parameters
from traj.engine.request import Request


@dataclass(eq=False)
class Sequence:
    number: int
    request: Request
    arrival: int
    admitted: int | None = None
    first: int | None = None
    last: int | None = None
    cached: int | None = None
    preempted: int = 0
    said: int = 0  # tokens of the answer
    computed: int = 0  # tokens that blocks hold
    goal: int = 0  # tokens to compute before the next one is said
    decodes: bool = False
    shared: list[object] = field(default_factory=list)  # blocks from the front that others find
    own: int = 0  # blocks beyond

    def id(self, place: int) -> object:
        """What stands for the tokens up to the end of a block."""
        blocks, output = self.request.blocks, self.request.output_blocks
        if place < len(blocks):
            return blocks[place]
        place -= len(blocks)
        return (self.number, place) if output is None else output[place]


class NaiveEngine:
    def __init__(self, parameters: Parameters) -> None:
        self.p = parameters
        self.users: dict[object, int] = {}  # of every shared block
        self.unused: list[object] = []  # shared blocks without users, least recently used first
        self.own = 0  # blocks of one sequence alone
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []

    def run(self, requests: list[tuple[int, Request]]) -> list[Sequence]:
        """Requests with their arrivals (ps), in order. Gives all of them when they are done."""
        found = [Sequence(number, request, at) for number, (at, request) in enumerate(requests)]
        coming, now = list(found), 0
        while coming or self.waiting or self.running:
            if not self.waiting and not self.running:
                now = max(now, coming[0].arrival)
            while coming and coming[0].arrival <= now:
                self.waiting.append(coming.pop(0))
            now = self.step(now)
        return found

    def step(self, now: int) -> int:
        """One step, from one time to the next."""
        size, budget = self.p.block_tokens, self.p.max_batched_tokens
        lost = [one.preempted for one in (*self.running, *self.waiting)]
        for one in list(self.running):
            while one in self.running and one.decodes and one.computed % size == 0:
                if self.free() + len(self.unused):
                    self.take(one, 1)
                    break
                self.preempt(self.running[-1])
        scheduled = []
        for one in self.running:
            tokens = min(one.goal - one.computed, budget)
            budget -= tokens
            scheduled.append((one, tokens))
            self.share(one, one.computed + tokens)
        if lost == [one.preempted for one in (*self.running, *self.waiting)]:
            while self.waiting and budget and len(self.running) < self.p.max_batch:
                one = self.waiting[0]
                if not self.admit(one, now):
                    break
                tokens = min(one.goal - one.computed, budget)
                budget -= tokens
                scheduled.append((one, tokens))
                self.share(one, one.computed + tokens)
        now += self.span(scheduled)
        for one, tokens in scheduled:
            one.computed += tokens
            if one.computed < one.goal:
                continue
            one.decodes, one.said, one.goal = True, one.said + 1, one.goal + 1
            one.first = now if one.first is None else one.first
            if one.said == one.request.output_tokens:
                one.last = now
                self.leave(one)
        return now

    def span(self, scheduled: list[tuple[Sequence, int]]) -> int:
        costs = self.p.costs()
        span = costs.step
        for one, tokens in scheduled:
            span += costs.sequence
            if one.decodes:
                span += costs.context * one.goal
            else:
                span += costs.prefill * tokens
                for token in range(one.computed, one.computed + tokens):
                    span += costs.pair * (token + 1)
        return span

    def free(self) -> int:
        return self.p.kv_blocks - len(self.users) - self.own

    def take(self, one: Sequence, count: int) -> None:
        for _ in range(count):
            if not self.free():
                del self.users[self.unused.pop(0)]
            assert self.free() > 0
            self.own += 1
            one.own += 1

    def admit(self, one: Sequence, now: int) -> bool:
        size, goal = self.p.block_tokens, one.request.input_tokens + one.said
        hits: list[object] = []
        while (len(hits) + 1) * size < goal and one.id(len(hits)) in self.users:
            hits.append(one.id(len(hits)))
        needed = -(-goal // size) - len(hits)
        if needed > self.free() + len([block for block in self.unused if block not in hits]):
            return False
        self.waiting.remove(one)
        self.running.append(one)
        one.goal, one.computed, one.decodes = goal, len(hits) * size, False
        for block in hits:
            self.use(one, block)
        self.take(one, needed)
        if one.admitted is None:
            one.admitted, one.cached = now, one.computed
        return True

    def use(self, one: Sequence, block: object) -> None:
        if not self.users[block]:
            self.unused.remove(block)
        self.users[block] += 1
        one.shared.append(block)

    def share(self, one: Sequence, computed: int) -> None:
        """Has others find the whole blocks of a prompt that is complete with this step."""
        if not one.decodes and computed == one.goal:
            self.publish(one, computed)

    def publish(self, one: Sequence, computed: int) -> None:
        for place in range(len(one.shared), computed // self.p.block_tokens):
            block = one.id(place)
            if block not in self.users:
                self.users[block] = 0
                self.unused.append(block)
            self.own -= 1
            one.own -= 1
            self.use(one, block)

    def leave(self, one: Sequence) -> None:
        self.running.remove(one)
        self.publish(one, one.computed)
        self.own -= one.own
        one.own = 0
        for block in reversed(one.shared):
            self.users[block] -= 1
            if not self.users[block]:
                self.unused.append(block)
        one.shared.clear()

    def preempt(self, one: Sequence) -> None:
        self.leave(one)
        one.preempted += 1
        self.waiting.insert(0, one)
