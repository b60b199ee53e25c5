"""The APIs of the reference harness: the same load to each, what is sent and what is understood."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import orjson
import pytest

from conftest import SAMPLES
from traj.dataset import Dataset
from traj.engine.options import ServerOptions
from traj.engine.parameters import open_parameters
from traj.engine.serving import in_thread
from traj.errors import UsageError
from traj.exporters.whole_prompts import WholePrompts
from traj.pipeline import record
from traj.replay import ReplayOptions, replay
from traj.replay.apis import APIS, open_api
from traj.replay.outcome import FailedError, Outcome
from traj.replay.scripts import scripts
from traj.workload.load import Load
from traj.workload.options import LoadOptions

FAST = LoadOptions(tool_time="none", user_time="none", prefix="aa", lengths="text")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Sessions of two agents, with sub-agents and tools."""
    out = tmp_path_factory.mktemp("apis") / "dataset"
    record([SAMPLES / "claude_code" / "-home-dev-src-rust-duration"], out)
    record(sorted((SAMPLES / "codex").rglob("*.jsonl"))[:2], out)
    return Dataset.open(out)


def _said(message: dict[str, Any]) -> list[Any]:
    """What a message in chat form says, call by call."""
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    texts = [message.get("reasoning_content"), message.get("content")]
    asked = [(call["name"], orjson.loads(call["arguments"])) for call in calls]
    return [text for text in texts if text] + asked


def _chat(body: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(m["role"], said) for m in body["messages"] for said in _said(m)]


