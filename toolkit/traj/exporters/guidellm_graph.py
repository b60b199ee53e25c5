"""guidellm's graph of a conversation (guidellm 0.8, column `conversation_turns`): recorded text.

A line is a trajectory: a node a request, with its whole array of messages, the parents that it
waits for, its tools, and the length of its answer. The file is quadratic in a session's length, and
must be: where a node takes its parents' history (`full`, `last`), guidellm puts the engine's live
answer into it, so recorded answers are sent only by nodes that take none (`new`). It is written a
request at a time.

Found by running guidellm 0.8.1:
- `turn_type` server_tool_call is the one that sends a node's `tools` and leaves the answer's length
  alone; `tool_choice` auto is what most APIs take for granted.
- Under the profile `replay` a request is sent at the latest of (parent's end + start - parent's
  start - parent's duration), with times as written here. Those of parents that somebody waits for
  together are made to end at the same time, so that each such gap is the delay, whichever parent
  ends last. Otherwise answers take as long as they took.
- Other profiles look at `requeue_delay` alone, which belongs to the parent: it is the least of what
  comes after (`kind=concurrent,streams=N` keeps N requests in flight, of any number of sessions).
- A worker that has nothing to do waits for another session, not for its own ones: one request
  starts for each that ends. Of several that a request sets off, one is sent, the others later
  (`one_at_a_time`). None is ever sent too early.
- `replay` begins all trajectories at once.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from typing import IO, TYPE_CHECKING, Any

from traj.exporters import sessions, whole_prompts
from traj.exporters.tally import Tally
from traj.exporters.whole_prompts import Request, WholePrompts
from traj.workload.waits import Waits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from traj.workload.cache_simulation import Prompt
    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions
    from traj.workload.play import Play

NAME = "guidellm-graph"
SUMMARY = "guidellm conversation_turns: recorded text, tools, delays, forced output lengths, DAG"
HARNESS = "guidellm 0.8.1"
PROOF = "replayed"
TEXT = True
CARRIES = ("text", "delays", "tools", "sub_agents", "output_length")
DROPS = {
    "join_delay": "requests that several wait for in turns: their delay counts from the last end "
    "as recorded, and may be longer",
    "model": "one model answers: those of a trajectory that used several are not told apart",
    "one_at_a_time": "requests beside another that the same request set off: guidellm sends one "
    "when a request ends, the others when the next ones end",
}
FILE = "graph.jsonl"
_FRONT = b'{"conversation_turns":"'
_PLACES = 1 << 18  # of a line's parts
_BLOCK = 1 << 20  # bytes read at a time


def command(tally: Tally, options: LoadOptions) -> str:
    """Run in the export's folder, with URL, MODEL and TOKENIZER set."""
    del tally
    model = shlex.quote(options.model) if options.model else '"$MODEL"'
    ends = "" if options.output == "forced" else ",extras.body.ignore_eos=false"
    return (
        f'guidellm run --backend kind=openai_http,target="$URL",model={model},'
        f"request_format=/v1/chat/completions{ends} --profile kind=replay "
        f"--data kind=json_file,path={FILE} "
        f'--tokenizer kind=huggingface_auto,model="$TOKENIZER" '
        f"--output kind=json,path=results.json --disable-console-interactive"
    )


def write(phase: Phase, out: Path) -> Tally:
    """Writes graph.jsonl and sessions.jsonl."""
    tally = Tally()
    with (out / FILE).open("wb") as lines, (out / sessions.FILE).open("wb") as notes:
        for play in phase:
            if play.sent:
                _write(play, tally, lines)
                sessions.note(notes, play.name, play, play.sent)
                tally.sessions += 1
            tally.play(play)
            tally.lose("model", len({play.turns["model"][turn] for turn in play.sent}) > 1)
    return tally


def prompts(out: Path, phase: int) -> Iterator[Prompt]:
    """The prompts of a phase's file, graph by graph."""
    names = list(sessions.plays(out).values())
    for name, offset in zip(names, _offsets(out / FILE), strict=True):
        requests = _requests(out / FILE, offset)
        yield from whole_prompts.prompts(requests, phase, name, offset * _PLACES)


def read(out: Path, place: int) -> Sequence[str]:
    """The texts of a part again."""
    start = place // _PLACES
    requests = _requests(out / FILE, start)
    return whole_prompts.texts_at(whole_prompts.prompts(requests, 0, "", start * _PLACES), place)


def _offsets(path: Path) -> Iterator[int]:
    """Where lines begin: found without having one in memory."""
    start = passed = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            at = -1
            while (at := block.find(b"\n", at + 1)) >= 0:
                yield start
                start = passed + at + 1
            passed += len(block)


def _requests(path: Path, offset: int) -> Iterator[Request]:
    """The nodes of a line, of which no more is in memory than one node."""
    import json

    decoder, pieces = json.JSONDecoder(), _unescaped(path, offset)
    text, turns = "", '"turns":['
    while (at := text.find(turns)) < 0:
        text += next(pieces)
    at += len(turns)
    while True:
        try:
            node, stop = decoder.raw_decode(text, at)
            more = text[stop] == ","
        except (json.JSONDecodeError, IndexError):  # the rest of it is in the next piece
            text, at = text[at:] + next(pieces), 0
            continue
        columns = node["columns"]
        tools = columns.get("tools_column") or [[]]
        yield Request(node["agent_id"], columns["raw_messages_column"][0], tools[0])
        if not more:
            return
        at = stop + 1


