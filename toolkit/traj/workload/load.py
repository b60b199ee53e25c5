"""A dataset's trajectories as plays: what is sent, in which lengths, after which delays.

Made once for an export or a replay, with everything that can be wrong about the options said before
anything is written. `plays` then goes through the dataset a trajectory at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from traj.build import NO_TEXT
from traj.build import tokens as tokenizers
from traj.errors import UsageError
from traj.workload import chat, sampling
from traj.workload.generated import generate, is_without_text
from traj.workload.lengths import Lengths
from traj.workload.options import LoadOptions
from traj.workload.play import Play, prefix_tokens
from traj.workload.prefixes import Prefixes
from traj.workload.prompts import Prompts
from traj.workload.schedule import Schedule, spawned_lanes
from traj.workload.tool_time import Calls, tool_time
from traj.workload.turns import Columns
from traj.workload.words import Words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traj.dataset import Dataset, Rows

TURNS = (
    *("turn", "lane", "lane_kind", "lane_name", "context", "wait_for", "start_us", "end_us"),
    *("delay_us", "tool_us", "user_us", "model", "system_id", "tools_id", "input"),
    *("earlier_reasoning", "output", "input_tokens", "output_tokens", "usage_source"),
    *("counted_input_tokens", "counted_cached_tokens", "counted_output_tokens"),
    *("unseen_input_tokens", "stop_reason", "status", "cached_tokens", "reasoning_tokens"),
)
LENGTHS = ("lane", "role", "tokens", "reasoning_tokens", "sha256", "tool_calls")
HEADS = ("trajectory_id", "agent", "losses")


class Load:
    """The plays of a dataset under some options.

    `text`: whether prompts are wanted, or lengths alone. Where trajectories have no text, theirs is
    generated. Raises UsageError, before anything is read in earnest, for trajectories without text
    where the record's own is wanted, a tokenizer that is missing, an unknown tool time, or a sample
    larger than the dataset.
    """

    def __init__(
        self,
        dataset: Dataset,
        options: LoadOptions,
        *,
        text: bool,
        whole_rows: bool = False,
        archive: str | None = None,
    ) -> None:
        """`whole_rows`: plays come with all columns, for targets that need more than a load.
        `archive`: the name of a target that holds the record's own messages and no generated ones.
        """
        self.dataset, self.options, self.text = dataset, options, text
        self._whole_rows = whole_rows
        self._sends = text or not whole_rows  # an archive keeps the record as it is
        if options.split is not None and not dataset.files("trajectories", options.split):
            known = sorted({file.split for file in dataset.files("trajectories")})
            raise UsageError(
                f"{dataset.path}: no split {options.split!r}: it has {', '.join(known)}"
            )
        mixed = whole_rows and dataset.files("messages")  # kept as they are, text or not
        if archive is not None and not mixed:
            _need_text(dataset, options.split, f"{archive} holds a record's own messages")
        elif archive is None and options.lengths == "text":
            _need_text(dataset, options.split, "--lengths text sends a record's own text alone")
        self.recounted = False
        self._words: Words | None = None
        if options.tokenizer is not None:
            wanted = dataset.manifest.tokenizer["sha256"]
            self.recounted = self.tokenizer.sha256 != wanted
        if text and (options.prefix != "none" or options.lengths == "recorded"):
            self.words()
        self.tool_time = tool_time(
            options.tool_time, dataset, seed=options.seed, user_time=options.user_time
        )
        self._chosen = None
        if options.sample is not None:
            self._chosen = sampling.choose(dataset, options.sample, options.seed, options.split)

    @cached_property
    def tokenizer(self) -> tokenizers.Tokenizer:
        """The one that lengths are counted with."""
        if self.options.tokenizer is not None:
            return tokenizers.open_tokenizer(self.options.tokenizer)
        named = self.dataset.manifest.tokenizer
        try:
            found = tokenizers.open_tokenizer(named["name"])
        except UsageError as error:
            raise UsageError(f"{error}; or name the dataset's with --tokenizer") from None
        if found.sha256 != named["sha256"]:
            raise UsageError(
                f"tokenizer {named['name']!r} is not the one that the dataset was counted with: "
                "give that one with --tokenizer"
            )
        return found

    def words(self) -> Words:
        """Text of exact lengths under the tokenizer."""
        if self._words is None:
            self._words = Words(self.tokenizer)
        return self._words

    @cached_property
    def fronts(self) -> chat.Fronts:
        return chat.Fronts(self.dataset)

    @cached_property
    def prompt_tokens(self) -> dict[str, int]:
        """Of system prompts and tool definitions, by id."""
        columns = ["prompt_id", "content" if self.recounted else "tokens"]
        table = self.dataset.table("prompts", columns=columns)
        ids, values = (table.column(name).to_pylist() for name in columns)
        if self.recounted:
            values = self.tokenizer.count(values)
        return dict(zip(ids, values, strict=True))

    def plays(self, phase: int = 0, numbers: Sequence[int] | None = None) -> Iterator[Play]:
        """The trajectories in the order of their ids, each as often as it is played: the plays
        `numbers`, by default as many as the options say."""
        texts = (*LENGTHS, *chat.COLUMNS) if self.text or self.recounted else LENGTHS
        columns: dict[str, Sequence[str]] = {
            "trajectories": HEADS,
            "turns": TURNS,
            "messages": tuple(dict.fromkeys(texts)),
            "tool_calls": tuple(dict.fromkeys((*Calls.COLUMNS, "turn", "spawned_lane"))),
        }
        chosen = None if self._whole_rows else columns
        for rows in self.dataset.trajectories(split=self.options.split, columns=chosen):
            if self._chosen is None or rows.trajectory_id in self._chosen:
                yield from self._plays(rows, phase, numbers or range(self.options.plays))

    def _plays(self, rows: Rows, phase: int, numbers: Sequence[int]) -> Iterator[Play]:
        options = self.options
        turns = Columns(rows.turns, TURNS)
        lengths_alone = self._sends and is_without_text(rows)
        generated = generate(rows, turns, options.seed) if lengths_alone else None
        if generated is not None:
            messages = generated.columns()
            lengths = generated.lengths(turns, messages)
        else:
            messages, lengths = self._recorded(rows, turns)
        kept = self._within_context(turns, lengths, rows.trajectory_id)
        cut = sum(output is not None for output in turns["output"][kept:])
        uncut = _counted_tokens(turns)
        turns.keep(kept)
        calls = Calls.of(rows.tool_calls)
        delays = self.tool_time.delays_us(rows.trajectory_id, turns, calls)
        spawned = spawned_lanes(rows.tool_calls)
        recorded = options.tool_time == "recorded" and options.user_time in (None, "recorded")
        schedule = Schedule(turns, spawned, None if recorded else delays)
        head = rows.trajectories.column("agent")[0].as_py()
        agent = f"{head['name']} {head['version'] or ''}"
        text = None
        if self.text:
            made = None if generated is None else generated.messages(self.words)
            text = made or chat.Messages(rows.messages)
        for number in numbers:
            prefixes = Prefixes(options, phase, rows.trajectory_id, number)
            prompts = None
            if text is not None:
                prompts = Prompts(turns, text, self.fronts, lengths, prefixes, self.words, agent)
            yield Play(
                name=_name(rows.trajectory_id, options, phase, number),
                trajectory_id=rows.trajectory_id,
                phase=phase,
                number=number,
                rows=rows,
                options=options,
                turns=turns,
                messages=messages,
                lengths=lengths,
                schedule=schedule,
                prefixes=prefixes,
                text=text,
                prompts=prompts,
                generated=None if generated is None else generated.fronts,
                prompt_tokens=self.prompt_tokens,
                agent=agent,
                cut=cut,
                uncut_tokens=uncut,
            )

    def _recorded(self, rows: Rows, turns: Columns) -> tuple[Columns, Lengths]:
        """The record's own messages, and the lengths of the requests that they make."""
        messages = Columns(rows.messages, LENGTHS)
        if self.recounted:
            self._recount(rows, messages)
        lengths = Lengths(
            turns,
            messages,
            self.prompt_tokens,
            filled=self.options.lengths == "recorded",
            text=self.text,
            recounted=self.recounted,
        )
        return messages, lengths

    def _within_context(self, turns: Columns, lengths: Lengths, trajectory_id: str) -> int:
        """How many turns lie before the first that is too long; turns are in order of start, so
        what is left waits for nothing that is cut.
        """
        most = self.options.max_context
        prefixes = Prefixes(self.options, 0, trajectory_id, 0)
        for turn, output in enumerate(turns["output"]):
            if most is None:
                break
            length = lengths.input[turn] + lengths.output[turn]
            length += prefix_tokens(prefixes, turns, lengths, turn)
            if output is not None and length > most:
                return turn
        return len(turns["output"])

    def _recount(self, rows: Rows, messages: Columns) -> None:
        """Counts the messages with the tokenizer that was asked for."""
        texts: list[str] = []
        places: list[tuple[int, bool]] = []
        names = ("content", "reasoning", "tool_calls")
        columns = [rows.messages.column(name).to_pylist() for name in names]
        for number, (content, reasoning, calls) in enumerate(zip(*columns, strict=True)):
            found = [(content, False), (reasoning, True)]
            for call in calls or ():
                found += [(call["name"], False), (call["arguments"], False)]
            for text, thought in found:
                if text:
                    texts.append(text)
                    places.append((number, thought))
        tokens, thoughts = messages["tokens"], messages["reasoning_tokens"]
        tokens[:], thoughts[:] = [0] * len(tokens), [0] * len(thoughts)
        for (number, thought), count in zip(places, self.tokenizer.count(texts), strict=True):
            tokens[number] += count
            thoughts[number] += count * thought


