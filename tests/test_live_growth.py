"""Live logs of growing conversations: read in linear work, and as if every body were read whole."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import live_logs
import wire_truth
from conftest import SAMPLES
from test_live import CAPTURED, played
from traj.errors import SourceError
from traj.events import Session
from traj.proxy.bodies import Masks
from traj.proxy.log import Answer, Log, Request
from traj.sources import find
from traj.sources.live import shared as sharing
from traj.sources.requests import chaining
from traj.sources.requests.links import Link


def read(log: Path) -> list[Session | str]:
    """All sessions of a log, or why one cannot be read."""
    found: list[Session | str] = []
    for one in find([log], "live").sessions:
        try:
            found.append(one.read())
        except SourceError as error:
            found.append(str(error))
    return found


def both_ways(log: Path) -> list[Session | str]:
    """All sessions of a log, which are the same where every body is put together and read."""
    found = read(log)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharing, "_GROWING", ())
        assert read(log) == found
    return found


@pytest.mark.parametrize("agent", CAPTURED)
def test_captured_sessions_are_the_same(agent: str, shared: Path, tmp_path: Path):
    """What a real agent sent is the same session, read whole or by what is new."""
    truth = wire_truth.exchanges(shared / "captures" / agent / "api")
    assert both_ways(asyncio.run(played(tmp_path, truth)))


def test_the_sample_log_is_the_same():
    """The sample data's log is the same session, read whole or by what is new."""
    assert both_ways(SAMPLES / "hand_made" / "live_log.jsonl")


@pytest.mark.parametrize("api", live_logs.PATHS)
def test_growing_logs_are_the_same(api: str, tmp_path: Path):
    """A long conversation has one lane with all its turns, read whole or by what is new."""
    (session,) = both_ways(live_logs.write(tmp_path / "run.jsonl", api, 25))
    assert isinstance(session, Session)
    (lane,) = session.lanes
    assert len(lane.steps) == 25 * 2 + (api == "openai_chat")
    assert session.losses.keys() <= {"answer_not_recorded"}


