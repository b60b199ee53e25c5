"""Sources: what is read from session logs equals what went over the wire, and traps are known."""

from __future__ import annotations

import json
import os
from itertools import groupby
from pathlib import Path

import orjson
import pyarrow as pa
import pytest

from conftest import SAMPLES
from traj import events
from traj.errors import UsageError
from traj.sources import SessionFiles, find, lines

TRUTH = sorted((SAMPLES / "truth").glob("*.json"))


def sessions(*places: Path) -> list[SessionFiles]:
    return list(find(places).sessions)


def turns(session: events.Session) -> list[events.Turn]:
    return [s for lane in session.lanes for s in lane.steps if isinstance(s, events.Turn)]


@pytest.fixture(scope="module")
def read() -> dict[str, events.Session]:
    """All sample sessions by id."""
    found = sessions(SAMPLES / "claude_code", SAMPLES / "codex")
    return {session.session_id: session.read() for session in found}


@pytest.mark.parametrize("path", TRUTH, ids=lambda path: path.stem[-12:])
def test_every_answered_request_is_one_turn_with_the_usage_the_api_sent(path, read):
    """Turn by turn, response ids and figures equal the scripted model's own record."""
    truth = json.loads(path.read_text())["requests"]
    sent = {
        r["response_id"]: figures(r["usage"])
        for r in truth
        # Claude Code's log does not hold its compaction calls.
        if r["status"] == 200 and not (r["kind"] == "compaction" and r["api"].startswith("anth"))
    }
    owner = next(
        session
        for key, session in read.items()
        if key in (truth[0]["session_id"], truth[0]["parent_thread_id"])
    )
    copied = {t.response_id for s in read.values() if s is not owner for t in turns(s)}
    mine = {t.response_id: t.usage for t in turns(owner) if t.response_id}
    for response, usage in sent.items():
        *logged, reasoning = figures_of(mine[response])
        assert logged == list(usage[:3])
        assert reasoning == (usage[3] or 0)  # Claude Code writes 0 where the API said nothing
    if len(owner.lanes) == 1 and path.stem == owner.session_id:
        assert set(mine) - copied == set(sent) - copied


def figures(usage: dict) -> tuple:
    details = usage.get("output_tokens_details") or {}
    if "input_tokens_details" in usage:  # OpenAI: cached is part of input
        cached = usage["input_tokens_details"]["cached_tokens"]
        return usage["input_tokens"], cached, usage["output_tokens"], details["reasoning_tokens"]
    read, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
    whole = usage["input_tokens"] + read + written
    return whole, read, usage["output_tokens"], details.get("thinking_tokens")


def figures_of(usage: events.Usage) -> tuple:
    assert usage.source == "reported"
    return (
        usage.input_tokens,
        usage.cached_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    )


@pytest.mark.parametrize("path", TRUTH, ids=lambda path: path.stem[-12:])
def test_each_request_carries_as_many_messages_as_were_sent(path, sample):
    """The input of every turn, counted the provider's way, has the length of the request's."""
    rows = sample.table("turns").to_pylist()
    texts = messages_of(sample)
    by_response = {row["response_id"]: row for row in rows if row["response_id"]}
    for request in json.loads(path.read_text())["requests"]:
        row = by_response.get(request["response_id"])
        if row is None or request["status"] != 200:
            continue
        sent = [
            texts[row["trajectory_id"], number]
            for part in row["input"]
            for number in range(part["start"], part["stop"])
        ]
        if request["api"] == "openai-responses":
            # The system prompt goes as an item; a compaction's own prompt is not in the log, and
            # an encrypted summary is no message.
            expected = request["inputs"] - 1
            counted = sum(items(message) for message in sent)
            if request["kind"] == "compaction" or row["context"]:
                assert expected - 1 <= counted <= expected
            else:
                assert counted == expected
        else:
            # A user message's blocks are several messages here. After a compaction two user
            # messages may follow each other.
            runs = len(list(groupby(sent, key=lambda m: m["role"] == "assistant")))
            slack = 1 if row["context"] else 0
            assert runs <= request["inputs"] <= runs + slack


