"""One trajectory's rows, and the session that they tell of as far as text goes.

The session is scrubbed as a recording's would be, and what depends on text is counted again by the
build's own functions. Times, figures of the provider and the shape of the prompts stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from traj.build import NO_TEXT, prompts_of
from traj.build.lanes import Request
from traj.build.messages import Messages
from traj.build.rows import Columns
from traj.build.tokens import Counter
from traj.build.turns import Lengths, Prompt
from traj.dataset import Rows
from traj.events import (
    Attachment,
    Lane,
    Message,
    Repository,
    Session,
    SourceFile,
    ToolCall,
    Turn,
)
from traj.scrub import Scrubbed

Table = dict[str, list[Any]]  # values by column
Texts = Mapping[str, str]  # prompt_id to content
Fresh = dict[str, tuple[str, str, int]]  # prompt_id to kind, content, tokens


class Told:
    """One trajectory's rows, and the session that they tell of."""

    def __init__(self, rows: Rows, texts: Texts) -> None:
        self.texts = texts
        self.tables: dict[str, Table] = {
            name: table.drop_columns(["schema_version", "trajectory_id"]).to_pydict()
            for name, table in rows.tables.items()
        }
        self.head = {name: values[0] for name, values in self.tables["trajectories"].items()}
        self._has_text = all(loss["kind"] != NO_TEXT for loss in self.head["losses"])

    @cached_property
    def session(self) -> Session:
        """Its texts in their places; no times."""
        head, turns = self.head, self.tables["turns"]
        source, task, known = head["source"], head["task"], head["repository"]
        return Session(
            source["format"],
            source["session_id"],
            head["agent"]["name"],
            files=[SourceFile(f["name"], f["sha256"], f["bytes"]) for f in source["files"]],
            lanes=self._lanes(turns),
            repository=known and Repository(known["url"], known["commit"], known["branch"]),
            title=task["title"] if task else None,
            command=head["command"],
        )

    def _lanes(self, turns: Table) -> list[Lane]:
        names = dict(zip(turns["lane"], turns["lane_name"], strict=True))
        lane_of = self.tables["messages"]["lane"]
        lanes = [
            Lane("main", names.get(lane))
            for lane in range(1 + max([*turns["lane"], *lane_of], default=-1))
        ]
        self._turns: list[list[int]] = [[] for _ in lanes]
        # Each turn stands where its answer does; one that failed, behind what it sent.
        answered: dict[int, int] = {}
        failed: dict[int, list[int]] = {}
        for turn, output in enumerate(turns["output"]):
            if output is not None:
                answered[output] = turn
            else:
                last = max((r["stop"] for r in turns["input"][turn]), default=0)
                failed.setdefault(last, []).append(turn)
        for number, lane in enumerate(lane_of):
            steps = lanes[lane].steps
            for turn in failed.pop(number, ()):
                lanes[turns["lane"][turn]].steps.append(self._turn(turn, None))
            message = self._message(number)
            steps.append(self._turn(answered[number], message) if number in answered else message)
        for rest in failed.values():
            for turn in rest:
                lanes[turns["lane"][turn]].steps.append(self._turn(turn, None))
        return lanes

    def _message(self, number: int) -> Message:
        row = {name: values[number] for name, values in self.tables["messages"].items()}
        return Message(
            row["role"],
            row["content"],
            row["reasoning"],
            tuple(ToolCall(c["id"], c["name"], c["arguments"]) for c in row["tool_calls"] or ()),
            row["tool_call_id"],
            row["name"],
            tuple(
                Attachment(a["media_type"], a["sha256"], a["bytes"])
                for a in row["attachments"] or ()
            ),
        )

    def _turn(self, turn: int, answer: Message | None) -> Turn:
        turns = self.tables["turns"]
        self._turns[turns["lane"][turn]].append(turn)
        system, tools = turns["system_id"][turn], turns["tools_id"][turn]
        return Turn(
            answer,
            system=self.texts[system] if system else None,
            tools=self.texts[tools] if tools else None,
            error=turns["error"][turn],
            earlier_reasoning=turns["earlier_reasoning"][turn],
        )

    def again(self, result: Scrubbed, counter: Counter, fresh: Fresh) -> dict[str, Columns]:
        """The rows with the scrubbed texts, counted anew; adds its prompts to `fresh`."""
        clean = result.session
        messages = Messages(clean)
        messages.count(counter)
        prompts = prompts_of(clean, counter)
        for (kind, content), (prompt_id, tokens) in prompts.items():
            fresh[prompt_id] = (kind, content, tokens)
        self._say(messages)
        self._count_turns(clean, messages, prompts)
        self._count_calls(messages)
        self._sum(result, messages)
        return {name: _columns(name, table) for name, table in self.tables.items()}

    def _say(self, messages: Messages) -> None:
        table, said = self.tables["messages"], messages.all
        table["content"] = [m.content for m in said]
        table["reasoning"] = [m.reasoning for m in said]
        table["name"] = [m.name for m in said]
        table["tool_calls"] = [
            [{"id": c.id, "name": c.name, "arguments": c.arguments} for c in m.tool_calls] or None
            for m in said
        ]
        table["tokens"] = messages.tokens
        table["reasoning_tokens"] = messages.reasoning_tokens
        table["sha256"] = [digest.hex() for digest in messages.digests]

    def _count_turns(
        self, clean: Session, messages: Messages, prompts: dict[tuple[str, str], Prompt]
    ) -> None:
        table = self.tables["turns"]
        lengths = Lengths(messages)
        turns = {
            turn: step
            for numbers, lane in zip(self._turns, clean.lanes, strict=True)
            for turn, step in zip(
                numbers, (s for s in lane.steps if isinstance(s, Turn)), strict=True
            )
        }
        for turn, lane in enumerate(table["lane"]):
            step = turns[turn]
            ranges = [(r["start"], r["stop"]) for r in table["input"][turn]]
            request = Request(
                step, lane, turn, 0, None, ranges, table["output"][turn], None, None, []
            )
            system = prompts.get(("system", step.system or ""))
            tools = prompts.get(("tools", step.tools or ""))
            front = [prompt for prompt in (tools, system) if prompt is not None]
            if self._has_text:  # else the counts are the source's, and stay
                counted, cached, output = lengths.of(request, front)
                table["counted_input_tokens"][turn] = counted
                table["counted_cached_tokens"][turn] = cached
                table["counted_output_tokens"][turn] = output
                given = table["input_tokens"][turn]
                if table["context_reason"][turn] is not None and given is not None:
                    table["unseen_input_tokens"][turn] = given - counted
            table["system_id"][turn] = system[0] if system else None
            table["tools_id"][turn] = tools[0] if tools else None
            table["lane_name"][turn] = clean.lanes[lane].name
            table["error"][turn] = step.error

    def _count_calls(self, messages: Messages) -> None:
        table, outputs = self.tables["tool_calls"], self.tables["turns"]["output"]
        places: dict[int, int] = {}  # by turn: how many of its calls were seen
        for row, (turn, call) in enumerate(zip(table["turn"], table["tool_call_id"], strict=True)):
            place = places[turn] = places.get(turn, -1) + 1
            output = outputs[turn]
            result = messages.result(call, output)
            text = None if result is None else messages.all[result].content
            table["argument_tokens"][row] = messages.argument_tokens(output, place)
            table["result_tokens"][row] = None if result is None else messages.tokens[result]
            table["result_bytes"][row] = None if text is None else len(text.encode())

    def _sum(self, result: Scrubbed, messages: Messages) -> None:
        head, turns, clean = self.tables["trajectories"], self.tables["turns"], result.session
        if self._has_text:
            totals = dict(self.head["totals"])
            for name in ("counted_input_tokens", "counted_cached_tokens", "counted_output_tokens"):
                totals[name] = sum(turns[name]) if turns[name] else None
            head["totals"] = [totals]
            head["content_sha256"] = [messages.content_sha256()]
        head["redactions"] = [(self.head["redactions"] or 0) + result.redactions]
        files = [
            {**old, "name": new.name}
            for old, new in zip(self.head["source"]["files"], clean.files, strict=True)
        ]
        head["source"] = [{**self.head["source"], "files": files}]
        head["command"] = [clean.command]
        if self.head["task"]:
            head["task"] = [{**self.head["task"], "title": clean.title}]
        if self.head["repository"] and clean.repository:
            known = {"url": clean.repository.url, "branch": clean.repository.branch}
            head["repository"] = [{**self.head["repository"], **known}]


def _columns(name: str, table: Table) -> Columns:
    """Lists of structs as the writer takes them: tuples."""

    def taken(value: Any) -> Any:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return [tuple(item.values()) for item in value]
        return value

    return Columns.of(name, {key: [taken(v) for v in values] for key, values in table.items()})
