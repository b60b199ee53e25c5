"""Live recordings joined with the agents' own logs: the wire's prompts and figures, the log's
tools, and where the two say different things."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import wire_truth
from agent_logs import turns
from test_live import live, played
from traj import validate
from traj.dataset import Dataset
from traj.events import Session
from traj.pipeline import Report, record
from traj.proxy.own import keep
from traj.sources import SessionFiles, find
from traj.sources.joining.answers import own_id
from wire_truth import Exchange

LOGGED = (
    *("cline", "codex", "gemini", "kimi", "mini-swe-agent"),
    *("opencode", "pi-new", "qwen-new"),
)


def joined(*places: Path) -> SessionFiles:
    """The one live session there, with its logs."""
    (found,) = [one for one in find(places).sessions if one.format == "live"]
    assert found.logs
    return found


def at_its_time(log: Path, truth: list[Exchange], own: Session) -> None:
    """Gives a live log the times of the requests that it was played from. The clock is that of the
    agent's log, which one answer tells."""
    ended = {
        own_id(call.id): turn.end_us
        for turn in turns(own)
        for call in (turn.answer.tool_calls if turn.answer else ())
    }
    begun_us = next(
        end_us - round(1e6 * (one.sent_s + one.took_s))
        for one in truth
        for call, end_us in ended.items()
        if end_us is not None and call in "".join(one.chunks)
    )
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "traj_live" in line:
            line["wall_us"] = begun_us
        elif "ask" in line:
            line["at_us"] = round(1e6 * truth[line["ask"]].sent_s)
            line["wall_us"] = begun_us + line["at_us"]
        elif "end" in line:
            one = truth[line["end"]]
            line["at_us"] = round(1e6 * (one.sent_s + one.took_s))
            line["first_us"] = round(1e6 * one.sent_s)
            line["chunks"] = [(round(1e6 * one.took_s), size) for _, size in line["chunks"]]
        elif "closed" in line:
            line["at_us"] = round(1e6 * (truth[-1].sent_s + truth[-1].took_s))
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def of_capture(agent: str, shared: Path, folder: Path) -> tuple[list[Exchange], SessionFiles]:
    """A captured agent's requests, and them as a live session with the agent's own log."""
    capture = shared / "captures" / agent
    truth = wire_truth.exchanges(capture / "api")
    log = asyncio.run(played(folder, truth))
    (own,) = joined(log, capture / "session").logs
    at_its_time(log, truth, own.read())
    return truth, joined(log, capture / "session")


@pytest.mark.parametrize("agent", LOGGED)
def test_captured_sessions_are_joined_with_their_logs(agent: str, shared: Path, tmp_path: Path):
    """Prompts, tools and figures are the wire's; every tool that the log tells of runs when and how
    it says; the two do not disagree, and nothing is recorded twice."""
    truth, session = of_capture(agent, shared, tmp_path)
    out = tmp_path / "out.traj"
    report = record(session.paths, out)
    assert not report.problems
    assert (report.recorded, report.joined, report.disagreements) == (1, 1, 0)
    assert not {"not_on_the_wire", "log_clock_differs", "log_not_read"} & report.losses.keys()
    dataset = Dataset.open(out)
    wire_truth.check(dataset, truth)
    checked = validate(dataset)
    assert checked.ok
    assert not [one for one in checked.findings if "logged" in one.check or "wire" in one.check]
    (row,) = dataset.table("trajectories").to_pylist()
    assert row["source"]["format"] == "live"
    assert len(row["source"]["files"]) >= 2
    (log,) = (one.read() for one in session.logs)
    told = {turn.usage for turn in turns(log) if turn.usage.source != "none"}
    rows = dataset.table("turns").to_pylist()
    assert sum(one["logged_usage"] is not None for one in rows) >= len(told) > 3
    runs = {own_id(call): run for call, run in log.tool_runs.items() if run.start_us is not None}
    assert runs or agent == "mini-swe-agent"  # which says when a turn's commands had all ended
    begun_us = session.read().started_us
    for call in dataset.table("tool_calls").to_pylist():
        run = runs.pop(own_id(call["tool_call_id"]), None)
        if run is not None and run.end_us is not None:
            times = (run.start_us - begun_us, run.end_us - begun_us)
            assert (call["start_us"], call["end_us"], call["clock"]) == (*times, run.clock)
            assert call["exit_code"] == run.exit_code
    assert not runs


