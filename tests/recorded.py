"""What a dataset's rows say of each request, worked out anew: what exports are held to."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mock_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from traj.dataset import Dataset

Message = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A request as it was made; messages and tools in their chat form."""

    lane: int
    messages: list[Message]
    tools: list[dict[str, Any]]
    answer: Message
    output_tokens: int
    waits: frozenset[int]  # the answered turns that it waited for
    delay_us: int  # since the last of them ended
    start_us: int | None
    end_us: int | None


def requests(dataset: Dataset) -> dict[tuple[str, int], Request]:
    """The answered requests, by trajectory and turn."""
    prompts = {row["prompt_id"]: row["content"] for row in dataset.table("prompts").to_pylist()}
    found = {}
    for one in dataset.trajectories(("turns", "messages")):
        turns, messages = one.turns.to_pylist(), one.messages.to_pylist()
        waits = _waits(turns)
        for turn in turns:
            if turn["output"] is not None:
                made = _request(turn, turns, messages, waits[turn["turn"]], prompts)
                found[one.trajectory_id, turn["turn"]] = made
    return found


def sessions(notes: Iterable[str]) -> dict[str, list[tuple[str, int]]]:
    """The requests of each conversation, by the lines of sessions.jsonl."""
    found = {}
    for line in map(json.loads, notes):
        found[line["session_id"]] = [(line["trajectory_id"], turn) for turn in line["turns"]]
    return found


def gaps_us(
    requests: dict[tuple[str, int], Request], conversation: list[tuple[str, int]]
) -> list[int]:
    """The time between each request and the one before it in its conversation, if everything is
    sent when it may be and takes as long as it took; the first one's own delay."""
    ends: dict[tuple[str, int], int] = {}
    found = {}
    trajectory = conversation[0][0]
    for key in sorted(key for key in requests if key[0] == trajectory):
        request = requests[key]
        start = request.start_us or 0
        if request.waits:
            start = max(ends[trajectory, wait] for wait in request.waits) + request.delay_us
        ends[key] = start + (request.end_us or 0) - (request.start_us or 0)
        if key in conversation:
            at = conversation.index(key)
            before = ends[conversation[at - 1]] if at else start - request.delay_us
            found[key] = max(0, start - before) if request.waits else 0
    return [found[key] for key in conversation]


def said(message: Message) -> str:
    """All that a message says, a line a thing."""
    texts = [message.get("reasoning_content"), message.get("content")]
    calls = [call["function"] for call in message.get("tool_calls", ())]
    texts += [f"{call['name']} {call['arguments']}" for call in calls]
    return "\n".join(text for text in texts if text)


def cached_alone(
    log: list[dict[str, Any]],
    group: Callable[[dict[str, Any]], Hashable],
    encode: mock_engine.Tokens,
) -> list[int]:
    """How many tokens of each logged prompt a cache would hold that had seen the earlier requests
    of its group alone."""
    engines: dict[Hashable, mock_engine.Engine] = defaultdict(mock_engine.Engine)
    return [
        engines[group(entry)].cached(encode(mock_engine.render(entry["body"]))) for entry in log
    ]


def cached(log: list[dict[str, Any]]) -> list[int]:
    """How many tokens of each logged prompt the engine found in its cache."""
    return [entry["usage"]["prompt_tokens_details"]["cached_tokens"] for entry in log]


def _request(
    turn: Message,
    turns: list[Message],
    messages: list[Message],
    waits: frozenset[int],
    prompts: dict[str, str],
) -> Request:
    sent: list[Message] = []
    if turn["system_id"] is not None:
        sent.append({"role": "system", "content": prompts[turn["system_id"]]})
    kept = turn["earlier_reasoning"] == "kept"
    for span in turn["input"]:
        for message in messages[span["start"] : span["stop"]]:
            made = _message(message, kept)
            if made["role"] == "system" and any(one["role"] != "system" for one in sent):
                made["role"] = "user"
            sent.append(made)
    delay = turn["delay_us"] or 0
    ends = [turns[wait]["end_us"] for wait in waits]
    known = None not in (turn["start_us"], *ends)
    if known and waits != set(turn["wait_for"]):  # attempts that failed took part of the time
        delay = max(0, turn["start_us"] - max(ends, default=0))
    counted = turn["counted_output_tokens"]
    reported = turn["output_tokens"]
    output = counted if reported is None else reported
    if turn["usage_source"] == "partial":
        output = max(output, counted)
    return Request(
        lane=turn["lane"],
        messages=sent,
        tools=_tools(prompts.get(turn["tools_id"], "[]")),
        answer=_message(messages[turn["output"]], kept=True),
        output_tokens=max(1, output),
        waits=waits,
        delay_us=delay,
        start_us=turn["start_us"],
        end_us=turn["end_us"],
    )


def _waits(turns: list[Message]) -> list[frozenset[int]]:
    found: list[frozenset[int]] = []
    for turn in turns:
        waits: set[int] = set()
        for wait in turn["wait_for"]:
            waits |= {wait} if turns[wait]["output"] is not None else found[wait]
        found.append(frozenset(waits))
    return found


def _message(message: Message, kept: bool) -> Message:
    role, content = message["role"], message["content"]
    made = {"role": role, "content": content or ""}
    if role == "tool":
        made["tool_call_id"] = message["tool_call_id"]
    if role == "assistant":
        if message["tool_calls"]:
            made["content"] = content
            made["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": call["arguments"]},
                }
                for call in message["tool_calls"]
            ]
        if kept and message["reasoning"] is not None:
            made["reasoning_content"] = message["reasoning"]
    return made


def _tools(text: str) -> list[dict[str, Any]]:
    return [
        {"type": "function", "function": {**kept, "parameters": tool["input_schema"]}}
        for tool in json.loads(text)
        if "input_schema" in tool
        for kept in [{key: tool[key] for key in ("name", "description") if key in tool}]
    ]
