"""OpenTelemetry: GenAI spans as OTLP JSON, a file a trajectory, a line as OTLP files have it.

`invoke_agent` spans are the agent and its sub-agents, `chat` spans the turns, failed ones too, and
`execute_tool` spans the calls with their own times. A sub-agent lies below the call that started
it; side lanes (titles, compactions) below the main agent. A chat span's links are the turns that it
waited for. The trace's id is the trajectory's; `gen_ai.usage.input_tokens` includes cached ones.

A message stands in the first chat span whose prompt or answer has it, a system prompt and a list
of tools in the first that sends them: whole prompts would make files grow with the square of the
session. `traj.input` is the whole prompt, as half-open ranges of message numbers, which stand in
the messages' own `traj`; what no request held is its agent's `traj.unsent`. Whatever the
conventions have no name for is `traj.` and a column's name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.exporters import archive
from traj.exporters.archive import Record, Row, rest
from traj.exporters.otel.otlp import resource_spans
from traj.exporters.otel.trace import Trace
from traj.exporters.tally import Tally

if TYPE_CHECKING:
    from pathlib import Path

    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions

NAME = "otel"
SUMMARY = "OTLP JSON, OpenTelemetry GenAI spans: agents, turns, calls with their times; an archive"
HARNESS = "OTLP 1 with the GenAI conventions"
PROOF = "loaded"
TEXT = False  # the rows' own text, without prefixes and fills
WHOLE_ROWS = True
TAKES = archive.TAKES
CARRIES = ("text", "delays", "tools", "sub_agents", "output_length")
DROPS = {
    "no_clock": "spans need times: where one is unknown (traj.start, traj.end) it is that of what "
    "came before it",
    "no_date": "sessions without a date begin in 1970",
    "tool_definition": "a provider's own tool is left out: it is no function",
}
FOLDER = "traces"


def command(_tally: Tally, _options: LoadOptions) -> str:
    """An archive is not replayed."""
    return ""


def write(phase: Phase, out: Path) -> Tally:
    """Writes traces/, a file each."""
    import orjson

    tally = Tally()
    folder = out / FOLDER
    folder.mkdir()
    for play in phase:
        record = Record(play)
        archive.count(tally, play)
        spans = list(Trace(record, phase.load.fronts, tally).spans())
        trace = resource_spans(_resource(record.head), spans)
        line = orjson.dumps(trace, option=orjson.OPT_APPEND_NEWLINE)
        (folder / f"{play.name}.jsonl").write_bytes(line)
        tally.sessions += 1
        tally.lose("no_date", record.head["started_at"] is None)
        used = {turn["tools_id"] for turn in record.turns}
        lost = sum(phase.load.fronts.lost_tools.get(one, 0) for one in used)
        tally.lose("tool_definition", lost)
    return tally


def _resource(head: Row) -> Row:
    agent = head["agent"]
    start = head["started_at"]
    about = rest(head | {"started_at": start and start.isoformat()}, ("agent",))
    named = {"service.name": agent["name"], "service.version": agent["version"]}
    return named | {f"traj.{name}": value for name, value in about.items()}