BEGUN_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
OWN = "0b0e7cde-1111-4222-8333-444455556666"
USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 5,
    "cache_creation_input_tokens": 1,
    "output_tokens": 3,
}
ASKED = {"role": "user", "content": "Please fix it"}
CALL = {"type": "tool_use", "id": "toolu_01AbCdEf23", "name": "Bash", "input": {"command": "make"}}
RESULT = {"type": "tool_result", "tool_use_id": CALL["id"], "content": "Error 2", "is_error": True}
FIRST = {"id": "msg_01First4567", "content": [CALL], "stop_reason": "tool_use"}
LAST = {"id": "msg_01Last56789", "content": [{"type": "text", "text": "Done"}]}


def on_the_wire(folder: Path, *, named: bool = True) -> Path:
    """The log of a run of Claude Code: a call, its result and the end; requests at 1 s and 5 s,
    answers a second later, the run's end at 10 s. `named`: the requests say their session."""
    again = {"role": "assistant", "content": [CALL]}
    bodies = ([ASKED], [ASKED, again, {"role": "user", "content": [RESULT]}])
    lines: list[Any] = [{"traj_live": 1, "run": "run", "wall_us": BEGUN_US, "traj": "1"}]
    for number, (messages, answer) in enumerate(zip(bodies, (FIRST, LAST), strict=True)):
        at_us = 1_000_000 + 4_000_000 * number
        headers = {"user-agent": "claude-cli/2.1.0"}
        headers |= {"x-claude-code-session-id": OWN} if named else {}
        body = {"model": "m", "max_tokens": 9, "messages": messages}
        said = {"type": "message", "role": "assistant", "model": "m", "usage": USAGE, **answer}
        ask = {"ask": number, "at_us": at_us, "wall_us": BEGUN_US + at_us, "method": "POST"}
        ask |= {"upstream": "anthropic", "path": "/v1/messages", "headers": headers}
        lines.append({**ask, "said": {"json": body}})
        end = {"end": number, "at_us": at_us + 1_000_000, "status": 200, "first_us": at_us + 9}
        lines.append({**end, "chunks": [[999_999, 99]], "said": {"json": said}})
    lines.append({"closed": 2, "at_us": 10_000_000, "exit_code": 0})
    return _lines(folder / "run.jsonl", lines)


def in_its_own_log(folder: Path, *more: dict[str, Any], second: float = 0, **usage: int) -> Path:
    """What Claude Code writes of it; its tool ran from 2.5 s to 4 s. `more` are answers that it had
    besides, by the second of each; `usage` changes the figures of its first."""
    said = [
        (0.9, "user", ASKED),
        (2.5, "assistant", {**FIRST, "usage": USAGE | usage}),
        (4, "user", {"role": "user", "content": [RESULT]}),
        (6, "assistant", {**LAST, "usage": USAGE}),
    ]
    said += [(one["at"], "assistant", {**LAST, "usage": USAGE, "id": one["id"]}) for one in more]
    lines = []
    for number, (at, kind, message) in enumerate(said):
        line = {
            "type": kind,
            "uuid": f"u{number}",
            "parentUuid": f"u{number - 1}" if number else None,
        }
        line |= {"sessionId": OWN, "version": "2.1.0", "cwd": "/work"}
        line["timestamp"] = _time(BEGUN_US + round(1e6 * (at + second)))
        line["message"] = {"role": kind, "model": "m", **message}
        lines.append(line)
    return _lines(folder / f"{OWN}.jsonl", lines)


def _time(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="milliseconds")


