"""Prompts whose beginnings are shared: each part of a growing list is read once, behind what was
before it, however many requests send it again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Raw, Struct
from msgspec.structs import replace

from traj.events import Message
from traj.sources.requests import anthropic, bodies, chat, gemini, responses
from traj.sources.requests.links import Link
from traj.sources.requests.pieces import NOTHING, fit
from traj.sources.requests.spoken import ANTHROPIC, CHAT, GEMINI, RESPONSES, Asked, Prompt

# Each stands for all that is before: a number, which no API has for a message. That both are seen
# in the same place tells where they are, whatever else the body holds.
_MARKS = (b"0", b"1")


class _Lists(Struct):
    messages: Raw = NOTHING
    input: Raw = NOTHING
    contents: Raw = NOTHING


class _Read(Struct):
    """What is known behind a link."""

    prompt: Prompt | None = None
    answer: tuple[responses.Item, ...] = ()  # items of an answer that may go on
    encrypted: bool = False
    calls: tuple[str, ...] = ()  # Gemini's: ids of those in the link; numbers of all until then
    asked: int = 0
    told: int = 0


class _Names:
    """The names of calls that stand before a link: of all that are in the log, those on its own
    chain."""

    def __init__(self, calls: dict[str, list[tuple[Link, str]]], link: Link) -> None:
        self._calls, self._link = calls, link
        self.own: dict[str, str] = {}

    def get(self, call: str, /) -> str | None:
        if call in self.own:
            return self.own[call]
        found = reversed(self._calls.get(call, ()))
        return next((name for link, name in found if self._link.is_behind(link)), None)

    def update(self, calls: Iterable[tuple[str, str]], /) -> None:
        self.own.update(calls)


class Prompts:
    """The prompts of a log. `items` gives the items of a list that a link stands for; `same` the
    object that stands for all equal messages."""

    def __init__(
        self, items: Callable[[Link], Sequence[bytes]], same: Callable[[Message], Message]
    ) -> None:
        self._items, self._same = items, same
        self._read: dict[tuple[str, Link], _Read] = {}
        self._calls: dict[str, dict[str, list[tuple[Link, str]]]] = {}
        self._shells: dict[tuple[object, ...], tuple[Asked | None, list[bytes]] | None] = {}

    def asked(
        self,
        api: str,
        url: str,
        tip: Link,
        body: tuple[object, ...],
        text: Callable[[bytes], bytes],
    ) -> tuple[Asked | None, gemini.Calls] | None:
        """The request of a body whose list begins with a chain up to `tip`, and its calls where the
        API counts them; None where that cannot be told, and the body is to be read whole. `text`
        gives the body with a mark in place of the chain, `body` is what stands for that text."""
        key = (api, url, *body)
        if key not in self._shells:
            self._shells[key] = _shell(api, text, url)
        shell = self._shells[key]
        if shell is None:
            return None
        asked, items = shell
        if asked is None:
            return None, gemini.Calls()
        read = self._behind(api, tip)
        names = _Names(self._calls.setdefault(api, {}), tip)
        answer, counted = list(read.answer), self._counted(tip, read)
        messages = _told(api, items, names, answer, counted)
        if answer:
            messages.append(responses.said(answer))
        found = replace(
            asked,
            messages=tuple(self._same(one) for one in messages),
            encrypted=asked.encrypted or read.encrypted,
            before=read.prompt,
        )
        return found, counted

    def _behind(self, api: str, tip: Link) -> _Read:
        links: list[Link] = []
        link = tip
        while link.before is not None and (api, link) not in self._read:
            links.append(link)
            link = link.before
        read = self._read.get((api, link), _Read())
        while links:
            link = links.pop()
            read = self._read[api, link] = self._next(api, link, read)
        return read

    def _next(self, api: str, link: Link, before: _Read) -> _Read:
        calls = self._calls.setdefault(api, {})
        names = _Names(calls, link.before or link)
        answer, counted = list(before.answer), self._counted(link.before or link, before)
        items = self._items(link)
        told = _told(api, items, names, answer, counted)
        for call, name in names.own.items():
            calls.setdefault(call, []).append((link, name))
        prompt = before.prompt
        if told:
            prompt = Prompt(prompt, tuple(self._same(one) for one in told))
        encrypted = before.encrypted or (api == RESPONSES and any(map(_is_encrypted, items)))
        numbers = (tuple(counted.own), counted.asked, counted.told)
        return _Read(prompt, tuple(answer), encrypted, *numbers)

    def _counted(self, link: Link, read: _Read) -> gemini.Calls:
        """The calls up to a link, which is found by halves that holds one of them."""

        def earlier(number: int) -> str:
            low, high = 1, link.depth
            while low < high:
                middle = (low + high) // 2
                if self._read[GEMINI, link.at(middle)].asked > number:
                    high = middle
                else:
                    low = middle + 1
            found = self._read[GEMINI, link.at(low)]
            return found.calls[number - found.asked]

        return gemini.Calls(read.asked, read.told, earlier)


def _told(
    api: str,
    items: Sequence[bytes],
    names: _Names,
    answer: list[responses.Item],
    counted: gemini.Calls,
) -> list[Message]:
    if api == ANTHROPIC:
        return anthropic.told(items, names)
    if api == CHAT:
        return chat.told(items, names)
    if api == GEMINI:
        return gemini.told(items, counted)
    found = (fit(item, responses.Item) for item in items)
    return responses.told((item for item in found if item is not None), names, answer)


def _is_encrypted(item: bytes) -> bool:
    found = fit(item, responses.Item)
    return found is not None and found.encrypted_content is not None


def _shell(
    api: str, text: Callable[[bytes], bytes], url: str
) -> tuple[Asked | None, list[bytes]] | None:
    """A request without the shared part of its list, and the items behind that."""
    for mark in _MARKS:
        body = text(mark)
        lists = fit(body, _Lists)
        if lists is None:
            return None, []  # it is no JSON object, whatever is in the list
        raw = {RESPONSES: lists.input, GEMINI: lists.contents}.get(api, lists.messages)
        items = fit(raw, list[Raw]) or []
        if not items or bytes(items[0]) != mark:
            return None
    return bodies.asked(api, body, url), [bytes(one) for one in items[1:]]
