"""aiperf's `dag_jsonl` (aiperf >= 0.13): the recorded text, as conversations that start each other.

A line is a conversation with `context_mode: deltas_with_responses`: a turn holds what its prompt
adds to the one before, the recorded answer included, so the file grows with the session and every
request has exactly the recorded messages. Where a prompt does not extend the one before
(compaction, rewind, edited history, other system prompt), the lane goes on in a new conversation
that starts with its whole prompt. `conversations` decides what starts and joins what.

Times as aiperf 0.13 keeps them, each found by running it:
- `delay` of a turn counts from the completion of the turn before: exact.
- `delay` of a conversation's first turn is ignored. So a conversation that starts late, and those
  that follow each other in one lane, hang on a request-free orchestrator whose rounds wait for
  each other and then for `think_time_ms`: exact.
- What was started and is awaited by nobody is lost, and the run hangs, where it still has a delay
  before it when the last turn of the last root is sent. So nothing is started and forgotten: a
  trajectory's root ends when all of it has ended, and `wait_added` counts what that takes.
- `delay` of a turn that waits for other conversations is ignored when it has to wait. So it is
  spent before the last request of what it waits for: the turn itself is sent when it should be,
  that other request later by as much. Counted as `join_delay`.

`sessions.jsonl` says which recorded turns a conversation holds: aiperf's `conversation_id` and
`turn_index` lead back to the dataset.
"""

from __future__ import annotations

import shlex
from typing import IO, TYPE_CHECKING, Any

from traj.errors import UsageError
from traj.exporters.tally import Tally
from traj.workload import chat
from traj.workload.conversations import Conversation, Conversations
from traj.workload.schedule import Run, Schedule, spawned_lanes
from traj.workload.turns import Columns, added

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from traj.dataset import Dataset, Rows
    from traj.exporters import ExportOptions
    from traj.workload.conversations import Group

NAME = "aiperf-dag"
SUMMARY = "aiperf dag_jsonl: recorded text, tools, delays, forced output lengths, sub-agents"
CARRIES = (
    "every answered request with its messages and tool calls",
    "tool definitions",
    "output lengths",
    "delays",
    "sub-agents and side requests, where they start and who waits for them",
)
DROPS = {
    "attachment": "images and documents are not stored, so their messages go without them",
    "failed_turn": "no answer is recorded; the time it took is part of the next request's delay",
    "hidden_reasoning": "earlier reasoning was sent in encrypted form, which the record lacks",
    "join_delay": "aiperf sends a turn at once when what it waited for ends; the delay is spent "
    "before the last request of what it waits for",
    "model": "one model answers: those of a trajectory that used several are not told apart",
    "system_role": "aiperf takes system messages at a prompt's start alone; later ones go as user",
    "tool_definition": "a provider's own tool has no form in a chat-completions request",
    "unseen_input": "contexts whose prompt was longer than what the record holds of it",
    "wait": "requests that waited for something which conversations cannot express",
    "wait_longer": "requests that waited for part of what a sub-agent did wait for all of it",
    "wait_added": "aiperf waits for all that a turn starts before the conversation ends; what "
    "nobody waited for is awaited by a turn that came after it in the record",
}
FILE = "dag.jsonl"
SESSIONS = "sessions.jsonl"

TURNS = (
    *("lane", "wait_for", "start_us", "end_us", "delay_us", "output", "input"),
    *("earlier_reasoning", "system_id", "tools_id", "model", "usage_source", "output_tokens"),
    *("counted_input_tokens", "counted_cached_tokens", "counted_output_tokens"),
    "unseen_input_tokens",
)


def command(tally: Tally, options: ExportOptions) -> str:
    """Run in the export's folder, with URL, MODEL and TOKENIZER set."""
    model = shlex.quote(options.model) if options.model else '"$MODEL"'
    return (
        f'aiperf profile --model {model} --url "$URL" --tokenizer "$TOKENIZER" '
        f"--endpoint-type chat --streaming --use-server-token-count "
        f"--input-file {FILE} --custom-dataset-type dag_jsonl "
        f"--dataset-sampling-strategy sequential "
        f"--concurrency 1 --num-sessions {tally.trajectories}"
    )


