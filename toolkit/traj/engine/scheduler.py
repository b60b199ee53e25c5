"""Continuous batching in virtual time: which sequences share a step, and when it ends.

The rules are vLLM's (0.32, first come first served): running sequences go first, one token each,
and a prompt that did not fit into the step before goes on; waiting ones are let in while the step
has room for tokens and the cache for their whole prompt; whole blocks are shared, and the last
token of a prompt is always computed. Where decoding finds no block, the sequence let in last loses
its own and waits in front, its answer so far being part of its prompt. What differs: a prompt takes
all its blocks when it is let in, not chunk by chunk.

Nothing is done for each token. All decoding sequences advance by one token a step, so an answer's
end is a tick known beforehand; their contexts are one sum, and where in a block they stand is
counted by residue. Steps in which nothing begins or ends are taken together, as one arithmetic
series in whole picoseconds, and the result is the same as one by one.
"""

from __future__ import annotations

import heapq
from collections import deque

from traj.engine.cache import Found, PrefixCache
from traj.engine.parameters import Parameters
from traj.engine.request import Progress
from traj.engine.series import Series

_OWN = 1 << 40  # ids from one sequence's own blocks to the next one's, all below zero


class Engine:
    """One replica. `begin` starts a step or several at a time not before the last one's end,
    `complete` ends them; between the two, requests are submitted with the time of their arrival.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.cache = PrefixCache()
        self.waiting: deque[Progress] = deque()
        self.running: dict[Progress, None] = {}  # in the order in which they were let in
        self.ends_ps: int | None = None  # of the step or steps that are under way
        self.ticks = 0  # steps that are over
        self.busy_ps = 0  # time spent in them
        self.preemptions = 0
        self._costs = parameters.costs()
        self._begun_ps = 0
        self._taken = 0  # steps under way
        self._series = Series(0)
        self._prefills: list[tuple[Progress, int]] = []  # in the step, with their tokens
        self._partial: Progress | None = None  # prompt that goes on in the next step
        self._blocked = False  # nobody can be let in until somebody ends
        self._admissions = 0
        self._private = 0  # blocks that are not in the cache
        self._decoding = 0
        self._context = 0  # tokens that the next step's decoding reads
        self._phases = [0] * parameters.block_tokens  # who needs a block at ticks of that residue
        self._ends: list[tuple[int, int, Progress]] = []  # last ticks; some outdated
        self._aborted: list[Progress] = []

    @property
    def used_blocks(self) -> int:
        """Blocks that running sequences use."""
        return self._private + self.cache.blocks - self.cache.idle

    @property
    def held_blocks(self) -> int:
        """Blocks that are not free: used, or kept for later prompts."""
        return self._private + self.cache.blocks

    def generated(self, progress: Progress) -> int:
        """Tokens of its answer that are there."""
        return self.ticks - progress.base if progress.last_tick >= 0 else progress.generated

    def submit(self, progress: Progress, at_ps: int) -> None:
        """Queues a request that `Parameters.refusal` has nothing against."""
        progress.arrived_ps = at_ps
        self.waiting.append(progress)
        if self._taken > 1 and not self._blocked:
            # It may be let in when the step that it falls into is over.
            self._take(min(self._taken, self._series.until(at_ps - self._begun_ps)))

    def abort(self, progress: Progress) -> None:
        """Drops a request when the step under way ends; one that is over already is left alone."""
        self._aborted.append(progress)

    def begin(self, now_ps: int, most: int | None = None) -> None:
        """Starts the next step, and with it all that are like it, `most` at the most."""
        assert self.ends_ps is None
        self._begun_ps = now_ps
        self._drop_aborted()
        self._grow()
        self._prefills.clear()
        budget = self.parameters.max_batched_tokens - self._decoding
        if self._partial is not None:
            budget -= self._prefill(self._partial, budget)
        # Whoever lost its blocks just now does not fit: it would have kept them.
        while self.waiting and not self._blocked and self._partial is None and budget:
            admitted = self._admit()
            if admitted is not None:
                budget -= self._prefill(admitted, budget)
        if self.running:
            self._series = self._cost()
            self._take(1 if self._prefills else self._alike(most))

    def complete(self) -> list[Progress]:
        """Ends what was begun. Gives the requests that are finished, in the order of admission."""
        assert self.ends_ps is not None
        now, taken = self.ends_ps, self._taken
        self._grow_by(self._demand(taken))
        self.ticks += taken
        self.busy_ps += now - self._begun_ps
        self._context += self._decoding * taken
        self.ends_ps, self._taken = None, 0
        finished = []
        while self._ends and self._ends[0][0] <= self.ticks:
            tick, _, progress = heapq.heappop(self._ends)
            if progress.last_tick == tick:
                finished.append(progress)
                progress.last_ps = now
                self._leave(progress)
        for progress, tokens in self._prefills:
            progress.left -= tokens
            if not progress.left and self._decode(progress, now):
                finished.append(progress)
        return finished

    def _take(self, count: int) -> None:
        """Has so many steps be under way."""
        self._taken = count
        self.ends_ps = self._begun_ps + self._series.span_ps(count)

    def _cost(self) -> Series:
        """What the step takes that begins, and those after it if they are of decoding alone."""
        costs, decoding = self._costs, self._decoding
        first = costs.step + costs.sequence * (decoding + len(self._prefills))
        first += costs.context * self._context
        for progress, tokens in self._prefills:
            before = progress.length - progress.left
            pairs = tokens * before + tokens * (tokens + 1) // 2
            first += costs.prefill * tokens + costs.pair * pairs
        return Series(first, costs.context * decoding)

    def _alike(self, most: int | None) -> int:
        """How many steps of decoding can be taken before something else happens."""
        while self._ends[0][2].last_tick != self._ends[0][0]:
            heapq.heappop(self._ends)
        count = self._ends[0][0] - self.ticks
        if most is not None:
            count = min(count, most)
        room = self._room()
        if self._decoding * (1 + (count - 1) // self.parameters.block_tokens) <= room:
            return count
        while self._demand(count) > room:  # the first step has its blocks already
            count -= max(1, (self._demand(count) - room) // self._decoding)
        return count

    def _demand(self, count: int) -> int:
        """Blocks that so many steps need, but for the first of them."""
        size = self.parameters.block_tokens
        rounds, more = divmod(count - 1, size)
        start = (self.ticks + 1) % size
        demand = rounds * self._decoding + sum(self._phases[start : start + more])
        return demand + sum(self._phases[: max(0, start + more - size)])

    def _room(self) -> int:
        """Blocks that can be had."""
        return self.parameters.kv_blocks - self._private - self.cache.blocks + self.cache.idle

    def _grow_by(self, count: int) -> None:
        """Takes blocks, free ones first."""
        self._private += count
        over = self._private + self.cache.blocks - self.parameters.kv_blocks
        if over > 0:
            self.cache.evict(over)

    def _grow(self) -> None:
        """Gives those their block who begin one in this step; who came last makes room for it."""
        phase = self.ticks % self.parameters.block_tokens
        while self._phases[phase] > self._room():
            self._preempt(next(reversed(self.running)))
        self._grow_by(self._phases[phase])

    def _admit(self) -> Progress | None:
        """Lets in who waits longest, if there is room."""
        progress, size = self.waiting[0], self.parameters.block_tokens
        length = progress.request.input_tokens + progress.generated
        found = self._find(progress, (length - 1) // size)
        needed = -(-length // size) - found.blocks
        full = len(self.running) >= self.parameters.max_batch
        if full or needed > self._room() - found.idle:
            self._blocked = True
            return None
        self.waiting.popleft()
        self.running[progress] = None
        progress.held, progress.kept = self.cache.hold(found), found.blocks
        progress.length, progress.left = length, length - found.blocks * size
        progress.private = needed
        self._grow_by(needed)
        self._admissions += 1
        progress.admission = self._admissions
        if progress.admitted_ps is None:
            progress.admitted_ps = self._begun_ps
            progress.cached_tokens = found.blocks * size
            own = progress.request.output_blocks
            start = -self._admissions * _OWN
            progress.own_ids = range(start, start + _OWN) if own is None else own
        return progress

    def _find(self, progress: Progress, most: int) -> Found:
        blocks = progress.request.blocks
        found = self.cache.find(blocks, min(most, len(blocks)))
        if progress.generated and found.blocks == len(blocks) < most:
            most = min(most - len(blocks), len(progress.own_ids))
            found = self.cache.find(progress.own_ids, most, found)
        return found

    def _prefill(self, progress: Progress, budget: int) -> int:
        """Computes as much of a prompt in this step as there is room for. Gives the tokens."""
        tokens = min(progress.left, budget)
        self._prefills.append((progress, tokens))
        self._partial = progress if tokens < progress.left else None
        if self._partial is None:
            # Its blocks are there for whoever comes after it, be it in the same step.
            self._keep(progress, progress.length // self.parameters.block_tokens)
        return tokens

    def _decode(self, progress: Progress, now_ps: int) -> bool:
        """The prompt's last step gave a token. Whether that was all."""
        if progress.first_ps is None:
            progress.first_ps = now_ps
        progress.generated += 1
        request = progress.request
        progress.base = self.ticks - progress.generated
        progress.last_tick = progress.base + request.output_tokens
        self._decoding += 1
        self._context += progress.length + 1
        self._phases[self._phase(progress)] += 1
        if progress.last_tick == self.ticks:
            progress.last_ps = now_ps
            self._leave(progress)
            return True
        heapq.heappush(self._ends, (progress.last_tick, progress.admission, progress))
        return False

    def _phase(self, progress: Progress) -> int:
        """The residue of the ticks at which it begins a block."""
        return (progress.base + 1 - progress.request.input_tokens) % self.parameters.block_tokens

    def _preempt(self, progress: Progress) -> None:
        self._leave(progress)
        progress.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(progress)

    def _leave(self, progress: Progress) -> None:
        """Takes a sequence out of the batch; its blocks stay as long as there is room for them."""
        del self.running[progress]
        self._blocked = False
        size = self.parameters.block_tokens
        if progress.last_tick >= 0:
            self._decoding -= 1
            self._phases[self._phase(progress)] -= 1
            progress.generated = self.ticks - progress.base
            computed = progress.request.input_tokens + progress.generated
            self._context -= computed
            computed -= 1
            progress.private += -(-computed // size) - -(-progress.length // size)
            progress.last_tick = -1
        else:
            computed = progress.length - progress.left
            self._partial = None
        self._keep(progress, computed // size)
        self._private -= progress.private
        assert progress.held is not None
        self.cache.release(progress.held)
        progress.held, progress.private, progress.kept = None, 0, 0

    def _keep(self, progress: Progress, whole: int) -> None:
        """Puts the first blocks of a sequence where later prompts find them."""
        blocks = progress.request.blocks
        for ids, start in ((blocks, 0), (progress.own_ids, len(blocks))):
            stop = min(whole, start + len(ids))
            if start <= progress.kept < stop:
                assert progress.held is not None
                span = (progress.kept - start, stop - start)
                progress.held = self.cache.add(progress.held, ids, *span)
                progress.private -= stop - progress.kept
                self._private -= stop - progress.kept
                progress.kept = stop

    def _drop_aborted(self) -> None:
        for progress in self._aborted:
            if progress in self.running:
                self._leave(progress)
            elif progress in self.waiting:
                self.waiting.remove(progress)
                self._blocked = False
        self._aborted.clear()