def _unescaped(path: Path, offset: int) -> Iterator[str]:
    """The JSON in a line's string, in pieces."""
    import orjson

    with path.open("rb") as file:
        file.seek(offset + len(_FRONT))
        rest = b""
        while block := file.read(_BLOCK):
            rest, newline, _ = (rest + block).partition(b"\n")
            if newline:
                yield orjson.loads(b'"' + rest.removesuffix(b"}"))
                return
            # Behind a quotation mark no escape is cut in two; the last one may end the string.
            stop = rest.rfind(b'"', 0, -2) + 1
            yield orjson.loads(b'"%b"' % rest[:stop])
            rest = rest[stop:]


def _write(play: Play, tally: Tally, lines: IO[bytes]) -> None:
    import orjson

    waits, whole = Waits(play), WholePrompts(play)
    times = _Times(play, waits)
    tally.lose("join_delay", times.join_delays)
    tally.lose("one_at_a_time", times.beside)
    assert play.prompts is not None
    lines.write(_FRONT)
    lines.write(_escaped(orjson.dumps({"graph_id": play.name, "turns": []})[:-2]))
    for number, turn in enumerate(play.sent):
        messages = [play.prompts.json(one) for one in whole.of(turn)]
        tally.messages += len(messages)
        columns: dict[str, list[Any]] = {
            "prompt_tokens_count_column": [play.input_tokens(turn)],
            "output_tokens_count_column": [play.output_tokens(turn)],
            **times.columns(turn),
        }
        if tools := play.prompts.tools(turn):
            columns["turn_type_column"] = ["server_tool_call"]
            columns["tool_choice_column"] = ["auto"]
            columns["tools_column"] = [tools]
        columns["raw_messages_column"] = [messages]
        node = {
            "node_id": str(turn),
            "agent_id": f"lane-{play.turns['lane'][turn]}",
            "parents": [
                {"parent_node_id": str(wait), "history_context": "new"}
                for wait in waits.direct[turn]
            ],
            "columns": columns,
        }
        lines.write(b"," * (number > 0) + _escaped(orjson.dumps(node)))
    lines.write(b']}"}\n')


def _escaped(text: bytes) -> bytes:
    """JSON as part of a JSON string."""
    import orjson

    return orjson.dumps(text.decode())[1:-1]


class _Times:
    """The times that guidellm's arithmetic makes a play's delays of.

    `join_delays` counts requests for which it does not; `beside` those that guidellm sends later
    because they start together with another.
    """

    def __init__(self, play: Play, waits: Waits) -> None:
        self._play, self._waits = play, waits
        self._start_us: dict[int, int] = {}
        self._end_us: dict[int, int] = {}  # by group
        self._requeue_us: dict[int, int] = {}  # by parent
        self.join_delays = 0
        set_off: dict[int | None, int] = defaultdict(int)
        for turn, parents in waits.direct.items():
            set_off[parents[-1] if parents else None] += 1
            for wait in parents:
                delay = play.delay_us(turn)
                self._requeue_us[wait] = min(self._requeue_us.get(wait, delay), delay)
        self.beside = sum(count - 1 for count in set_off.values())
        roots = [turn for turn in play.sent if not waits.direct[turn]]
        self._first_us = min(map(play.delay_us, roots))
        self._group = _groups(waits)
        try:
            self._pass()
        except CycleError:
            self._group = {turn: turn for turn in play.sent}
            self._pass()
            self.join_delays = sum(len(parents) > 1 for parents in waits.direct.values())

    def columns(self, turn: int) -> dict[str, list[float]]:
        start = self._start_us[turn]
        found = {
            "relative_timestamp_column": [start / 1e6],
            "request_duration_column": [(self._end_us[self._group[turn]] - start) / 1e6],
        }
        if requeue := self._requeue_us.get(turn):
            found["requeue_delay_column"] = [requeue / 1e6]
        return found

    def _pass(self) -> None:
        """Lets the play pass, groups after those that their members wait for."""
        members: dict[int, list[int]] = defaultdict(list)
        needs: dict[int, set[int]] = defaultdict(set)
        for turn, group in self._group.items():
            members[group].append(turn)
            needs[group].update(self._group[wait] for wait in self._waits.direct[turn])
        for group in list(TopologicalSorter(needs).static_order()):
            for turn in members[group]:
                parents = self._waits.direct[turn]
                since = max((self._end_us[self._group[one]] for one in parents), default=0)
                delay = self._play.delay_us(turn) - (0 if parents else self._first_us)
                self._start_us[turn] = since + delay
            self._end_us[group] = max(
                self._start_us[turn] + self._took_us(turn) for turn in members[group]
            )

    def _took_us(self, turn: int) -> int:
        start, end = self._play.turns["start_us"][turn], self._play.turns["end_us"][turn]
        return 0 if start is None or end is None else max(0, end - start)


def _groups(waits: Waits) -> dict[int, int]:
    """Turns that some turn waits for together are of one group, named by one of them."""
    group = {turn: turn for turn in waits.direct}

    def name(turn: int) -> int:
        while group[turn] != turn:
            group[turn] = turn = group[group[turn]]
        return turn

    for parents in waits.direct.values():
        for wait in parents[1:]:
            group[name(wait)] = name(parents[0])
    return {turn: name(turn) for turn in group}