def messages_of(dataset) -> dict:
    rows = dataset.table("messages").to_pylist()
    return {(row["trajectory_id"], row["message"]): row for row in rows}


def items(message: dict) -> int:
    if message["role"] != "assistant":
        return 1
    parts = (message["content"], message["reasoning"])
    return sum(part is not None for part in parts) + len(message["tool_calls"] or ())


def test_a_logged_request_starts_when_the_wire_saw_it(read):
    """Claude Code's own request lines give starts within 60 ms of the model's record."""
    starts = {}
    for path in TRUTH:
        for request in json.loads(path.read_text())["requests"]:
            if request["response_id"]:
                starts[request["response_id"]] = request["start"]
    logged = [t for s in read.values() for t in turns(s) if t.clock == "logged" and t.response_id]
    assert len(logged) > 60
    for turn in logged:
        assert abs(turn.start_us / 1e6 - starts[turn.response_id]) < 0.06


def test_failed_attempts_are_turns_of_their_own(read):
    """The retries that Claude Code logs appear as error turns with rising attempt numbers."""
    session = next(s for s in read.values() if any(t.status == "error" for t in turns(s)))
    tries = [(t.status, t.attempt) for t in turns(session)]
    assert tries.count(("error", 0)) == 2
    assert ("ok", 1) in tries
    assert ("error", 1) in tries
    assert ("ok", 2) in tries


def test_subagents_are_lanes_tied_to_the_calls_that_started_and_joined_them(read):
    """Both agents' parallel sub-agents are found with spawn and join."""
    with_agents = [s for s in read.values() if [x for x in s.lanes if x.kind == "subagent"]]
    assert {session.format for session in with_agents} == {"claude_code", "codex"}
    for session in with_agents:
        for lane in session.lanes[1:]:
            assert lane.spawned_by is not None
            assert lane.joined_by is not None
            assert lane.name


def test_compaction_begins_a_context(read):
    """Every recorded compaction, automatic and asked for, rebases the lane."""
    reasons = [
        (session.format, step.reason)
        for session in read.values()
        for step in session.lanes[0].steps
        if isinstance(step, events.Rebase) and step.reason
    ]
    assert reasons.count(("claude_code", "compaction")) == 2
    assert reasons.count(("codex", "compaction")) == 2


def test_a_request_that_the_log_describes_is_followed_to_the_letter(read):
    """System prompt, tools, parameters and user messages come from the request's own record."""
    session = next(s for s in read.values() if s.format == "claude_code")
    first = turns(session)[0]
    assert first.system
    assert isinstance(orjson.loads(first.tools), list)
    assert first.sampling.max_tokens == 32000
    prompt = session.lanes[0].steps[0]
    assert "<system-reminder>" in prompt.content
    assert prompt.time_us is not None


