"""The Hugging Face Hub's own session traces (STS-Format), for its trace viewer: a file a lane.

A file is a header line and a line a message, in order of first appearance: what was compacted away
or rewound stands where it was said. The viewer shows one agent, so sub-agents and side lanes have
files of their own, `ID.lN.jsonl` beside `ID.jsonl`; their headers say whose they are. The header's
`harness` is the agent's name; what else it holds the viewer passes over.

The viewer itself was never at hand. `datasets` 5.2 takes the files for agent traces, a row each,
but reads messages (by way of `teich`) in Pi's shape, without calls; its `trace` column is whole.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from traj.exporters import archive
from traj.exporters.archive import Entry, Record, Row, rest
from traj.exporters.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from traj.workload.chat import Fronts
    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions

NAME = "hub-traces"
SUMMARY = "session traces for the Hugging Face Hub's viewer: text, calls, results; an archive"
HARNESS = "Hub STS-Format"
PROOF = "read"
TEXT = False  # the rows' own text, without prefixes and fills
WHOLE_ROWS = True
TAKES = archive.TAKES
CARRIES = ("text", "tools")
DROPS = {
    "attachment": "images and documents are not stored, so their messages go without them",
    "context": "where a prompt was compacted, cleared or rewound is not marked",
    "failed_turn": "requests that failed have no message",
    "timing": "messages have one time each: requests' and tools' own times have no place",
    "tools": "lists of tool definitions have no place",
    "usage": "tokens have no place",
    "waits": "who waited for whom is not said: sub-agents' files only name the call",
}
FOLDER = "traces"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def command(_tally: Tally, _options: LoadOptions) -> str:
    """An archive is not replayed."""
    return ""


def write(phase: Phase, out: Path) -> Tally:
    """Writes traces/, a file a lane."""
    import orjson

    tally = Tally()
    folder = out / FOLDER
    folder.mkdir()
    for play in phase:
        record = Record(play)
        archive.count(tally, play)
        for lane in sorted(record.lanes):
            lines = [
                orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
                for line in _lines(record, lane, phase.load.fronts, tally)
            ]
            if lane and len(lines) == 1:  # a lane whose requests all failed
                continue
            with (folder / f"{_name(record, lane)}.jsonl").open("wb") as file:
                file.writelines(lines)
            tally.sessions += 1
        _count(record, tally)
    return tally


def _name(record: Record, lane: int) -> str:
    return f"{record.trajectory_id}.l{lane}" if lane else record.trajectory_id


def _lines(record: Record, lane: int, fronts: Fronts, tally: Tally) -> Iterator[Row]:
    yield _header(record, lane)
    for entry in record.entries(lane):
        if entry.system_id is not None:
            message: Row = {
                "role": "system",
                "content": fronts.systems.get(entry.system_id, ""),
            }
        elif entry.message is not None:
            message = _message(record, entry, entry.message)
            tally.messages += 1
        else:
            continue
        yield {"type": "message", "message": message}


def _header(record: Record, lane: int) -> Row:
    head, turns = record.head, record.lanes[lane]
    task = head["task"] or {}
    start = head["started_at"]
    found = {
        "type": "session",
        "harness": head["agent"]["name"],
        "id": _name(record, lane),
        "name": task.get("title"),
        "lane": lane,
    }
    if turns:
        found |= {name: turns[0][name] for name in ("lane_kind", "lane_name")}
    if lane:
        call = record.spawned_by.get(lane)
        found["parent"] = _name(record, call["lane"] if call else 0)
        found["parent_call"] = call and call["tool_call_id"]
        return rest(found, ())
    about = rest(head | {"started_at": start and start.isoformat()}, ())
    return rest(found, ()) | {"trajectory": about}


def _message(record: Record, entry: Entry, row: Row) -> Row:
    turn = entry.turn
    time = record.at(row["time_us"])
    if turn is not None:
        time = record.at(turn["end_us"]) or time
    found = {
        "role": row["role"],
        "content": row["content"] or "",
        "reasoningContent": row["reasoning"],
        "toolCallId": row["tool_call_id"],
        "timestamp": None if time is None else (time - _EPOCH) // timedelta(milliseconds=1),
        "model": turn["model"] if turn else None,
    }
    if row["tool_calls"]:
        found["toolCalls"] = [
            {"id": one["id"], "function": {"name": one["name"], "arguments": one["arguments"]}}
            for one in row["tool_calls"]
        ]
    return rest(found, ())


def _count(record: Record, tally: Tally) -> None:
    turns = record.turns
    tally.lose("attachment", sum(len(one["attachments"] or ()) for one in record.messages))
    contexts = {(turn["lane"], turn["context"]) for turn in turns}
    tally.lose("context", len(contexts) - len({lane for lane, _ in contexts}))
    tally.lose("failed_turn", sum(turn["output"] is None for turn in turns))
    calls = [call for found in record.calls.values() for call in found]
    tally.lose("timing", sum(one["start_us"] is not None for one in [*turns, *calls]))
    tally.lose("tools", len({turn["tools_id"] for turn in turns} - {None}))
    tally.lose("usage", sum(turn["usage_source"] != "none" for turn in turns))
    tally.lose("waits", sum(_waits_outside(record, turn) for turn in turns))


def _waits_outside(record: Record, turn: Row) -> bool:
    return any(record.turns[wait]["lane"] != turn["lane"] for wait in turn["wait_for"])
