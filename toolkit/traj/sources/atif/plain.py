"""ATIF documents of any writer: each agent's step a request, with all that was said before it."""

from __future__ import annotations

from collections.abc import Sequence

from traj.events import Lane, Message, Sampling, Session, ToolRun, Turn
from traj.sources import documents
from traj.sources.atif import spoken, wire
from traj.sources.lines import epoch_us
from traj.sources.requests.pieces import fit, json_text, text_of


def read(session: Session, found: Sequence[spoken.Lane]) -> None:
    """Writes a lane a trajectory."""
    spawned: dict[str, str] = {}  # calls by the trajectory that they started
    for index, one in enumerate(found):
        lane = Lane("subagent" if index else "main")
        if index and one.document.agent is not None:
            lane.name = one.document.agent.name
        session.lanes.append(lane)
        reader = _Reader(session, lane, one.document.agent or wire.Agent(), main=not index)
        for number, step in documents.items(one.document.steps, wire.STEP, session):
            reader.step(step, number)
        spawned |= reader.spawned
        session.lose("continued_elsewhere", one.document.continued_trajectory_ref is not None)
        if not reader.counted:
            _sum(session, one.document)
    for lane, one in zip(session.lanes[1:], found[1:], strict=True):
        lane.spawned_by = lane.joined_by = spawned.get(one.document.trajectory_id or "")
        session.lose("subagent_without_call", lane.spawned_by is None)


def _sum(session: Session, document: wire.Document) -> None:
    """Sums alone are the session's figures, those of the main trajectory."""
    sums = fit(document.final_metrics, wire.Sums)
    if sums is None or session.usage is not None:
        return
    told = spoken.MEANING.usage(
        sums.total_prompt_tokens,
        sums.total_cached_tokens,
        sums.total_completion_tokens,
        whole=False,
    )
    if told.source != "none":
        session.usage = told
        session.lose("usage_not_per_request")


class _Reader:
    """Takes the steps of one trajectory in order."""

    def __init__(self, session: Session, lane: Lane, agent: wire.Agent, *, main: bool) -> None:
        self.session, self.lane, self.main = session, lane, main
        self.model = agent.model_name
        self.tools = json_text(agent.tool_definitions)
        self.spawned: dict[str, str] = {}
        self.names: dict[str, str] = {}
        self.counted = False  # whether a step has figures

    def step(self, step: wire.Step, number: int) -> None:
        """One step, and the results of its calls."""
        time = epoch_us(step.timestamp)
        before = self.session.started_us
        if time is not None and (before is None or time < before):
            self.session.started_us = time
        if step.source == "agent":
            self._agent(step, time, number)
        else:
            role = "system" if step.source == "system" else "user"
            self._say(step, role, time, number)
        for result in spoken.results(step, self.session):
            self._result(result, number)

    def _say(self, step: wire.Step, role: str, time: int | None, number: int) -> None:
        text = text_of(step.message)
        if role == "system" and not text:
            return  # it only carries results
        typed = role == "user" and self.main
        self.lane.steps.append(
            Message(
                role,
                text,
                attachments=spoken.attachments(step.message),
                time_us=time,
                by_person=typed,
                line=number,
            )
        )

    def _agent(self, step: wire.Step, time: int | None, number: int) -> None:
        said, asked = spoken.answer(step, self.session)
        message = Message(
            said.role,
            said.content,
            said.reasoning,
            said.tool_calls,
            attachments=said.attachments,
            time_us=time,
            line=number,
        )
        self.names.update((call.id, call.name) for call in message.tool_calls)
        if step.is_copied_context:
            self.session.lose("copied_turn")
            self.lane.steps.append(message)
            return
        for call, _ in asked:
            self.session.tool_runs.setdefault(call.id, ToolRun())
        if step.llm_call_count == 0:
            self.session.lose("synthetic_message")
            self.lane.steps.append(message)
            return
        figures = spoken.usage(step)
        self.counted |= figures.source != "none"
        self.session.lose("usage_not_per_request", (step.llm_call_count or 1) > 1)
        effort = step.reasoning_effort
        self.lane.steps.append(
            Turn(
                message,
                model=step.model_name or self.model or None,
                usage=figures,
                # Writers do not agree on what a step's time is: its place in order, no more.
                end_us=time,
                clock="none",
                tools=self.tools,
                sampling=Sampling(reasoning_effort=str(effort)) if effort is not None else None,
                line=number,
            )
        )

    def _result(self, result: wire.Result, number: int) -> None:
        call = result.source_call_id
        for one in spoken.references(result):
            if one.trajectory_id is not None and call is not None:
                self.spawned[one.trajectory_id] = call
            self.session.lose("subagent_elsewhere", one.trajectory_id is None)
        text = text_of(result.content)
        if call is None and text is None:
            return
        self.lane.steps.append(
            Message(
                "user" if call is None else "tool",
                text,
                tool_call_id=call,
                name=None if call is None else self.names.get(call),
                attachments=spoken.attachments(result.content),
                line=number,
            )
        )
