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
from collections import Counter
from typing import IO, TYPE_CHECKING, Any

from traj.exporters import read_back, sessions
from traj.exporters.tally import Tally
from traj.workload.cache_simulation import Part, Prompt
from traj.workload.conversations import Conversation, Conversations
from traj.workload.schedule import Run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from traj.workload.conversations import Group
    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions
    from traj.workload.play import Play
    from traj.workload.prompts import Prompts, Spoken

NAME = "aiperf-dag"
SUMMARY = "aiperf dag_jsonl: recorded text, tools, delays, forced output lengths, sub-agents"
HARNESS = "aiperf 0.13"
PROOF = "replayed"
TEXT = True
CARRIES = ("text", "delays", "tools", "sub_agents", "output_length")
DROPS = {
    "join_delay": "aiperf sends a turn at once when what it waited for ends; the delay is spent "
    "before the last request of what it waits for",
    "model": "one model answers: those of a trajectory that used several are not told apart",
    "wait": "requests that waited for something which conversations cannot express",
    "wait_longer": "requests that waited for part of what a sub-agent did wait for all of it",
    "wait_added": "aiperf waits for all that a turn starts before the conversation ends; what "
    "nobody waited for is awaited by a turn that came after it in the record",
}
FILE = "dag.jsonl"


def command(tally: Tally, options: LoadOptions) -> str:
    """Run in the export's folder, with URL, MODEL and TOKENIZER set."""
    model = shlex.quote(options.model) if options.model else '"$MODEL"'
    return (
        f'aiperf profile --model {model} --url "$URL" --tokenizer "$TOKENIZER" '
        f"--endpoint-type chat --streaming --use-server-token-count "
        f"--input-file {FILE} --custom-dataset-type dag_jsonl "
        f"--dataset-sampling-strategy sequential "
        f"--concurrency 1 --num-sessions {tally.trajectories}"
    )


def write(phase: Phase, out: Path) -> Tally:
    """Writes dag.jsonl and sessions.jsonl."""
    tally = Tally()
    with (out / FILE).open("wb") as lines, (out / sessions.FILE).open("wb") as notes:
        for play in phase:
            assert play.prompts is not None
            _Writer(play, play.prompts, tally, lines, notes).write()
            tally.play(play)
    return tally


def prompts(out: Path, phase: int) -> Iterator[Prompt]:
    """A phase's requests, conversation by conversation."""
    plays = sessions.plays(out)
    sent: Counter[str] = Counter()
    for place, line in read_back.lines(out / FILE):
        play = plays.get(line["session_id"], "")
        found: list[tuple[str, Part]] = []
        tools: Part | None = None
        for index, turn in enumerate(line.get("turns", ())):
            new = [
                (message["role"], Part(read_back.texts(message), place + len(found) + number))
                for number, message in enumerate(turn["messages"])
            ]
            found += new
            if "tools" in turn:
                tools = Part(read_back.tool_texts(turn["tools"]), place + read_back.TOOLS + index)
            if index and "tools" not in turn:
                yield Prompt(phase, play, [part for _, part in new], sent[play] - 1)
            else:
                yield Prompt(phase, play, read_back.in_order(found, tools))
            sent[play] += 1


def read(out: Path, place: int) -> Sequence[str]:
    """The texts of a message, or of tool definitions, again."""
    line, index = read_back.line_at(out / FILE, place)
    if index >= read_back.TOOLS:
        return read_back.tool_texts(line["turns"][index - read_back.TOOLS]["tools"])
    messages = [message for turn in line["turns"] for message in turn["messages"]]
    return read_back.texts(messages[index])


class _Writer:
    """Writes one play."""

    def __init__(
        self, play: Play, prompts: Prompts, tally: Tally, lines: IO[bytes], notes: IO[bytes]
    ) -> None:
        self.name = play.name
        self.play = play
        self.prompts = prompts
        self.turns = play.turns
        self.tally = tally
        self.lines = lines
        self.notes = notes
        self.schedule = play.schedule
        self.plan = Conversations(self.schedule, prompts.extends)

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
        tally = self.tally
        tally.lose("wait", self.schedule.lost_waits + self.plan.lost_waits)
        tally.lose("wait_longer", self.schedule.longer_waits + self.plan.longer_waits)
        tally.lose("wait_added", self.plan.added_waits)
        tally.lose("join_delay", self.plan.moved_delays)
        tally.lose("model", len({self.turns["model"][turn] for turn in self.play.sent}) > 1)

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
        sessions.note(self.notes, name, self.play, part.turns)

    def _turn(self, part: Conversation, index: int) -> dict[str, Any]:
        turn, prompts = part.turns[index], self.prompts
        before = part.turns[index - 1] if index else None
        spoken: list[Spoken] = (
            prompts.whole(turn) if before is None else prompts.added(before, turn)
        )
        output = self.play.output_tokens(turn)
        messages = [prompts.json(one) for one in spoken]
        line: dict[str, Any] = {"messages": messages, "max_tokens": output}
        if self.play.options.output == "forced":
            line["extra"] = {"ignore_eos": True, "min_tokens": output}
        tools = prompts.tools(turn)
        # aiperf keeps sending the last definitions it was given.
        if tools and (before is None or tools is not prompts.tools(before)):
            line["tools"] = tools
        if before is not None:
            line["delay"] = self._delay(turn) / 1000
        self.tally.messages += len(messages)
        return line

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
