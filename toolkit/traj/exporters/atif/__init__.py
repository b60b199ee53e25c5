"""ATIF 1.8 (Agent Trajectory Interchange Format): a document a trajectory, sub-agents inside.

A lane is a trajectory of ATIF: the main agent's the document, the others below the one whose call
started them, with a reference at that call's result; side lanes (titles, compactions) lie below the
main one. A step is a system prompt, a message, or a turn: its answer, its calls, and their results.
Messages stand once, in order of first appearance: `extra.turn.input` says which of them each prompt
held (half-open ranges of `extra.message.message`), so compacted and rewound prompts are whole.

What ATIF has no field for lies in `extra`, under the names of the schema's columns: times, tool
spans, waits, failed requests, cache writes, the dataset's own counts. `prompt_tokens` includes
cached ones in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.exporters import archive
from traj.exporters.archive import Record, Row, rest
from traj.exporters.atif.steps import METRICS, Steps, iso
from traj.exporters.tally import Tally

if TYPE_CHECKING:
    from pathlib import Path

    from traj.workload.chat import Fronts
    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions

NAME = "atif"
SUMMARY = "ATIF 1.8 documents: text, calls and results, usage, times, sub-agents; an archive"
HARNESS = "atif 1.8"
PROOF = "loaded"
TEXT = False  # the rows' own text, without prefixes and fills
WHOLE_ROWS = True
TAKES = archive.TAKES
CARRIES = ("text", "delays", "tools", "sub_agents", "output_length")
DROPS = {
    "tool_definition": "a provider's own tool is no function, and ATIF defines no other",
}
FOLDER = "trajectories"
VERSION = "ATIF-v1.8"
UNKNOWN = "unknown"  # for what ATIF demands
NOTES = (
    "Written by traj. Each message stands once. A step's extra.turn is its request: its input is a "
    "list of half-open ranges of message numbers (extra.message.message), over all lanes."
)


def command(_tally: Tally, _options: LoadOptions) -> str:
    """An archive is not replayed."""
    return ""


def write(phase: Phase, out: Path) -> Tally:
    """Writes trajectories/, a document each."""
    import orjson

    tally = Tally()
    folder = out / FOLDER
    folder.mkdir()
    for play in phase:
        archive.count(tally, play)
        writer = _Writer(Record(play), phase.load.fronts, tally)
        document = writer.document()
        (folder / f"{play.name}.json").write_bytes(
            orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        )
    return tally


class _Writer:
    """Makes one trajectory's document."""

    def __init__(self, record: Record, fronts: Fronts, tally: Tally) -> None:
        self.record, self.fronts, self.tally = record, fronts, tally
        self.below: dict[int, list[int]] = {lane: [] for lane in record.lanes}
        for lane in sorted(record.lanes):
            if lane:
                self.below[self._above(lane)].append(lane)

    def document(self) -> Row:
        record, head = self.record, self.record.head
        used = {turn["tools_id"] for turn in record.turns}
        lost = sum(self.fronts.lost_tools.get(one, 0) for one in used)
        self.tally.lose("tool_definition", lost)
        found = self._lane(0)
        about = rest(head | {"started_at": iso(head["started_at"])}, ("agent",))
        return found | {"notes": NOTES, "extra": found["extra"] | {"trajectory": about}}

    def _lane(self, lane: int) -> Row:
        """A lane as a trajectory of ATIF, with those below it."""
        head, turns = self.record.head, self.record.lanes[lane]
        below = {one: self.name(one) for one in self.below[lane]}
        steps = Steps(self.record, lane, self.fronts, below, self.tally).steps
        self.tally.sessions += 1
        about = {"lane": lane, "lane_kind": "main", "lane_name": None}
        if turns:
            about = {name: turns[0][name] for name in about}
        found: Row = {
            "schema_version": VERSION,
            "session_id": head["source"]["session_id"],
            "trajectory_id": self.name(lane),
            "agent": self._agent(turns),
            "steps": steps,
            "final_metrics": _final_metrics(turns, len(steps)),
            "extra": rest(about, ()),
        }
        if self.below[lane]:
            found["subagent_trajectories"] = [self._lane(one) for one in self.below[lane]]
        return found

    def name(self, lane: int) -> str:
        return f"{self.record.trajectory_id}.l{lane}" if lane else self.record.trajectory_id

    def _agent(self, turns: list[Row]) -> Row:
        agent = self.record.head["agent"]
        models = {turn["model"] for turn in turns}
        tools = {turn["tools_id"]: self.fronts.tools.get(turn["tools_id"]) for turn in turns}
        known = {tools_id: found for tools_id, found in tools.items() if found}
        first = next(iter(known), None)
        more = {tools_id: found for tools_id, found in known.items() if tools_id != first}
        extra = {"tools_id": first, "more_tool_definitions": more or None}
        fields = {
            "name": agent["name"],
            "version": agent["version"] or UNKNOWN,
            "model_name": models.pop() if len(models) == 1 else None,
            "tool_definitions": known.get(first),
            "extra": rest(extra, ()) or None,
        }
        return rest(fields, ())

    def _above(self, lane: int) -> int:
        """The lane that a lane's document lies in: the main one where no call started it, or calls
        started each other in a circle."""
        path = [lane]
        while path[-1] in self.record.spawned_by:
            path.append(self.record.spawned_by[path[-1]]["lane"])
            if path[-1] in path[:-1]:
                return 0
        return path[1] if len(path) > 1 else 0


def _final_metrics(turns: list[Row], steps: int) -> Row:
    """Sums over the steps; unknown where no turn has the figure."""
    found: Row = {}
    for name, column in METRICS.items():
        known = [turn[column] for turn in turns if turn[column] is not None]
        found[f"total_{name}"] = sum(known) if known else None
    return rest(found, ()) | {"total_steps": steps}