def _responses(body: dict[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for item in body["input"]:
        kind = item.get("type")
        if kind == "function_call":
            found.append(("assistant", (item["name"], orjson.loads(item["arguments"]))))
        elif kind == "function_call_output":
            found.append(("tool", item["output"]))
        elif kind == "reasoning":
            found += [("assistant", part["text"]) for part in item["content"]]
        else:
            found.append((item["role"], item["content"]))
    return [(role, said) for role, said in found if said]


def _messages(body: dict[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = [("system", block["text"]) for block in body.get("system", ())]
    roles = [message["role"] for message in body["messages"]]
    assert all(one != other for one, other in pairwise(roles))
    for message in body["messages"]:
        for block in message["content"]:
            kind = block["type"]
            if kind == "tool_use":
                found.append(("assistant", (block["name"], block["input"])))
            elif kind == "tool_result":
                found.append(("tool", block["content"]))
            else:
                text = block["thinking"] if kind == "thinking" else block["text"]
                found.append((message["role"], text))
    return [(role, said) for role, said in found if said]


SAID = {"chat": _chat, "responses": _responses, "messages": _messages}


@pytest.mark.parametrize("api", APIS)
def test_every_api_is_sent_the_same_conversation(dataset: Dataset, api: str) -> None:
    """Who says what, in which order, with which calls and answers, is in every API what the load
    has; tool calls and results keep their ids, and the answer's length is asked for."""
    options = ReplayOptions("http://x", "m", api=api, load=FAST)
    load = Load(dataset, FAST, text=True)
    plays = list(load.plays())
    compared = calls = 0
    for play, script in zip(plays, scripts(load, options), strict=True):
        whole = WholePrompts(play)
        for turn, step in zip(play.sent, script.steps, strict=True):
            body = orjson.loads(script.body(step))
            messages = [play.prompts.message(one) for one in whole.of(turn)]
            assert SAID[api](body) == [(m["role"], said) for m in messages for said in _said(m)]
            made = [call["id"] for m in messages for call in m.get("tool_calls") or ()]
            text = orjson.dumps(body).decode()
            assert all(text.count(f'"{one}"') >= 1 for one in made)
            assert len(body.get("tools", ())) == len(play.prompts.tools(turn) or ())
            assert step.output_tokens in (body.get("max_tokens"), body.get("max_output_tokens"))
            compared += 1
            calls += len(made)
    assert compared > 20
    assert calls > 20


def test_what_anthropics_api_cannot_hold_goes_as_near_as_it_can() -> None:
    """A system message after others is the user's, arguments that are no object stand in one, and
    a system prompt alone has an empty message behind it."""
    api, before, pieces = open_api("messages"), "", [b'{"model":"m"']
    call = {"id": "c", "function": {"name": "patch", "arguments": "*** Begin"}}
    for message in (
        {"role": "system", "content": "one"},
        {"role": "system", "content": "two"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "system", "content": "late"},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
    ):
        piece, before = api.message(message, before)
        pieces.append(piece)
    body = orjson.loads(b"".join([*pieces, api.close(before)]))
    assert [block["text"] for block in body["system"]] == ["one", "two"]
    assert [message["role"] for message in body["messages"]] == ["assistant", "user"]
    assert body["messages"][0]["content"][0]["input"] == {"arguments": "*** Begin"}
    assert [block["type"] for block in body["messages"][1]["content"]] == ["text", "tool_result"]
    piece, before = api.message({"role": "system", "content": "one"}, "")
    assert len(orjson.loads(b'{"model":"m"' + piece + api.close(before))["messages"]) == 1


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    with in_thread(open_parameters("b200-120b-moe"), ServerOptions(port=0, model="m")) as url:
        yield url


@pytest.mark.parametrize("api", APIS)
def test_every_api_is_understood(dataset: Dataset, engine: str, api: str) -> None:
    """Against the simulated engine: every request is answered at its length, and the rows hold the
    engine's own count of prompt, cache and answer."""
    run = replay(dataset, ReplayOptions(engine, "m", agents=2, api=api, load=FAST))
    rows = run.requests
    assert rows["status"].unique().to_list() == ["ok"]
    assert rows["output_tokens"].to_list() == rows["planned_output_tokens"].to_list()
    assert rows["counted_output_tokens"].to_list() == rows["planned_output_tokens"].to_list()
    assert rows["events"].to_list() == rows["output_tokens"].to_list()
    assert rows["input_tokens"].null_count() == 0
    # Roles, ids and JSON come on top of what was planned.
    assert (rows["input_tokens"] >= rows["planned_input_tokens"] * 0.95).all()
    assert (rows["input_tokens"] <= rows["planned_input_tokens"] * 1.6 + 500).all()
    assert 0 < rows["cached_tokens"].sum() < rows["input_tokens"].sum()
    assert rows["finish_reason"].null_count() == 0
    assert (rows["first_token_us"] <= rows["last_token_us"]).all()


def _event(api: str, *lines: bytes) -> tuple[Outcome, list[str], bool]:
    outcome, parts, over = Outcome(), [], False
    for at, line in enumerate(lines):
        over = open_api(api).event(line, at, outcome, parts)
    return outcome, parts, over


def test_reasoning_and_calls_are_parts_of_an_answer() -> None:
    """In every API's own events: the first of them is the first token, all are text."""
    outcome, parts, over = _event(
        "chat",
        b'{"choices":[{"delta":{"role":"assistant","content":""}}]}',
        b'{"choices":[{"delta":{"reasoning":"hm"}}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"function":{"name":"ls","arguments":"{"}}]}}]}',
        b'{"choices":[{"delta":{},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":3}}',
        b"[DONE]",
    )
    assert (parts, over, outcome.first_token_us, outcome.last_token_us) == (
        ["hm", "ls", "{"],
        True,
        1,
        2,
    )
    assert (outcome.finish_reason, outcome.input_tokens, outcome.cached_tokens) == (
        "tool_calls",
        3,
        None,
    )

    outcome, parts, over = _event(
        "responses",
        b'{"type":"response.created","response":{"status":"in_progress","usage":null}}',
        b'{"type":"response.reasoning_text.delta","delta":"hm"}',
        b'{"type":"response.output_item.added","item":{"type":"function_call","name":"ls"}}',
        b'{"type":"response.function_call_arguments.delta","delta":"{"}',
        b'{"type":"response.completed","response":{"status":"completed","usage":'
        b'{"input_tokens":3,"output_tokens":4,"input_tokens_details":{"cached_tokens":2}}}}',
    )
    assert (parts, over, outcome.first_token_us, outcome.last_token_us) == (
        ["hm", "ls", "{"],
        True,
        1,
        3,
    )
    assert (outcome.input_tokens, outcome.cached_tokens, outcome.output_tokens) == (3, 2, 4)

    outcome, parts, over = _event(
        "messages",
        b'{"type":"message_start","message":{"usage":{"input_tokens":1,"output_tokens":1,'
        b'"cache_read_input_tokens":2,"cache_creation_input_tokens":4}}}',
        b'{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"hm"}}',
        b'{"type":"content_block_start","content_block":{"type":"tool_use","name":"ls"}}',
        b'{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{"}}',
        b'{"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":4}}',
        b'{"type":"message_stop"}',
    )
    assert (parts, over, outcome.first_token_us, outcome.last_token_us) == (
        ["hm", "ls", "{"],
        True,
        1,
        3,
    )
    assert (outcome.input_tokens, outcome.cached_tokens, outcome.output_tokens) == (7, 2, 4)
    assert outcome.finish_reason == "tool_use"


@pytest.mark.parametrize(
    ("api", "line"),
    [
        ("chat", b'{"error":{"message":"died"}}'),
        ("responses", b'{"type":"error","message":"died"}'),
        ("responses", b'{"type":"response.failed","response":{"error":{"message":"died"}}}'),
        ("messages", b'{"type":"error","error":{"message":"died"}}'),
    ],
)
def test_every_api_can_say_that_it_failed(api: str, line: bytes) -> None:
    """An error in the stream has its name and the engine's words; and so has what is no event."""
    with pytest.raises(FailedError, match="died") as failure:
        _event(api, line)
    assert failure.value.name == "error_in_stream"
    with pytest.raises(FailedError) as failure:
        _event(api, b'{"type":')
    assert failure.value.name == "malformed_stream"


def test_an_unknown_api_is_refused() -> None:
    """Before anything is sent, with the names of those that are known."""
    with pytest.raises(UsageError, match="chat, responses, messages"):
        ReplayOptions("http://x", "m", api="grpc")