HAND_MADE = {  # calls, then input, cached, output, as sample_data/README.md explains them
    "claude_growing_output": (2, 2570, 2200, 75),
    "claude_out_of_order": (2, 1910, 0, 56),
    "claude_interrupted": (3, 2260, 0, 69),
    "claude_api_errors": (1, 500, 0, 4),
    "claude_inline_sidechain": (4, 1900, 0, 75),
    "claude_resume_first": (1, 400, 0, 3),
    "claude_compaction": (3, 163330, 152120, 109),
    "claude_truncated_last_line": (1, 480, 0, 25),
    "claude_hostile_text": (2, 1340, 0, 54),
    "codex_old_format": (2, None, None, None),
    "codex_repeated_token_count": (2, 18100, 8960, 62),
    "codex_info_null": (1, 8000, 0, 5),
    "codex_fork_parent": (2, 18100, 8960, 50),
    "codex_fork_child": (2, 18700, 18176, 33),
    "codex_truncated_last_line": (1, 7000, 0, 20),
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_traps_made_by_hand_give_the_counts_of_a_right_reading(name):
    """Calls and figures of each hand-made file are those worked out by hand."""
    (session,) = sessions(SAMPLES / "hand_made" / f"{name}.jsonl")
    answered = [t for t in turns(session.read()) if t.status == "ok" or t.answer is not None]
    sums = [
        sum(getattr(t.usage, field) or 0 for t in answered)
        if any(getattr(t.usage, field) is not None for t in answered)
        else None
        for field in ("input_tokens", "cached_tokens", "output_tokens")
    ]
    assert (len(answered), *sums) == HAND_MADE[name]


def test_results_of_parallel_calls_stay_in_one_context():
    """A result between two lines of one answer does not count as a rewind."""
    (session,) = sessions(SAMPLES / "hand_made" / "claude_out_of_order.jsonl")
    steps = session.read().lanes[0].steps
    assert not any(isinstance(step, events.Rebase) for step in steps)
    assert [type(step).__name__ for step in steps].count("Turn") == 2


def test_a_rewind_starts_a_context_from_the_message_it_went_back_to(tmp_path):
    """Editing an earlier prompt cuts the context there; the left branch is kept in the lane."""
    path = claude(
        tmp_path,
        user("a", None, "first"),
        answer("b", "a", "m1", "one"),
        user("c", "b", "second"),
        answer("d", "c", "m2", "two"),
        user("e", "b", "other second"),
        answer("f", "e", "m3", "three"),
    )
    (session,) = sessions(path)
    rebases = [s for s in session.read().lanes[0].steps if isinstance(s, events.Rebase)]
    assert [(r.reason, r.ranges) for r in rebases] == [("rewind", ((0, 0, 2),))]


def test_usage_of_all_zeros_is_unknown_not_zero(tmp_path):
    """A gateway that does not count gives no figures."""
    path = claude(tmp_path, user("a", None, "hi"), answer("b", "a", "m1", "yo", usage=(0, 0, 0, 0)))
    (session,) = sessions(path)
    assert turns(session.read())[0].usage == events.Usage()


def test_two_formats_that_match_are_an_error_that_names_both(tmp_path, monkeypatch):
    """An ambiguous file is refused, never taken by whichever source comes first."""
    path = claude(tmp_path, user("a", None, "hi"))
    from traj.sources import codex
    from traj.sources.located import Located

    monkeypatch.setattr(codex, "locate", lambda path, head: [Located(path, "codex", "x")])
    found = find([path])
    assert not found.sessions
    assert "claude_code and codex" in found.refused[0][1]


def test_a_place_that_does_not_exist_is_a_wrong_call(tmp_path):
    """A missing folder is named."""
    with pytest.raises(UsageError, match="no such file"):
        find([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    "text",
    ["", "not json", '{"a": 1}\n', "[]\n[]\n", '{"type":"user","uuid":"x","message":{"parts":[]}}'],
)
def test_foreign_files_are_refused(text, tmp_path):
    """Nothing foreign is taken for a session."""
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    found = find([path])
    assert not found.sessions
    assert len(found.refused) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T15:02:53.946Z", 1795359773946000),
        ("2026-11-22T15:02:53Z", 1795359773000000),
        ("2026-11-22T15:02:53.946123+01:00", 1795356173946123),
        ("2026-11-22T15:02:53.946", 1795359773946000),
        ("yesterday", None),
        ("2026-99-22T15:02:53.946Z", None),
        ("2026-11-22T15:02:xx.946Z", None),
        (None, None),
    ],
)
def test_time_stamps_are_read_exactly(text, expected):
    """Zones, fractions and their absence; what is no time is None."""
    assert lines.epoch_us(text) == expected


def test_a_packed_rollout_is_read_as_it_was(tmp_path):
    """Codex's archived sessions, packed with zstd, give what the plain file gives."""
    (plain,) = sessions(SAMPLES / "hand_made" / "codex_fork_parent.jsonl")
    packed = tmp_path / "rollout.jsonl.zst"
    with pa.output_stream(str(packed), compression="zstd") as file:
        file.write(plain.parts[0].path.read_bytes())
    (found,) = sessions(tmp_path)
    assert found.read().lanes == plain.read().lanes
    assert found.read().files[0].bytes == packed.stat().st_size


