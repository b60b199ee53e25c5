"""One trajectory as it is played: the requests that are sent, their lengths, waits and prompts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traj.dataset import Rows
    from traj.workload import chat
    from traj.workload.lengths import Lengths
    from traj.workload.options import LoadOptions
    from traj.workload.prefixes import Prefixes
    from traj.workload.prompts import Prompts
    from traj.workload.schedule import Schedule
    from traj.workload.shared_fronts import SharedFronts
    from traj.workload.turns import Columns


@dataclass(slots=True, eq=False)
class Play:
    """One trajectory, played once in a phase. Turns are named by their number in the record."""

    name: str  # its own in the whole export: of trajectory, phase and play
    trajectory_id: str
    phase: int
    number: int
    rows: Rows
    options: LoadOptions
    turns: Columns
    messages: Columns  # of LENGTHS
    lengths: Lengths
    schedule: Schedule
    prefixes: Prefixes
    text: chat.Messages | None
    prompts: Prompts | None
    generated: SharedFronts | None  # where the record has no text: what prompts were made of
    prompt_tokens: Mapping[str, int]  # of system prompts and tool definitions, by id
    agent: str
    cut: int  # requests that --max-context took away
    uncut_tokens: tuple[int, int]  # of all that was answered, by the dataset: counted, cached
    sent: list[int] = field(init=False)  # the answered turns, in order

    def __post_init__(self) -> None:
        self.sent = sorted(turn for run in self.schedule.runs for turn in run.turns)

    def input_tokens(self, turn: int) -> int:
        """The prompt as it is sent, prefixes included."""
        return self.lengths.input[turn] + self.prefix_tokens(turn)

    def output_tokens(self, turn: int) -> int:
        return self.lengths.output[turn]

    def delay_us(self, turn: int) -> int:
        """From the completion of all that the turn waits for to its request."""
        return self.schedule.delay_us(turn)

    def prefix_tokens(self, turn: int) -> int:
        """Tokens of the turn's prompt that are prefixes."""
        return prefix_tokens(self.prefixes, self.turns, self.lengths, turn)

    def model(self, turn: int) -> str | None:
        name = self.options.model or self.turns["model"][turn]
        return None if name is None else str(name)

    def losses(self) -> Counter[str]:
        """What `traj.workload.losses` names, counted."""
        turns, lost = self.turns, Counter({"failed_turn": self.schedule.failed, "cut": self.cut})
        lost["empty"] = not self.sent
        if self.generated is not None:
            lost["generated"] = len(self.sent)
            lost["guessed_sharing"] = len(self.generated.guessed.intersection(self.sent))
            lost["unmeasured"] = len(self.generated.unmeasured.intersection(self.sent))
        if self.text is None or self.prompts is None:
            return +lost
        lost["attachment"] = self.text.attachments()
        hidden = [turns["earlier_reasoning"][turn] == "encrypted" for turn in self.sent]
        lost["hidden_reasoning"] = sum(hidden)
        lost["empty_prompt"] = sum(map(self.prompts.is_empty, self.sent))
        lost["system_role"] = self.prompts.late_systems
        used = {turns["tools_id"][turn] for turn in self.sent}
        lost["tool_definition"] = sum(self.prompts.lost_tools(one) for one in used)
        if self.options.lengths == "text":
            unseen = [(turns["unseen_input_tokens"][turn] or 0) > 0 for turn in self.sent]
            lost["unseen_input"] = sum(unseen)
        else:
            lost["overlong"] = len(self.lengths.overlong.intersection(self.sent))
            lost["unfilled"] = len(self.lengths.unfilled.intersection(self.sent))
        return +lost


def prefix_tokens(prefixes: Prefixes, turns: Columns, lengths: Lengths, turn: int) -> int:
    """Tokens of a turn's prompt that are prefixes."""
    places = int(prefixes.front(turns["lane"][turn], turns["context"][turn]) is not None)
    places += prefixes.user() is not None and lengths.has_user(turn)
    return places * prefixes.tokens()
