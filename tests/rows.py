"""Makes small datasets of schema v1 for tests, without recording anything.

`trajectory`, `turn`, `message`, `tool_call` and `prompt` each give one row with plain defaults;
keywords override any column. `complete` fills what follows from other rows (counts, ideal cache,
delays, totals, hashes), `write` writes rows as they are to a folder that `Dataset.open` reads, so
a test may break a row between the two. `small` is the dataset that most tests use.
"""

from __future__ import annotations

import hashlib
import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

from traj import schema
from traj.dataset import MANIFEST, DataFile, Manifest

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, Any]
Tables = dict[str, list[Row]]

ENCODING = "o200k_base"
TOKENIZER = {
    "name": ENCODING,
    "sha256": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
SUMS = (
    *("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"),
    *("counted_input_tokens", "counted_cached_tokens", "counted_output_tokens"),
)
KEYS = {"turns": "turn", "messages": "message", "tool_calls": "call"}


def trajectory_id(session: str, source: str = "test") -> str:
    return hashlib.sha256(f"{source}\0{session}".encode()).hexdigest()[:32]


def trajectory(session: str = "one", **over: Any) -> Row:
    """A trajectory's row; `complete` fills content_sha256, models, totals and duration_us."""
    file = {"name": f"{session}.jsonl", "sha256": _sha256(session), "bytes": 1000}
    row = _blank("trajectories", trajectory_id(session))
    row.update(
        source={
            "format": "test",
            "recorder": "log",
            "recorder_version": "0",
            "session_id": session,
            "files": [file],
        },
        agent={"name": "tester", "version": "1.0"},
        languages=[],
        outcome="unknown",
        outcome_source="none",
        tokenizer=TOKENIZER,
        losses=[],
    )
    return row | over


def turn(session: str, number: int, start_us: int | None, end_us: int | None, **over: Any) -> Row:
    """A turn's row: an answered request of the main lane that waits for nothing."""
    row = _blank("turns", trajectory_id(session))
    row.update(
        turn=number,
        lane=0,
        lane_kind="main",
        context=0,
        wait_for=[],
        start_us=start_us,
        end_us=end_us,
        clock="none" if start_us is None else "logged",
        api="anthropic_messages",
        model="test-model",
        input=[],
        earlier_reasoning="dropped",
        usage_source="none",
        status="ok",
        attempt=0,
        source_file=0,
    )
    return row | over


def message(session: str, number: int, role: str, content: str | None, **over: Any) -> Row:
    """A message's row; `calls` are (id, name, arguments)."""
    row = _blank("messages", trajectory_id(session)) | {"message": number, "lane": 0}
    row |= {"role": role, "content": content}
    calls = over.pop("calls", ())
    if calls:
        names = ("id", "name", "arguments")
        row["tool_calls"] = [dict(zip(names, one, strict=True)) for one in calls]
    row |= over
    texts = [row["content"] or "", row["reasoning"] or ""]
    texts += [text for _, name, arguments in calls for text in (name, arguments)]
    counts = count(*texts)
    _fill(
        row,
        sha256=canonical_sha256(row),
        tokens=sum(counts),
        reasoning_tokens=counts[1],
    )
    return row


def tool_call(session: str, number: int, in_turn: int, name: str, **over: Any) -> Row:
    """A tool call's row: done, without times."""
    row = _blank("tool_calls", trajectory_id(session))
    row.update(
        call=number,
        turn=in_turn,
        lane=0,
        tool_call_id=f"call_{number}",
        name=name,
        category="other",
        clock="none",
        status="ok",
    )
    return row | over


def prompt(kind: str, content: str) -> Row:
    """A prompt's row."""
    return {
        "schema_version": schema.VERSION,
        "prompt_id": _sha256(f"{kind}\0{content}"),
        "kind": kind,
        "content": content,
        "tokens": count(content)[0],
    }


def count(*texts: str) -> list[int]:
    import toktok

    return list(toktok.batch_count(texts, ENCODING))


def canonical_sha256(row: Row) -> str:
    """The hash of a message as schema/v1/messages.toml defines it."""
    names = ("role", "content", "reasoning", "tool_calls", "tool_call_id", "name")
    form = {name: row[name] for name in names if row.get(name) is not None}
    if row.get("attachments") is not None:
        form["attachments"] = [
            {key: one[key] for key in ("media_type", "sha256", "bytes") if one[key] is not None}
            for one in row["attachments"]
        ]
    return _sha256(json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def complete(tables: Tables) -> Tables:
    """Fills, in place, the columns that follow from other rows and are still None. A turn with
    `unseen_input_tokens` but no `input_tokens` gets those too."""
    prompts = {row["prompt_id"]: row for row in tables["prompts"]}
    for head in tables["trajectories"]:
        own = {
            name: [row for row in tables[name] if row["trajectory_id"] == head["trajectory_id"]]
            for name in KEYS
        }
        _complete_turns(own["turns"], own["messages"], prompts)
        _complete_calls(own["tool_calls"], own["turns"], own["messages"])
        _complete_head(head, own)
    return tables


def write(folder: Path, tables: Tables, *, group_rows: bool = True, **manifest: Any) -> Path:
    """Writes a dataset with one row group a trajectory, and gives its folder."""
    splits = {row["trajectory_id"]: row["split"] or "unsplit" for row in tables["trajectories"]}
    files = []
    for name in schema.TABLES:
        rows = tables[name]
        if name == "prompts":
            files.append(_file(folder, name, "unsplit", [sorted(rows, key=_prompt_key)]))
            continue
        rows = sorted(rows, key=lambda row: (row["trajectory_id"], row.get(KEYS.get(name, ""), 0)))
        for split in sorted(set(splits.values())):
            chosen = [row for row in rows if splits.get(row["trajectory_id"], "unsplit") == split]
            groups = [list(group) for _, group in groupby(chosen, lambda row: row["trajectory_id"])]
            files.append(_file(folder, name, split, groups if group_rows else [chosen]))
    known = {"schema_version": schema.VERSION, "tool_version": "0", "tokenizer": TOKENIZER}
    text = Manifest(**(known | manifest | {"files": tuple(files)})).to_json()
    (folder / MANIFEST).write_bytes(text)
    return folder


def small() -> Tables:
    """Two short sessions with everything that is hard about a session.

    `one`: tools and system prompt; a title on the side; two parallel sub-agents asked for in one
    answer and joined; a failed turn and its retry; a compaction by a side lane; reported usage.
    `two`: neither tools nor system prompt, no usage; kept reasoning; a sub-agent in the background
    that is joined two turns later; an image; a rewind.
    """
    tables: Tables = {name: [] for name in schema.TABLES}
    for rows in (_session_one(), _session_two()):
        for name, found in rows.items():
            tables[name] += found
    return complete(tables)


def words(number: int, seed: str) -> str:
    """That many words of text, the same for the same seed and different for another."""
    found = [_sha256(f"{seed} {index}") for index in range(number)]
    return " ".join(_WORDS[int(digest[:8], 16) % len(_WORDS)] for digest in found)


_WORDS = ("cache", "block", "prompt", "token", "turn", "lane", "agent", "parse", "merge", "queue")
TOOLS = json.dumps(
    [
        {"name": "read", "description": "Reads a file.", "input_schema": {"type": "object"}},
        {"name": "agent", "description": "Starts an agent.", "input_schema": {"type": "object"}},
        {"type": "web_search_20250305", "name": "web_search"},
    ],
    separators=(",", ":"),
)


def _session_one() -> Tables:
    system = prompt("system", "You are a coding agent. " + words(180, "system"))
    tools = prompt("tools", TOOLS)
    fronts = {"tools_id": tools["prompt_id"], "system_id": system["prompt_id"]}

    def say(number: int, role: str, content: str | None, **over: Any) -> Row:
        return message("one", number, role, content, **over)

    def ask(number: int, start: int, end: int, span: Any, out: int | None, **over: Any) -> Row:
        usage: Row = {}
        if out is not None:
            usage = {"output_tokens": 4 + number, "unseen_input_tokens": 150}
            usage["usage_source"] = "reported"
        ranges = [{"start": first, "stop": stop} for first, stop in span]
        over = {"input": ranges, "output": out} | fronts | usage | over
        return turn("one", number, start * 1000, end * 1000, **over)

    first = {"lane": 1, "lane_kind": "subagent", "lane_name": "Explore"}
    second = {"lane": 2, "lane_kind": "subagent", "lane_name": "Explore"}
    title = {"lane": 3, "lane_kind": "side", "lane_name": "title", "tools_id": None}
    failed = {"status": "error", "error": "overloaded"}
    compact = {"lane": 4, "lane_kind": "side", "lane_name": "compaction"}
    return {
        "trajectories": [trajectory("one")],
        "prompts": [system, tools],
        "messages": [
            say(0, "user", "Fix the pager. " + words(60, "task")),
            say(1, "assistant", "I read.", reasoning="Where?", calls=[("a0", "read", '{"a": 1}')]),
            say(2, "tool", words(150, "file"), tool_call_id="a0", name="read"),
            say(3, "assistant", None, calls=[("a1", "agent", "{}"), ("a2", "agent", '{"n":2}')]),
            say(4, "tool", words(90, "report one"), tool_call_id="a1", name="agent"),
            say(5, "tool", words(70, "report two"), tool_call_id="a2", name="agent"),
            say(6, "assistant", "I edit.", calls=[("a3", "read", '{"a": 3}')]),
            say(7, "tool", words(80, "edit"), tool_call_id="a3", name="read"),
            say(8, "user", "What happened so far: " + words(100, "summary")),
            say(9, "assistant", "I test.", calls=[("a4", "read", '{"a": "\u00fc"}')]),
            say(10, "tool", words(130, "tests"), tool_call_id="a4", name="read"),
            say(11, "assistant", "Done."),
            say(12, "user", "Explore one. " + words(70, "one"), lane=1),
            say(13, "assistant", None, lane=1, calls=[("b0", "read", "{}")]),
            say(14, "tool", words(75, "found"), lane=1, tool_call_id="b0", name="read"),
            say(15, "assistant", words(90, "report one"), lane=1),
            say(16, "user", "Explore two. " + words(70, "two"), lane=2),
            say(17, "assistant", words(70, "report two"), lane=2),
            say(18, "user", "A title for: fix the pager.", lane=3),
            say(19, "assistant", "Fix the pager", lane=3),
            say(20, "user", "Sum up.", lane=4),
            say(21, "assistant", words(100, "summary"), lane=4),
        ],
        "turns": [
            ask(0, 0, 100, [(0, 1)], 1),
            ask(1, 5, 60, [(18, 19)], 19, **title),
            ask(2, 250, 400, [(0, 3)], 3, wait_for=[0], tool_us=150_000),
            ask(3, 420, 500, [(12, 13)], 13, wait_for=[2], **first),
            ask(4, 430, 700, [(16, 17)], 17, wait_for=[2], **second),
            ask(5, 600, 680, [(12, 15)], 15, wait_for=[3], **first),
            ask(6, 800, 850, [(0, 6)], None, wait_for=[2, 4, 5], **failed),
            ask(7, 1150, 1300, [(0, 6)], 6, wait_for=[6], attempt=1),
            ask(8, 1400, 1500, [(0, 8), (20, 21)], 21, wait_for=[7], **compact),
            ask(9, 1520, 1620, [(8, 9)], 9, wait_for=[8], context=1, context_reason="compaction"),
            ask(10, 2100, 2200, [(8, 11)], 11, wait_for=[9], context=1),
        ],
        "tool_calls": [
            tool_call("one", 0, 0, "read", tool_call_id="a0", category="read"),
            tool_call("one", 1, 2, "agent", tool_call_id="a1", category="agent", spawned_lane=1),
            tool_call("one", 2, 2, "agent", tool_call_id="a2", category="agent", spawned_lane=2),
            tool_call("one", 3, 3, "read", tool_call_id="b0", category="read", lane=1),
            tool_call("one", 4, 7, "read", tool_call_id="a3", category="read"),
            tool_call("one", 5, 9, "read", tool_call_id="a4", category="read"),
        ],
    }


def _session_two() -> Tables:
    def say(number: int, role: str, content: str | None, **over: Any) -> Row:
        return message("two", number, role, content, **over)

    def ask(number: int, start: int, end: int, span: Any, out: int, **over: Any) -> Row:
        ranges = [{"start": first, "stop": stop} for first, stop in span]
        over = {"input": ranges, "output": out, "api": "openai_chat"} | over
        over["earlier_reasoning"] = "kept"
        return turn("two", number, start * 1000, end * 1000, **over)

    agent = {"lane": 1, "lane_kind": "subagent", "lane_name": "worker"}
    rewind = {"context": 1, "context_reason": "rewind"}
    image = {"media_type": "image/png", "sha256": "0" * 64, "bytes": 100, "tokens": None}
    return {
        "trajectories": [trajectory("two")],
        "prompts": [],
        "messages": [
            say(0, "user", "Find the leak. " + words(80, "leak")),
            say(1, "assistant", None, reasoning="Ask.", calls=[("c0", "agent", '{"b":true}')]),
            say(2, "tool", "Started.", tool_call_id="c0", name="agent"),
            say(3, "assistant", "Meanwhile.", calls=[("c1", "read", "{}")]),
            say(4, "tool", words(120, "heap"), tool_call_id="c1", name="read"),
            say(5, "assistant", "It is in the cache.", reasoning="The heap says so."),
            say(6, "user", "Like this? " + words(20, "image"), attachments=[image]),
            say(7, "assistant", "Yes."),
            say(8, "user", "Rather show me. " + words(30, "show")),
            say(9, "assistant", words(25, "shown")),
            say(10, "user", "Look for leaks. " + words(65, "worker"), lane=1),
            say(11, "assistant", None, lane=1, calls=[("d0", "read", "{}")]),
            say(12, "tool", words(40, "leaks"), lane=1, tool_call_id="d0", name="read"),
            say(13, "assistant", "Found one.", lane=1),
        ],
        "turns": [
            ask(0, 0, 80, [(0, 1)], 1),
            ask(1, 120, 200, [(0, 3)], 3, wait_for=[0]),
            ask(2, 130, 230, [(10, 11)], 11, wait_for=[0], **agent),
            ask(3, 300, 380, [(10, 13)], 13, wait_for=[2], **agent),
            ask(4, 500, 600, [(0, 5)], 5, wait_for=[1, 3]),
            ask(5, 1000, 1100, [(0, 7)], 7, wait_for=[4], user_us=400_000),
            ask(6, 1500, 1600, [(0, 6), (8, 9)], 9, wait_for=[5], **rewind),
        ],
        "tool_calls": [
            tool_call("two", 0, 0, "agent", tool_call_id="c0", category="agent", spawned_lane=1),
            tool_call("two", 1, 1, "read", tool_call_id="c1", category="read"),
            tool_call("two", 2, 2, "read", tool_call_id="d0", category="read", lane=1),
        ],
    }


def _file(folder: Path, name: str, split: str, groups: list[list[Row]]) -> DataFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    arrow = schema.arrow(name)
    with pq.ParquetWriter(sink, arrow, compression="zstd") as writer:
        for group in groups:
            writer.write_table(pa.Table.from_pylist(group, schema=arrow))
    data = sink.getvalue().to_pybytes()
    digest = hashlib.sha256(data).hexdigest()
    path = folder / "data" / name / f"{split}-00000-{digest[:12]}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return DataFile(
        table=name,
        split=split,
        shard=0,
        path=path.relative_to(folder).as_posix(),
        rows=sum(len(group) for group in groups),
        bytes=len(data),
        sha256=digest,
    )


def _blank(name: str, of: str) -> Row:
    row: Row = {column.name: None for column in schema.table(name).columns}
    return row | {"schema_version": schema.VERSION, "trajectory_id": of}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _prompt_key(row: Row) -> str:
    return str(row["prompt_id"])


def _fill(row: Row, **values: Any) -> None:
    for name, value in values.items():
        if row[name] is None:
            row[name] = value


def _complete_turns(turns: list[Row], messages: list[Row], prompts: dict[str, Row]) -> None:
    seen: list[list[tuple[str, int]]] = []
    contexts: set[tuple[int, int]] = set()
    for row in turns:
        kept = row["earlier_reasoning"] == "kept"
        parts = _parts(row, messages, prompts, kept)
        answer = None if row["output"] is None else messages[row["output"]]
        counted = sum(tokens for _, tokens in parts)
        _fill(
            row,
            counted_input_tokens=counted,
            counted_cached_tokens=max((_shared(parts, earlier) for earlier in seen), default=0),
            counted_output_tokens=answer["tokens"] if answer else 0,
            delay_us=_delay(row, turns),
        )
        if row["unseen_input_tokens"] is not None:
            _fill(row, input_tokens=counted + row["unseen_input_tokens"])
        if (row["lane"], row["context"]) in contexts:
            row["unseen_input_tokens"] = None
        else:
            contexts.add((row["lane"], row["context"]))
            _fill(row, context_reason="start")
            if row["input_tokens"] is not None:
                _fill(row, unseen_input_tokens=row["input_tokens"] - counted)
        seen.append(parts + ([_part(answer, kept=True)] if answer else []))


def _parts(
    row: Row, messages: list[Row], prompts: dict[str, Row], kept: bool
) -> list[tuple[str, int]]:
    fronts = [prompts[row[name]] for name in ("tools_id", "system_id") if row[name]]
    found = [(front["prompt_id"], front["tokens"]) for front in fronts]
    for span in row["input"]:
        found += [_part(one, kept) for one in messages[span["start"] : span["stop"]]]
    return found


def _part(one: Row, kept: bool) -> tuple[str, int]:
    return one["sha256"], one["tokens"] - (0 if kept else one["reasoning_tokens"])


def _shared(parts: list[tuple[str, int]], earlier: list[tuple[str, int]]) -> int:
    total = 0
    for mine, other in zip(parts, earlier, strict=False):
        if mine != other:
            break
        total += mine[1]
    return total


def _delay(row: Row, turns: list[Row]) -> int | None:
    if row["start_us"] is None:
        return None
    ends = [turns[number]["end_us"] for number in row["wait_for"]]
    if any(end is None for end in ends):
        return None
    return max(0, int(row["start_us"]) - max(ends, default=0))


def _complete_calls(calls: list[Row], turns: list[Row], messages: list[Row]) -> None:
    asked = {one["id"]: one for row in messages for one in row["tool_calls"] or []}
    answered = {row["tool_call_id"]: row for row in messages if row["role"] == "tool"}
    for row in calls:
        if row["tool_call_id"] in asked:
            _fill(row, argument_tokens=count(asked[row["tool_call_id"]]["arguments"])[0])
        result = answered.get(row["tool_call_id"])
        if result is not None and result["content"] is not None:
            text = result["content"]
            _fill(row, result_tokens=count(text)[0], result_bytes=len(text.encode()))


def _complete_head(head: Row, own: Tables) -> None:
    turns = own["turns"]
    text = "".join(f"{row['sha256']}\n" for row in own["messages"])
    ends = [row[name] for row in turns for name in ("start_us", "end_us") if row[name] is not None]
    sums = {}
    for name in SUMS:
        known = [row[name] for row in turns if row[name] is not None]
        sums[name] = sum(known) if known else None
    _fill(
        head,
        content_sha256=_sha256(text),
        models=sorted({row["model"] for row in turns if row["model"]}),
        duration_us=max(ends, default=None),
        totals={
            "turns": len(turns),
            "lanes": len({row["lane"] for row in turns}),
            "contexts": len({(row["lane"], row["context"]) for row in turns}),
            "messages": len(own["messages"]),
            "tool_calls": len(own["tool_calls"]),
            **sums,
        },
    )