def write(dataset: Dataset, out: Path, options: ExportOptions) -> Tally:
    """Writes dag.jsonl and sessions.jsonl.

    Raises UsageError for a dataset without text.
    """
    if not dataset.files("messages"):
        raise UsageError(f"{dataset.path}: a dataset without text cannot be exported to {NAME}")
    tally = Tally()
    fronts = chat.Fronts(dataset)
    columns: dict[str, Sequence[str]] = {
        "trajectories": ("trajectory_id",),
        "turns": TURNS,
        "messages": chat.COLUMNS,
        "tool_calls": ("turn", "spawned_lane"),
    }
    with (out / FILE).open("wb") as lines, (out / SESSIONS).open("wb") as sessions:
        for rows in dataset.trajectories(split=options.split, columns=columns):
            _Writer(rows, fronts, tally, lines, sessions).write()
    return tally


class _Writer:
    """Writes one trajectory."""

    def __init__(
        self,
        rows: Rows,
        fronts: chat.Fronts,
        tally: Tally,
        lines: IO[bytes],
        sessions: IO[bytes],
    ) -> None:
        self.name = rows.trajectory_id
        self.turns = Columns(rows.turns, TURNS)
        self.messages = chat.Messages(rows.messages)
        self.fronts = fronts
        self.tally = tally
        self.lines = lines
        self.sessions = sessions
        self.schedule = Schedule(self.turns, spawned_lanes(rows.tool_calls))
        self.plan = Conversations(self.schedule, self._extends)

    def write(self) -> None:
        roots = self.schedule.root.children
        if not roots:
            self._count()
            return
        if len(roots) == 1:
            self._run(roots[0], self.name, 0)
        else:
            first = min(self._delay(run.turns[0]) for run in roots if not run.after)
            rounds = self._rounds(self.plan.groups(roots), self.name, first)
            self._orchestrate(self.name, rounds)
        self._count()

    def _count(self) -> None:
        tally, turns = self.tally, self.turns
        sent = [turn for run in self.schedule.runs for turn in run.turns]
        tally.trajectory(
            len(sent),
            sum(turns["counted_input_tokens"][turn] or 0 for turn in sent),
            sum(turns["counted_cached_tokens"][turn] or 0 for turn in sent),
        )
        tally.lose("failed_turn", self.schedule.failed)
        tally.lose("wait", self.schedule.lost_waits + self.plan.lost_waits)
        tally.lose("wait_longer", self.schedule.longer_waits + self.plan.longer_waits)
        tally.lose("wait_added", self.plan.added_waits)
        tally.lose("join_delay", self.plan.moved_delays)
        tally.lose("attachment", self.messages.attachments())
        hidden = [turns["earlier_reasoning"][turn] == "encrypted" for turn in sent]
        tally.lose("hidden_reasoning", sum(hidden))
        tally.lose("model", len({turns["model"][turn] for turn in sent}) > 1)
        tally.lose("unseen_input", sum((turns["unseen_input_tokens"][x] or 0) > 0 for x in sent))
        used = {turns["tools_id"][turn] for turn in sent}
        tally.lose("tool_definition", sum(self.fronts.lost_tools.get(one, 0) for one in used))

    def _run(self, run: Run, name: str, delay_us: int) -> str:
        """Writes a run that begins that long after its cause, and gives the id to spawn."""
        parts = self.plan.of(run)
        if len(parts) > 1 or delay_us or parts[0].followers or parts[0].beside:
            self._orchestrate(name, self._chain(parts, name, 0, delay_us))
        else:
            self._conversation(parts[0], name)
        return name

    def _chain(
        self, parts: list[Conversation], name: str, number: int, delay_us: int
    ) -> list[dict[str, Any]]:
        """Rounds with a run's conversations from `number` on, and what comes between them."""
        part, part_name = parts[number], f"{name}.p{number}"
        self._conversation(part, part_name)
        rounds = [_round([part_name], delay_us)]
        rest = self._rounds(part.followers, part_name)
        if number + 1 < len(parts):
            wait = self._delay(parts[number + 1].turns[0])
            rest += self._chain(parts, name, number + 1, wait)
        if not part.beside:
            return rounds + rest
        names = self._round(part.beside, 0, alone=False)["spawns"]
        if rest:
            names.append(f"{part_name}.rest")
            self._orchestrate(names[-1], rest)
        return [*rounds, _round(names, 0)]

    def _rounds(self, groups: list[Group], name: str, since_us: int = 0) -> list[dict[str, Any]]:
        """Rounds in which the groups run beside each other."""
        if len(groups) == 1:
            return [self._round(runs, since_us) for runs in groups[0]]
        names = []
        for number, group in enumerate(groups):
            if len(group) == 1:
                names += self._round(group[0], since_us, alone=False)["spawns"]
                continue
            names.append(f"{name}.g{number}")
            self._orchestrate(names[-1], [self._round(runs, since_us) for runs in group])
        return [_round(names, 0)] if names else []

    def _round(self, runs: list[Run], since_us: int, *, alone: bool = True) -> dict[str, Any]:
        """Runs that begin together; the delay of one that is alone is the round's."""
        delays = {
            id(run): self._delay(run.turns[0]) - (0 if run.after else since_us) for run in runs
        }
        if alone and len(runs) == 1:
            return _round([self._run(runs[0], self._name(runs[0]), 0)], delays[id(runs[0])])
        return _round([self._run(run, self._name(run), delays[id(run)]) for run in runs], 0)

    def _orchestrate(self, name: str, rounds: list[dict[str, Any]]) -> None:
        self._line({"session_id": name, "orchestrator": True, "rounds": rounds})

    def _conversation(self, part: Conversation, name: str) -> None:
        lines = [self._turn(part, index) for index in range(len(part.turns))]
        for index, spawns in sorted(part.spawns.items()):
            lines[index]["spawns"] = [
                {"children": self._round(runs, 0, alone=False)["spawns"], "join_at": join_at}
                for join_at, runs in spawns.items()
            ]
        mode = "deltas_with_responses"
        self._line({"session_id": name, "context_mode": mode, "turns": lines})
        self.tally.sessions += 1
        session = {"session_id": name, "trajectory_id": self.name, "turns": part.turns}
        self.sessions.write(_json(session))

    def _turn(self, part: Conversation, index: int) -> dict[str, Any]:
        turn = part.turns[index]
        before = part.turns[index - 1] if index else None
        messages = self._messages(turn, before)
        output = self.turns.output_tokens(turn)
        line: dict[str, Any] = {"messages": messages, "max_tokens": output}
        line["extra"] = {"ignore_eos": True, "min_tokens": output}
        tools = self._tools(turn)
        # aiperf keeps sending the last definitions it was given.
        if tools and (before is None or tools is not self._tools(before)):
            line["tools"] = tools
        if before is not None:
            line["delay"] = self._delay(turn) / 1000
        self.tally.messages += len(messages)
        counted = self.turns["counted_input_tokens"][turn] or 0
        self.tally.request(counted, output, self.schedule.delay_us(turn))
        return line

    def _messages(self, turn: int, before: int | None) -> list[Any]:
        found: list[Any] = []
        reasoning = self.turns["earlier_reasoning"][turn] == "kept"
        ranges = self.turns.ranges(turn)
        if before is not None:
            ranges = added(self.turns.ranges(before), ranges) or []
        elif (system := self.fronts.systems.get(self.turns["system_id"][turn])) is not None:
            found.append(system)
        front = before is None
        for start, stop in ranges:
            for number in range(start, stop):
                is_system = self.messages.is_system(number)
                front = front and is_system
                late = is_system and not front
                self.tally.lose("system_role", late)
                found.append(self.messages.json(number, reasoning=reasoning, as_user=late))
        return found

    def _extends(self, before: int, turn: int) -> bool:
        """Whether a turn's prompt is that of the turn before and something more."""
        if not added(self.turns.ranges(before), self.turns.ranges(turn)):
            return False
        if self._tools(before) and not self._tools(turn):
            return False
        same = ("system_id", "earlier_reasoning")
        return all(self.turns[name][turn] == self.turns[name][before] for name in same)

    def _tools(self, turn: int) -> list[dict[str, Any]] | None:
        return self.fronts.tools.get(self.turns["tools_id"][turn])

    def _delay(self, turn: int) -> int:
        return self.plan.delay_us(turn)

    def _name(self, run: Run) -> str:
        again = f".r{run.number}" if run.number else ""
        return f"{self.name}.l{run.lane}{again}"

    def _line(self, line: dict[str, Any]) -> None:
        self.lines.write(_json(line))


def _round(names: list[str], think_us: int) -> dict[str, Any]:
    return {"spawns": names, "think_time_ms": think_us / 1000}


def _json(line: dict[str, Any]) -> bytes:
    import orjson

    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
