"""What went over the wire, and whether a dataset says the same: prompts, tools, usage, answers.

Bodies are read here by code of the tests' own, which shares nothing with the sources: a prompt
becomes a list of what it says, in order, whatever the API groups it by.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from traj.dataset import Dataset

Json = dict[str, Any]
Atom = tuple[Any, ...]


@dataclass
class Exchange:
    """One request to a model and what came back."""

    path: str
    headers: dict[str, str]
    body: Json
    status: int
    answer: Json  # of the last event that has figures, or the whole body
    chunks: list[str]
    sent_s: float  # since the model began to listen, where it says so
    took_s: float

    def timings(self) -> Json:
        """What llama.cpp says of its work on the request."""
        found: Json = {}
        text = "".join(self.chunks)
        events = [text] if text.startswith("{") else text.splitlines()
        for event in events:
            told = event.removeprefix("data:").strip()
            if told.startswith("{"):
                found = json.loads(told).get("timings") or found
        return found

    @property
    def api(self) -> str:
        path = self.path.partition("?")[0]
        for end, name in (
            ("/messages", "anthropic"),
            ("/completions", "chat"),
            ("es", "responses"),
        ):
            if path.endswith(end):
                return name
        return "gemini"


def exchanges(folder: Path) -> list[Exchange]:
    """The requests to models in a folder of a scripted model's files, either model's."""
    found = []
    for path in sorted(folder.glob("[0-9]*.json")):
        told = json.loads(path.read_text())
        body = told.get("req_body") or told.get("body")
        kind = str(told.get("kind"))
        if told["method"] != "POST" or not isinstance(body, dict) or kind in ("OTHER", "other"):
            continue
        if "count" in kind.lower() or not _is_model(told["path"]):
            continue
        headers = told.get("req_headers", told.get("headers"))
        chunks = [text for _, text in told.get("resp_chunks", [])]
        answer = told.get("answer") or _answer(chunks)
        times = (
            told.get("t_rel", 0.0),
            max((at for at, _ in told.get("resp_chunks", [])), default=0.0),
        )
        found.append(
            Exchange(told["path"], dict(headers), body, told["status"], answer, chunks, *times)
        )
    return found


def _is_model(path: str) -> bool:
    ends = ("/messages", "/chat/completions", "/responses", "enerateContent")
    return path.partition("?")[0].endswith(ends)


def _answer(chunks: list[str]) -> Json:
    """Id and figures of an answer's events."""
    found: Json = {}
    text = "".join(chunks)
    events = [text] if text.startswith("{") else []
    events += [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    for event in events:
        if not event.startswith("{"):
            continue
        value = json.loads(event)
        for one in (value, value.get("response"), value.get("message")):
            if not isinstance(one, dict):
                continue
            if one.get("id"):
                found.setdefault("id", one["id"])
            if one.get("responseId"):  # the scripted model's own is another in each chunk
                found["id"] = one["responseId"]
            for name in ("usage", "usageMetadata"):
                if one.get(name):
                    found["usage"] = found.get("usage", {}) | one[name]
    return found


def figures(one: Exchange) -> tuple[int | None, ...]:
    """Input, cached and output tokens in the schema's meaning."""
    usage = one.answer.get("usage")
    if not usage:
        return None, None, None
    if one.api == "anthropic":
        cached, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
        return usage["input_tokens"] + cached + written, cached, usage["output_tokens"]
    if one.api == "gemini":
        thoughts = usage.get("thoughtsTokenCount", 0)
        cached = usage.get("cachedContentTokenCount", 0)
        return usage["promptTokenCount"], cached, usage["candidatesTokenCount"] + thoughts
    if one.api == "chat":
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return usage["prompt_tokens"], cached, usage["completion_tokens"]
    cached = usage["input_tokens_details"]["cached_tokens"]
    return usage["input_tokens"], cached, usage["output_tokens"]


def prompt(one: Exchange) -> list[Atom]:
    """What a prompt's messages say."""
    atoms: list[Atom] = []
    items = one.body.get({"responses": "input", "gemini": "contents"}.get(one.api, "messages"))
    for item in items:
        atoms += _READERS[one.api](item)
    return merged(atoms)


def merged(atoms: list[Atom]) -> list[Atom]:
    """Texts of one role that follow each other are one; where calls stand among texts of an
    answer does not matter."""
    found: list[Atom] = []
    for _, run in groupby(atoms, lambda atom: "assistant" if atom[0] == "call" else atom[1]):
        several = list(run)
        texts = [atom for atom in several if atom[0] == "text" and atom[2]]
        if texts:
            found.append(("text", texts[0][1], "\n".join(atom[2] for atom in texts)))
        found += [atom for atom in several if atom[0] != "text"]
    return found


def _content(content: Any) -> str | None:
    if content is None or isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if "text" in part)


def _chat(message: Json) -> list[Atom]:
    role = {"developer": "system"}.get(message["role"], message["role"])
    if role == "tool":
        return [("result", message["tool_call_id"], _content(message["content"]))]
    atoms: list[Atom] = [("text", role, _content(message.get("content")))]
    for call in message.get("tool_calls") or ():
        function = call["function"]
        atoms.append(("call", call["id"], function["name"], _parsed(function["arguments"])))
    return atoms