@pytest.mark.parametrize("api", live_logs.PATHS)
def test_work_grows_with_the_conversation(
    api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Ten times the requests are ten times the bytes that are parsed and the messages that are
    looked for, not a hundred times."""
    counts: list[tuple[int, int]] = []
    work = {"bytes": 0, "keys": 0}
    decode, key_of = msgspec.json.decode, chaining.key_of

    def decoded(raw: Any, **options: Any) -> Any:
        work["bytes"] += len(bytes(raw))
        return decode(raw, **options)

    def key(message: Any) -> Any:
        work["keys"] += 1
        return key_of(message)

    monkeypatch.setattr(msgspec.json, "decode", decoded)
    monkeypatch.setattr(chaining, "key_of", key)
    for requests in (30, 300):
        work.update(bytes=0, keys=0)
        read(live_logs.write(tmp_path / f"{requests}.jsonl", api, requests))
        counts.append((work["bytes"], work["keys"]))
    (few_bytes, few_keys), (many_bytes, many_keys) = counts
    assert few_bytes > 30 * 1500
    assert few_keys >= 60
    assert many_bytes < 11 * few_bytes
    assert many_keys < 11 * few_keys


OWN_LISTS = {
    "messages": ("/v1/messages", "/v1/chat/completions"),
    "input": ("/v1/responses",),
    "contents": ("/v1beta/models/m:generateContent",),
}
TEXT = "a text that is long enough to be a part of its own in the log"
ITEMS: list[Any] = [
    {"role": "system", "content": TEXT},
    {"role": "developer", "content": TEXT + " too"},
    {"role": "user", "content": TEXT},
    {"role": "user", "content": "short"},
    {"role": "user", "content": [{"type": "text", "text": TEXT, "cache_control": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": TEXT}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "b", "content": "x"}]},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
    {"role": "assistant", "content": [{"type": "thinking", "thinking": TEXT}]},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "g", "input": {}}]},
    {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f"}}], "content": None},
    {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "g"}}], "content": TEXT},
    {"role": "assistant", "content": TEXT, "reasoning": TEXT},
    {"role": "assistant", "content": TEXT + "!"},
    {"role": "tool", "tool_call_id": "a", "content": TEXT},
    {"role": "tool", "tool_call_id": "b", "content": "x"},
    {"type": "function_call", "call_id": "a", "name": "f", "arguments": '{"path": "a/b/c"}'},
    {"type": "function_call", "call_id": "a", "name": "g", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "a", "output": TEXT},
    {"type": "reasoning", "summary": [{"text": TEXT}], "encrypted_content": TEXT},
    {"type": "compaction", "encrypted_content": TEXT},
    {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"text": TEXT}}}]},
    {"role": "model", "parts": [{"functionCall": {"name": "g", "id": "a"}}, {"text": "x"}]},
    {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": TEXT}}}]},
    {"role": "user", "parts": [{"functionResponse": {"name": "g", "response": {}}}] * 2},
    {"role": "user", "parts": [{"text": TEXT}]},
    {"role": "user", "content": '"messages":[' + TEXT + ',{"input":[]'},
    *(0, -0.0, 10**60, -1e-71, None, TEXT, "x", [], [TEXT], {}, {"messages": [TEXT]}),
]
FIELDS: list[Any] = [
    ("model", "m"),
    ("system", [{"type": "text", "text": TEXT}]),
    ("tools", [{"name": "f", "description": TEXT}]),
    ("metadata", {"messages": [], "input": "x"}),
    ("max_tokens", 10),
    ("max_tokens", -1),
    ("stream", False),
    ("previous_response_id", "r1"),
    ("input", TEXT),
    ("messages", [{"role": "user", "content": TEXT + " again"}]),
    ("messages", {"role": "user", "content": TEXT + " as no list"}),
]
SOUND = 26  # so many of them are no odd ones
ANSWERS: list[Any] = [
    {"choices": [{"message": ITEMS[10]}]},
    {"choices": [{"message": ITEMS[13]}]},
    {"type": "message", "content": ITEMS[7]["content"]},
    {"id": "r1", "output": ITEMS[16:17]},
    {"candidates": [{"content": ITEMS[21]}]},
    {"error": {"type": "overloaded"}},
]
SPACES = [(",", ":"), (", ", ": "), (" ,\n", " :\t")]
MARK_ITSELF = "[0, "


def _body(
    fields: Sequence[Any], behind: Sequence[Any], growing: tuple[str, Any], space: Any
) -> str:
    """A JSON object in which a field may stand twice."""
    told = (
        f"{json.dumps(name)}{space[1]}{json.dumps(value, separators=space)}"
        for name, value in (*fields, growing, *behind)
    )
    return "{" + space[0].join(told) + "}"


def _write(path: Path, seed: int) -> Path:
    """A log of up to 12 requests, most of which go on from an earlier one; some of them odd."""
    dice = random.Random(seed)
    log = Log(path, "run")
    prompts: list[list[Any]] = [[]]
    name = dice.choice(["messages", "messages", "messages", "input", "contents"])
    ends = live_logs.PATHS.values()
    odd = dice.random() < 0.5
    fields, behind = (dice.sample(FIELDS[:5], dice.randint(0, 2)) for _ in range(2))
    url, space = dice.choice(OWN_LISTS[name]), dice.choice(SPACES)
    for number in range(dice.randint(1, 12)):
        before = dice.choice(prompts[-3:])
        kept = before[: len(before) - dice.choice([0, 0, 0, 1, 2, 5])] if before else []
        prompts.append(
            [*kept, *dice.choices(ITEMS[: None if odd else SOUND], k=dice.randint(0, 4))]
        )
        if odd and dice.random() < 0.3:
            fields, behind = (dice.sample(FIELDS, dice.randint(0, 3)) for _ in range(2))
            url, space = dice.choice([*ends]), dice.choice(SPACES)
            name = dice.choice(["messages", "input"])
        text = _body(fields, behind, (name, prompts[-1]), space)
        if odd and dice.random() < 0.1:
            text = text.replace("[", MARK_ITSELF, 1)
        if odd and dice.random() < 0.1:
            text = text[: dice.randint(0, len(text))]
        count = log.next_number()
        path_of = "/v1/messages/count_tokens" if odd and dice.random() < 0.1 else url
        request = Request(
            *(count, number * 10, number * 10, "POST", "m", path_of, {}),
            *(text.encode(), None, Masks([])),
        )
        log.ask(request)
        said = json.dumps(dice.choice(ANSWERS)).encode()
        log.end(Answer(request, number * 10 + dice.choice([5, 5, 15]), 200, chunks=[(5, said)]))
    log.close()
    return log.path


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), spoil=st.booleans())
def test_made_logs_are_the_same(seed: int, spoil: bool):
    """Whatever requests a log has, in whatever order, layout and state, its sessions are the same,
    read whole or by what is new."""
    with tempfile.TemporaryDirectory() as folder:
        log = _write(Path(folder) / "run.jsonl", seed)
        if spoil:
            _spoil(log, random.Random(seed))
        both_ways(log)


def _spoil(log: Path, dice: random.Random) -> None:
    """Lines dropped, swapped and told twice; other numbers in how bodies go on."""
    first, *rows = [json.loads(line) for line in log.read_text().splitlines()]
    for _ in range(dice.randint(1, 3)):
        place, other = dice.randrange(len(rows)), dice.randrange(len(rows))
        match dice.randrange(4):
            case 0 if len(rows) > 1:
                del rows[place]
            case 1:
                rows[place], rows[other] = rows[other], rows[place]
            case 2:
                rows.insert(place, rows[other])
            case _:
                for row in rows:
                    if row.get("pieces") and dice.random() < 0.3:
                        name = dice.choice(["kept", "after"])
                        row["pieces"][name] = row["pieces"].get(name, 0) + dice.randint(-2, 2)
                    if "part" in row and dice.random() < 0.05:
                        row["said"] = {"text": dice.choice(["1", "1,2", "", "{", ' {"a":1} '])}
    log.write_text("\n".join(map(json.dumps, [first, *rows])) + "\n")


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=80))
def test_earlier_links_are_found(choices: list[int]):
    """A link's ancestors, as they are found by leaps, are those that are found one by one."""
    links = [Link()]
    for choice in choices:
        links.append(Link(links[choice % len(links)], "", ""))
    for link in links:
        above: Link | None = link
        while above is not None:
            assert link.at(above.depth) is above
            assert link.is_behind(above)
            above = above.before
        assert sum(link.is_behind(other) for other in links) == link.depth + 1