def test_a_pipe_is_not_waited_for(tmp_path):
    """A named pipe that looks like a log is refused, not opened."""
    os.mkfifo(tmp_path / "x.jsonl")
    assert find([tmp_path]).refused[0][1] == "not a regular file"


def test_a_file_that_grows_while_it_is_read_gives_a_whole_prefix(tmp_path):
    """Lines that are appended during the reading are not taken."""
    path = claude(tmp_path, *(user(f"u{i}", None, "x" * 1000) for i in range(50)))
    session = events.Session("claude_code", "s", "x")
    from traj.sources.claude_code import wire

    size = path.stat().st_size
    for number, _, _ in lines.read(path, wire.DECODER, session):
        if number < 40:
            with path.open("a") as file:
                file.write('{"type":"user"}\n')
    assert session.files[0].bytes == size
    assert number == 50


def claude(folder: Path, *rows: dict) -> Path:
    path = folder / "session.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def user(uuid: str, parent: str | None, text: str) -> dict:
    return {
        "type": "user",
        "uuid": uuid,
        "parentUuid": parent,
        "sessionId": "session",
        "timestamp": f"2026-01-01T00:00:{len(uuid) + ord(uuid[0]) % 40:02d}.000Z",
        "message": {"role": "user", "content": text},
    }


def answer(uuid: str, parent: str, key: str, text: str, usage=(10, 5, 1, 3)) -> dict:
    fresh, read, written, output = usage
    row = user(uuid, parent, "")
    row["type"] = "assistant"
    row["message"] = {
        "id": key,
        "role": "assistant",
        "model": "m",
        "stop_reason": "end_turn",
        "content": [{"type": "text", "text": text}],
        "usage": {
            "input_tokens": fresh,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
            "output_tokens": output,
        },
    }
    return row


def test_chained_requests_are_not_walked_back_to_their_beginning(tmp_path, monkeypatch):
    """A session of n requests costs n steps: only the first is read back along its chain."""
    from traj.sources.claude_code.request_log import RequestLog

    rows: list[dict] = []
    for i in range(30):
        text = {"role": "user", "content": f"prompt {i}"}
        said = [f"answer {i - 1}"] if i else []  # no blob: the transcript has it
        chain = {"base": f"r{i - 1}", "keep": 2 * i - 1} if i else {"keep": 0}
        rows.append({"type": "api-request-blob", "hash": f"h{i}", "message": text})
        rows.append({"type": "api-request", "id": f"r{i}", "tail": [*said, f"h{i}"], **chain})
        reply = answer(f"a{i}", f"a{i - 1}" if i else None, f"m{i}", f"reply {i}")
        rows.append({**reply, "requestRef": f"r{i}"})
    walked = []
    whole = RequestLog.messages
    monkeypatch.setattr(RequestLog, "messages", lambda s, r: walked.append(r.id) or whole(s, r))
    (session,) = sessions(claude(tmp_path, *rows))
    steps = session.read().lanes[0].steps
    assert walked == ["r0"]
    assert [type(step).__name__ for step in steps] == ["Message", "Turn"] * 30


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (".aider.chat.history.md", "\n# aider chat started at 2026-01-01\n> hi\n", "aider"),
        ("x.json", '[{"role": "user", "content": "hi"}]', "a list of messages"),
        ("x.json", '{"a": 1}', "not a session log"),
        ("x.jsonl", "", "empty file"),
    ],
)
def test_what_is_no_session_is_refused_with_its_reason(name, text, reason, tmp_path):
    """In a folder as by name: a person is told why, and what would do."""
    (tmp_path / name).write_text(text)
    for place in (tmp_path, tmp_path / name):
        found = find([place])
        assert not found.sessions
        assert reason in found.refused[0][1]