def _anthropic(message: Json) -> list[Atom]:
    content = message["content"]
    if isinstance(content, str):
        return [("text", message["role"], content)]
    atoms: list[Atom] = []
    for block in sorted(content, key=lambda block: block["type"] != "tool_result"):
        if block["type"] == "tool_result":
            atoms.append(("result", block["tool_use_id"], _content(block["content"])))
        elif block["type"] == "tool_use":
            atoms.append(("call", block["id"], block["name"], _parsed(json.dumps(block["input"]))))
        elif block["type"] == "text":
            atoms.append(("text", message["role"], block["text"]))
    return atoms


def _responses(item: Json) -> list[Atom]:
    if item.get("type", "message") == "message":
        role = {"developer": "system"}.get(item["role"], item["role"])
        return [("text", role, _content(item["content"]))]
    if item["type"].endswith("_output"):
        return [("result", item["call_id"], _content(item["output"]))]
    if item["type"].endswith("_call"):
        said = item.get("arguments", item.get("input"))
        return [("call", item["call_id"], item["name"], _parsed(said))]
    return []


def _gemini(content: Json) -> list[Atom]:
    atoms: list[Atom] = []
    role = {"model": "assistant"}.get(content["role"], content["role"])
    texts = [p["text"] for p in content["parts"] if "text" in p and not p.get("thought")]
    for part in content["parts"]:
        if result := part.get("functionResponse"):
            said = result["response"].get("output")
            atoms.append(("result", result.get("id"), said))
        elif call := part.get("functionCall"):
            atoms.append(
                ("call", call.get("id"), call["name"], _parsed(json.dumps(call.get("args", {}))))
            )
    if texts:
        atoms.append(("text", role, ("" if role == "assistant" else "\n").join(texts)))
    return atoms


_READERS = {"chat": _chat, "anthropic": _anthropic, "responses": _responses, "gemini": _gemini}


def _parsed(text: str) -> Any:
    # In the captures a path was replaced in what was sent, not in what was streamed in pieces.
    try:
        return json.loads(re.sub(r"/[\w./-]*(?=/[\w-]+/calc\.py)", "", text))
    except ValueError:
        return text


def _row(message: Json) -> list[Atom]:
    role = message["role"]
    if role == "tool":
        return [("result", message["tool_call_id"], message["content"])]
    atoms: list[Atom] = [("text", role, message["content"])]
    calls = message["tool_calls"] or ()
    return atoms + [("call", one["id"], one["name"], _parsed(one["arguments"])) for one in calls]


def check(dataset: Dataset, truth: list[Exchange]) -> None:
    """Every request of the truth is a turn of the dataset, with its prompt, tools, system prompt
    and figures; and no turn is anything else."""
    rows = {
        name: dataset.table(name).to_pylist()
        for name in ("turns", "messages", "prompts", "trajectories")
    }
    assert all(row["source"]["recorder"] == "proxy" for row in rows["trajectories"])
    messages: dict[str, dict[int, Json]] = {}
    for row in rows["messages"]:
        messages.setdefault(row["trajectory_id"], {})[row["message"]] = row
    prompts = {row["prompt_id"]: row["content"] for row in rows["prompts"]}
    turns = rows["turns"]
    assert len(turns) == len(truth)
    by_id = {turn["response_id"]: turn for turn in turns if turn["response_id"]}
    answered = [one for one in truth if one.status == 200]
    failed = [turn for turn in turns if turn["status"] == "error"]
    assert len(failed) == len(truth) - len(answered)
    if not by_id:  # an API without ids: nothing there runs at once
        fine = sorted((t for t in turns if t["status"] == "ok"), key=lambda t: t["start_us"])
        by_id = {one.answer.setdefault("id", n): fine[n] for n, one in enumerate(answered)}
    assert len(by_id) == len(answered)
    for one in answered:
        turn = by_id[one.answer["id"]]
        own = messages[turn["trajectory_id"]]
        said = [
            atom
            for span in turn["input"]
            for number in range(span["start"], span["stop"])
            for atom in _row(own[number])
        ]
        assert _numbered(merged(said)) == _numbered(prompt(one))
        assert _system(one) == (turn["system_id"] and prompts[turn["system_id"]])
        tools = one.body.get("tools") or None
        assert tools == (turn["tools_id"] and json.loads(prompts[turn["tools_id"]]))
        got = turn["input_tokens"], turn["cached_tokens"], turn["output_tokens"]
        assert got == figures(one)
        assert turn["clock"] == "measured"
        assert turn["start_us"] <= turn["end_us"]
        if one.body.get("stream") and one.api != "gemini":
            assert turn["start_us"] < turn["first_token_us"] <= turn["end_us"]


def _numbered(atoms: list[Atom]) -> list[Atom]:
    """Ids of calls by their place: Gemini has none of its own on some calls."""
    places: dict[Any, int] = {}
    return [
        (atom[0], places.setdefault(atom[1], len(places)), *atom[2:])
        if atom[0] in ("call", "result")
        else atom
        for atom in atoms
    ]


def _system(one: Exchange) -> str | None:
    if one.api == "gemini":
        instruction = one.body.get("systemInstruction")
        return instruction and _content(instruction["parts"])
    if one.api == "responses":
        return one.body.get("instructions") or None
    return _content(one.body.get("system"))