def _lines(path: Path, lines: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def recorded(tmp_path: Path, *places: Path, join: bool = True) -> tuple[Report, Dataset]:
    report = record(list(places), tmp_path / "out.traj", join=join)
    assert not report.problems
    dataset = Dataset.open(tmp_path / "out.traj")
    assert validate(dataset).ok
    return report, dataset


def findings(dataset: Dataset) -> list[str]:
    return [one.check for one in validate(dataset).findings]


def test_one_trajectory_has_what_either_side_knows(tmp_path: Path):
    """The wire's prompt, figures and times; the log's tool; and they agree."""
    report, dataset = recorded(tmp_path, on_the_wire(tmp_path), in_its_own_log(tmp_path))
    assert (report.recorded, report.joined, report.disagreements, report.losses) == (1, 1, 0, {})
    (row,) = dataset.table("trajectories").to_pylist()
    assert [one["name"] for one in row["source"]["files"]] == ["run.jsonl", f"{OWN}.jsonl"]
    first, last = dataset.table("turns").to_pylist()
    assert (first["start_us"], first["end_us"], first["clock"]) == (0, 1_000_000, "measured")
    assert first["logged_usage"] == {
        "input_tokens": 16,
        "cached_tokens": 5,
        "cache_write_tokens": 1,
        "output_tokens": 3,
        "reasoning_tokens": None,
    }
    assert last["logged_usage"] == first["logged_usage"]
    (call,) = dataset.table("tool_calls").to_pylist()
    assert (call["start_us"], call["end_us"], call["clock"]) == (1_500_000, 3_000_000, "derived")
    assert call["status"] == "error"
    assert not findings(dataset)


def test_other_figures_in_the_log_are_told(tmp_path: Path):
    """The wire's figures are the turn's; the log's stand beside them, and both the report and
    `traj validate` say that they differ."""
    log = in_its_own_log(tmp_path, output_tokens=1)
    report, dataset = recorded(tmp_path, on_the_wire(tmp_path), log)
    assert report.disagreements == 1
    first, _ = dataset.table("turns").to_pylist()
    assert (first["output_tokens"], first["logged_usage"]["output_tokens"]) == (3, 1)
    assert findings(dataset) == ["logged_usage_agrees"]


def test_answers_that_the_log_alone_has_are_told(tmp_path: Path):
    """Those of the run's time went another way than through the proxy; the others are another
    run's."""
    more = ({"at": 7, "id": "msg_01Beside123"}, {"at": 70, "id": "msg_01Later1234"})
    report, dataset = recorded(tmp_path, on_the_wire(tmp_path), in_its_own_log(tmp_path, *more))
    assert report.losses == {"logged_elsewhere": 1, "not_on_the_wire": 1}
    assert findings(dataset) == ["all_on_the_wire"]
    assert dataset.table("turns").num_rows == 2


def test_a_log_of_another_clock_keeps_its_times_to_itself(tmp_path: Path):
    """Tools whose times do not lie between their request and the next keep the wire's."""
    log = in_its_own_log(tmp_path, second=3600)
    report, dataset = recorded(tmp_path, on_the_wire(tmp_path), log)
    assert report.losses == {"log_clock_differs": 1}
    (call,) = dataset.table("tool_calls").to_pylist()
    assert (call["start_us"], call["end_us"], call["clock"]) == (1_000_000, 4_000_000, "derived")


def test_sessions_without_a_name_are_known_by_the_ids_of_their_answers(tmp_path: Path):
    """Another session's log stays what it is."""
    own = in_its_own_log(tmp_path / "logs")
    other = own.read_text().replace(OWN, "other").replace(FIRST["id"], "msg_01Other9876")
    other = other.replace(LAST["id"], "msg_02Other9876").replace(CALL["id"], "toolu_02Other9876")
    (own.parent / "other.jsonl").write_text(other)
    report, dataset = recorded(tmp_path, on_the_wire(tmp_path, named=False), own.parent)
    assert (report.recorded, report.joined, report.losses) == (2, 1, {})
    sources = [row["source"] for row in dataset.table("trajectories").to_pylist()]
    assert sorted(len(one["files"]) for one in sources) == [1, 2]


def test_a_log_that_was_kept_beside_the_runs_is_known_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A folder of many runs is not searched for each of them."""
    log = on_the_wire(tmp_path, named=False)
    in_its_own_log(log.with_suffix(".own") / "-work")

    def searched(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("traj.sources.joining.pairing._sharing", searched)
    report, _ = recorded(tmp_path, tmp_path)
    assert (report.recorded, report.joined, report.losses) == (1, 1, {})


def test_apart_where_that_is_wanted(tmp_path: Path):
    """--no-join: two trajectories, each with what it has."""
    places = on_the_wire(tmp_path), in_its_own_log(tmp_path)
    report, dataset = recorded(tmp_path, *places, join=False)
    assert (report.recorded, report.joined) == (2, 0)
    assert {one["logged_usage"] is None for one in dataset.table("turns").to_pylist()} == {True}


def test_nothing_is_recorded_twice(tmp_path: Path):
    """A log that was recorded alone goes into the live session when that comes, and stays there
    when the log is recorded again."""
    log = in_its_own_log(tmp_path)
    assert recorded(tmp_path, log)[1].table("turns").num_rows == 2
    _, dataset = recorded(tmp_path, on_the_wire(tmp_path), log)
    (row,) = dataset.table("trajectories").to_pylist()
    assert row["source"]["format"] == "live"
    for again in ((log,), (tmp_path,)):
        report, dataset = recorded(tmp_path, *again)
        assert (report.recorded, report.unchanged) == (0, 1)
        assert dataset.table("trajectories").num_rows == 1


def test_a_log_that_cannot_be_read_costs_no_recording(tmp_path: Path):
    """The live session is recorded; the loss is listed."""
    log = in_its_own_log(tmp_path)
    session = joined(on_the_wire(tmp_path), log)
    log.unlink()
    assert session.read().losses == {"log_not_read": 1}


AGENT = """
import json, os, pathlib, sys, urllib.request
base = os.environ["ANTHROPIC_BASE_URL"]
body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
headers = {"x-claude-code-session-id": "OWN", "user-agent": "claude-cli/2.1.0", "x-api-key": "k"}
data = json.dumps(body).encode()
with urllib.request.urlopen(urllib.request.Request(base + "/v1/messages", data, headers)) as said:
    said.read()
folder = pathlib.Path(os.environ["CLAUDE_CONFIG_DIR"], "projects", "-work")
folder.joinpath("OWN.jsonl").write_text(folder.joinpath("before.jsonl").read_text())
"""


def test_a_run_keeps_the_agents_own_log(tmp_path: Path):
    """`traj record --live` joins at once, and keeps a copy of that session's log alone, for its
    owner alone, so that the folder of logs gives the same again."""
    folder = tmp_path / "claude" / "projects" / "-work"
    in_its_own_log(folder).rename(folder / "before.jsonl")
    os.utime(folder / "before.jsonl", (0, 0))
    script = tmp_path / "agent.py"
    script.write_text(AGENT.replace("OWN", OWN))
    variables = {"CLAUDE_CONFIG_DIR": str(tmp_path / "claude")}
    code, _, err = live(tmp_path, sys.executable, str(script), **variables)
    assert code == 0, err
    assert "joined 1 with the agent's own log" in err
    logs = tmp_path / "d.traj.live"
    (copy,) = logs.rglob(f"{OWN}.jsonl")
    (log,) = logs.glob("*.jsonl")
    assert copy == log.with_suffix(".own") / "-work" / copy.name
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert stat.S_IMODE(copy.parents[1].stat().st_mode) == 0o700
    assert not list(logs.rglob("before.jsonl"))
    report, again = recorded(tmp_path, logs)
    assert report.joined == 1
    for dataset in (again, Dataset.open(tmp_path / "d.traj")):
        (row,) = dataset.table("trajectories").to_pylist()
        assert len(row["source"]["files"]) == 2


def test_a_copy_that_fails_costs_no_joining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """No half of a copy is left, the reason is told, and the log is read where it lies."""
    home = tmp_path / "home"
    log = on_the_wire(tmp_path)
    own = in_its_own_log(home / ".claude" / "projects" / "-work")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", full)
    found = keep(log, ["claude"], {"HOME": str(home)})
    assert found == ([own], "No space left on device")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "run.jsonl"]
