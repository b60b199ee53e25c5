"""Claude Code: `~/.claude/projects/<folder>/<session>.jsonl` and the sub-agents beside it.

One session is a main file and, by version, sub-agents in `<session>/subagents/agent-<id>.jsonl`,
in `agent-<id>.jsonl` beside the main file, or inline as lines with `isSidechain`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from traj.events import Lane, Message, Rebase, Repository, Session, ToolRun, numbered
from traj.sources.about import About
from traj.sources.claude_code import wire
from traj.sources.claude_code.content import MEANING
from traj.sources.claude_code.lane import Answer, LaneReader
from traj.sources.claude_code.request_log import Request, RequestLog
from traj.sources.claude_code.requests import Follower
from traj.sources.claude_code.tools import finish_run
from traj.sources.lines import epoch_us
from traj.sources.lines import read as read_lines
from traj.sources.located import Located

NAME = "claude_code"
ABOUT = About(
    "Claude Code",
    MEANING,
    lengths="request",
    turn_clock="logged",
    tool_clock="logged",
    seen="real sessions",
    places=(".claude/projects",),
    lacks=(
        "system prompt and tools, but for versions that log their requests",
        "compaction's own requests",
    ),
)

_MESSAGES = ("user", "assistant")
_OWN = (
    "summary",
    "file-history-snapshot",
    "queue-operation",
    "progress",
    "attachment",
    "api-request-shape",
    "permission-mode",
)


def locate(path: Path, head: Iterable[dict[str, Any]]) -> list[Located]:
    """Recognises a session file by its first lines; empty for anything else."""
    own = (line for line in head if _is_own(line))
    first = None
    ids: list[str] = []
    for line in own:
        if first is None or first.get("type") not in _MESSAGES:
            first = line
        if isinstance(line.get("sessionId"), str):
            ids.append(line["sessionId"])
        known = path.stem in ids or _is_side(first)
        if first.get("type") in _MESSAGES and known:
            break  # a copied history may stand first, under another session's id
    if first is None:
        return []
    session = path.stem if path.stem in ids or not ids else ids[0]
    agent: str | None = first["agentId"] if _is_side(first) else None
    return [Located(path, NAME, session, agent)]


def _is_side(line: dict[str, Any]) -> bool:
    """Whether a line is of a sub-agent's own file."""
    return line.get("isSidechain") is True and isinstance(line.get("agentId"), str)


