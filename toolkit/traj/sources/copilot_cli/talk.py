"""One lane of a Copilot CLI session."""

from __future__ import annotations

from msgspec import structs

from traj.events import Lane, Message, Turn
from traj.sources.copilot_cli.figures import MEANING


class Talk:
    """One lane, and the answer of it that may still grow."""

    def __init__(self, lane: Lane, index: int) -> None:
        self.lane = lane
        self.index = index
        self.count = 0  # messages of the lane
        self.start = 0  # where its context begins
        self.thought: str | None = None
        self.last: int | None = None  # place of the last turn among the steps
        self.message_id: str | None = None
        self.attempt = 0

    def grow(self, more: Message, output_tokens: int | None) -> None:
        """A later piece of the answer that came last."""
        step = self.lane.steps[self.last] if self.last is not None else None
        if self.last is None or not isinstance(step, Turn) or step.answer is None:
            return
        text = (step.answer.content or "") + (more.content or "")
        answer = structs.replace(
            step.answer,
            content=text or None,
            reasoning=step.answer.reasoning or more.reasoning,
            tool_calls=step.answer.tool_calls + more.tool_calls,
        )
        output = max(output_tokens or 0, step.usage.output_tokens or 0) or None
        self.lane.steps[self.last] = structs.replace(
            step,
            answer=answer,
            usage=MEANING.usage(None, None, output),
            end_us=more.time_us or step.end_us,
            stop_reason="tool_use" if answer.tool_calls else "end_turn",
        )
