"""Reads exported files back as the prompts that an engine is sent, for the cache simulation.

Of a target's files, `prompts(out, phase)` gives the prompts of a phase, and `read(out, place)` the
texts of a part again. Both know the format alone, and nothing of how the files were written. What
they have in common for chat messages is here: a prompt begins with its system messages, then come
the tool definitions, then the rest, as in most chat templates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traj.workload.cache_simulation import BlockPrompt, Part, simulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from traj.build.tokens import Tokenizer
    from traj.workload.cache_simulation import CacheHits, Prompt

    Prompts = Callable[[Path, int], Iterator[Prompt | BlockPrompt]]
    Read = Callable[[Path, int], Sequence[str]]

_PLACES = 1 << 54  # of one phase
_INDEX_BITS = 18  # of a place in a file of lines: what it is in its line
TOOLS = 1 << (_INDEX_BITS - 1)  # indices of tool definitions begin here


def texts(message: dict[str, Any]) -> tuple[str, ...]:
    """What of a chat message is counted, each by itself."""
    found = [message.get("content") or "", message.get("reasoning_content") or ""]
    for call in message.get("tool_calls") or ():
        found += (call["function"]["name"], call["function"]["arguments"])
    return tuple(text for text in found if text)


def tool_texts(tools: Sequence[Any]) -> tuple[str, ...]:
    """Tool definitions, as one text."""
    import orjson

    return (orjson.dumps(tools).decode(),) if tools else ()


def lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The lines of a JSONL file with their places, to which an index in the line is added."""
    import orjson

    offset = 0
    with path.open("rb") as file:
        for line in file:
            yield offset << _INDEX_BITS, orjson.loads(line)
            offset += len(line)


def line_at(path: Path, place: int) -> tuple[Any, int]:
    """The line of a place, and the index in it."""
    import orjson

    with path.open("rb") as file:
        file.seek(place >> _INDEX_BITS)
        return orjson.loads(file.readline()), place & ((1 << _INDEX_BITS) - 1)


def in_order(messages: Sequence[tuple[str, Part]], tools: Part | None) -> list[Part]:
    """A whole prompt's parts; messages are given with their roles."""
    first = next((i for i, (role, _) in enumerate(messages) if role != "system"), len(messages))
    parts = [part for _, part in messages]
    return [*parts[:first], *([tools] if tools and tools.texts else ()), *parts[first:]]


def hits(
    prompts: Prompts, read: Read | None, folders: Sequence[Path], tokenizer: Tokenizer | None
) -> CacheHits:
    """What a cache that forgets nothing would find of all phases' prompts, phase after phase."""

    def every() -> Iterator[Prompt | BlockPrompt]:
        for phase, folder in enumerate(folders):
            for prompt in prompts(folder, phase):
                yield _placed(prompt, phase)

    def again(place: int) -> Sequence[str]:
        assert read is not None
        return read(folders[place // _PLACES], place % _PLACES)

    return simulate(every(), tokenizer, again if read else None)


def _placed(prompt: Prompt | BlockPrompt, phase: int) -> Prompt | BlockPrompt:
    if isinstance(prompt, BlockPrompt) or not phase:
        return prompt
    start = phase * _PLACES
    return prompt._replace(parts=[Part(part.texts, start + part.place) for part in prompt.parts])