def _is_own(line: dict[str, Any]) -> bool:
    kind = line.get("type")
    if kind in _MESSAGES:
        message = line.get("message")
        return isinstance(message, dict) and "parts" not in message and "sessionId" in line
    if kind == "system":
        other = "systemPayload" in line or "message" in line  # Qwen Code's
        return "sessionId" in line and "uuid" in line and not other
    return (kind == "summary" and "leafUuid" in line) or (kind in _OWN[1:] and len(line) > 1)


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session: its own file and those of its sub-agents. Raises SourceError."""
    return _Reader(session_id).read(parts)


class _Reader:
    def __init__(self, session_id: str) -> None:
        self.session = Session(NAME, session_id, "Claude Code")
        self.log = RequestLog()
        self.names: dict[str, str] = {}  # tool call id to tool name
        self.readers: list[LaneReader] = []
        self.by_agent: dict[str, LaneReader] = {}
        self.side_roots: dict[str, LaneReader] = {}  # uuid to inline sidechain
        self.requests: dict[int, list[Request]] = {}  # by lane
        self.starts: dict[int, int] = {}  # steps of the lane before its first request
        self.spawns: dict[str, str] = {}  # agent id to tool call id
        self.metas: dict[str, wire.AgentMeta] = {}  # agent id to what its meta file says
        self.prompts: dict[str, str] = {}  # prompt of a sub-agent to tool call id
        self.compactions: dict[int, list[int]] = {}
        self.branch: str | None = None
        self.runs = self.session.tool_runs

    def read(self, parts: Sequence[Located]) -> Session:
        self._open("main", None)
        for part in sorted(parts, key=lambda part: (part.part is not None, part.path.name)):
            self._read_file(part)
        for reader in self.readers:
            reader.finish()
            self._follow_requests(reader)
            self._tie(reader)
        session = self.session
        session.lanes = [reader.lane for reader in self.readers]
        if not session.lanes[0].steps and len(session.lanes) > 1:
            session.lose("main_lane_missing")
        session.repository = Repository(branch=self.branch) if self.branch else None
        return session

    def _open(self, kind: str, name: str | None) -> LaneReader:
        lane = Lane(kind, name)
        reader = LaneReader(lane, len(self.readers), self.session, self.names)
        self.readers.append(reader)
        return reader

    def _read_file(self, part: Located) -> None:
        file = len(self.session.files)
        reader = self.readers[0]
        if part.part is not None:
            reader = self._open("subagent", None)
            self.by_agent[part.part] = reader
            self.metas[part.part] = wire.agent_meta(part.path)
        for number, _, line in read_lines(part.path, wire.DECODER, self.session):
            target = reader
            if line.isSidechain and part.part is None:
                target = self._inline(line)
            self._line(line, target, file, number)

    def _inline(self, line: wire.Line) -> LaneReader:
        """The lane of an inline sidechain line: its parent's, or a new one."""
        parent = line.parentUuid
        reader = self.side_roots.get(parent) if parent else None
        if reader is None and line.agentId:
            reader = self.by_agent.get(line.agentId)
        if reader is None:
            reader = self._open("subagent", None)
            if line.agentId:
                self.by_agent[line.agentId] = reader
        if line.uuid:
            self.side_roots[line.uuid] = reader
        return reader

    def _line(self, line: wire.Line, reader: LaneReader, file: int, number: int) -> None:
        session = self.session
        kind = line.type
        time = epoch_us(line.timestamp)
        if kind == "assistant":
            reader.assistant(line, time, file, number)
            self._tool_starts(line, time)
        elif kind == "user":
            reader.user(line, time, file, number)
            self._tool_ends(line, time)
        elif kind == "attachment":
            reader.attachment(line, time, file, number)
        elif kind == "system":
            self._system(line, time, reader, file, number)
        elif kind in ("api-request", "api-request-blob", "api-request-shape"):
            if (request := self.log.take(line, time, file, number)) is not None:
                self._request(request, reader)
            return
        elif kind is None:
            session.lose("foreign_line")
            return
        else:
            reader.other(line)
            session.title = line.customTitle or line.aiTitle or session.title or line.summary
        if line.version:
            session.agent_version = line.version
        if line.gitBranch and self.branch is None:
            self.branch = line.gitBranch
        dated = kind in ("user", "assistant", "attachment")
        if dated and time is not None and (session.started_us is None or time < session.started_us):
            session.started_us = time

    def _system(
        self, line: wire.Line, time: int | None, reader: LaneReader, file: int, number: int
    ) -> None:
        if line.subtype == "api_error":
            reader.api_error(line, time, file, number)
        elif line.subtype == "compact_boundary":
            reader.boundary(line)
            self.compactions.setdefault(reader.index, []).append(time or 0)
        else:
            reader.other(line)

    def _request(self, request: Request, reader: LaneReader) -> None:
        lane = reader.index
        if lane not in self.requests:
            self.requests[lane] = []
            self.starts[lane] = len(reader.steps)
        self.requests[lane].append(request)

    def _tool_starts(self, line: wire.Line, time: int | None) -> None:
        content = line.message.content if line.message else None
        if not isinstance(content, list):
            return
        for block in content:
            if isinstance(block, str) or block.type != "tool_use" or not block.id:
                continue
            if block.id in self.runs and self.runs[block.id].start_us is not None:
                continue
            run = self.runs.setdefault(block.id, ToolRun())
            run.start_us, run.clock = time, "none" if time is None else "derived"
            if block.name in ("Task", "Agent"):
                self._note_prompt(block)

    def _note_prompt(self, block: wire.Block) -> None:
        prompt = wire.task_prompt(block.input)
        if prompt:
            self.prompts.setdefault(prompt, block.id or "")

    def _tool_ends(self, line: wire.Line, time: int | None) -> None:
        content = line.message.content if line.message else None
        if not isinstance(content, list):
            return
        results = [
            block
            for block in content
            if not isinstance(block, str) and block.type == "tool_result" and block.tool_use_id
        ]
        if not results:
            return
        known = line.toolUseResult
        details = known if isinstance(known, wire.ResultDetails) and len(results) == 1 else None
        for block in results:
            call = block.tool_use_id or ""
            run = self.runs.setdefault(call, ToolRun())
            if run.status != "unknown":
                continue
            finish_run(run, block, details, line.toolDenialKind, time)
            if details and details.agentId:
                self.spawns.setdefault(details.agentId, call)

    def _follow_requests(self, reader: LaneReader) -> None:
        """Tells the lane again from its requests, where there are any."""
        requests = self.requests.get(reader.index)
        if not requests:
            self.session.lose("attachment_not_rendered", reader.unrendered)
            return
        before = reader.steps[: self.starts[reader.index]]
        while before and not isinstance(before[-1], Answer):
            before.pop()
        old = reader.lane.steps[: len(before)]
        follower = Follower(self.log, self.session, reader.index, numbered(old))
        seen = [step for step in reader.steps if isinstance(step, Message)]
        answers = {a.ref: a for a in reader.answers.values() if a.ref is not None}
        compactions = self.compactions.get(reader.index, [])
        steps = follower.follow(requests, answers, reader.errors, seen, compactions, self.names)
        if old:
            steps.insert(0, Rebase("edit", ()))
        reader.lane.steps = old + steps

    def _tie(self, reader: LaneReader) -> None:
        """Finds the tool call that started a sub-agent, and whether that call waited for it."""
        lane = reader.lane
        if lane.kind != "subagent":
            return
        agent = next((key for key, value in self.by_agent.items() if value is reader), "")
        meta = self.metas.get(agent, wire.AgentMeta())
        lane.name = meta.agentType
        call = meta.toolUseId or self.spawns.get(agent)
        if call is None:
            first = next((step for step in lane.steps if isinstance(step, Message)), None)
            call = self.prompts.get(first.content or "") if first else None
        if call is None:
            self.session.lose("subagent_without_call")
            return
        lane.spawned_by = call
        run = self.runs.get(call)
        if run is not None and run.end_us is not None and not run.background:
            lane.joined_by = call