@dataclass(frozen=True, slots=True)
class Phase:
    """The plays of one phase, to be gone through once."""

    load: Load
    number: int

    @property
    def options(self) -> LoadOptions:
        return self.load.options

    def __iter__(self) -> Iterator[Play]:
        return self.load.plays(self.number)


def _need_text(dataset: Dataset, split: str | None, why: str) -> None:
    """Raises UsageError where some trajectories have lengths alone."""
    if not dataset.files("messages"):
        raise UsageError(f"{dataset.path}: a dataset without text: {why}")
    losses = dataset.table("trajectories", ["losses"], split=split).column(0).to_pylist()
    without = sum(any(one["kind"] == NO_TEXT for one in kinds or ()) for kinds in losses)
    if without:
        raise UsageError(
            f"{dataset.path}: {without} of {len(losses)} trajectories have lengths and times but "
            f"no text: {why}: record those with text into a dataset of their own"
        )


def _counted_tokens(turns: Columns) -> tuple[int, int]:
    """Sums over answered turns of what the dataset counted, and what an ideal cache holds of it."""
    answered = [turn for turn, output in enumerate(turns["output"]) if output is not None]
    names = ("counted_input_tokens", "counted_cached_tokens")
    counted, cached = (sum(turns[name][turn] or 0 for turn in answered) for name in names)
    return counted, cached


def _name(trajectory_id: str, options: LoadOptions, phase: int, number: int) -> str:
    name = trajectory_id
    if options.phases > 1:
        name += f".phase{phase}"
    return f"{name}.play{number}" if options.plays > 1 else name
