"""The requests that newer Claude Code versions log beside the transcript.

An `api-request` line names the messages of one HTTP attempt by hash: the first `keep` of its
`base` request, then `tail`. `api-request-blob` lines hold messages by hash, `api-request-shape`
lines the system prompt and tool definitions. An answer that the transcript already holds has no
blob: it stands where the base request's answer must stand.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from traj.events import Message, Rebase, Sampling, Session, Step, Turn
from traj.sources.claude_code import content, wire
from traj.sources.claude_code.lane import Answer, turn
from traj.sources.claude_code.request_log import Request, RequestLog


class Follower:
    """Tells one lane's steps from its requests."""

    def __init__(
        self, log: RequestLog, session: Session, lane: int, before: list[tuple[int, Message]]
    ) -> None:
        """`before` are the numbered messages that the transcript placed in the lane before the
        first request: in a fork or a resumed session, the history that the request repeats."""
        self.log = log
        self.session = session
        self.lane = lane
        self.count = before[-1][0] + 1 if before else 0  # messages of the lane so far
        self.before = {_key(message): number for number, message in before}
        self.answers_before = [pair for pair in before if pair[1].role == "assistant"]
        self.steps: list[Step] = []
        self.context: list[tuple[int, int]] = []
        self.last: str | None = None  # id of the latest request
        self.names: list[str] = []  # hashes of its messages
        self.ends: list[int] = []  # length of the context after each of them
        self.known: dict[str, list[tuple[int, int]]] = {}  # hash to messages of the lane
        self.answer: tuple[int, Message] | None = None  # the latest, and its number

    def follow(
        self,
        requests: Iterable[Request],
        answers: dict[str, Answer],
        errors: list[Answer],
        seen: list[Message],
        compactions: list[int],
        tools: dict[str, str],
    ) -> list[Step]:
        """Steps of a lane. `answers` are by request id, `seen` are the transcript's messages (for
        their time stamps), `compactions` the times at which the conversation was compacted."""
        requests = list(requests)
        times = _Times(seen, tools)
        errors = list(errors)
        attempt = 0
        for index, request in enumerate(requests):
            following = requests[index + 1] if index + 1 < len(requests) else None
            had = len(self.names)
            same = self._take(request)
            retried = index > 0 and self.answer is None and same == had == len(self.names)
            attempt = attempt + 1 if retried else 0
            compacted = bool(compactions) and (request.time_us or 0) >= compactions[0]
            if compacted:
                del compactions[: sum(1 for time in compactions if time <= (request.time_us or 0))]
            self._bring_to(same, had, "compaction" if compacted else "edit", times)
            self._emit(
                request, answers.get(request.id), _error(errors, request, following), attempt
            )
        return self.steps

    def _take(self, request: Request) -> int:
        """Makes the request's messages the latest; gives how many the one before began with too.

        A request mostly builds on the one before: then only what it adds is looked at, so that a
        session costs time in proportion to its length.
        """
        names, last, self.last = self.names, self.last, request.id
        if last is not None and request.base == last:
            keep = min(request.keep, len(names))
            same = keep + _common(names[keep:], request.tail)
            names[keep:] = request.tail
            return same
        self.names = self.log.messages(request)
        return _common(names, self.names)

    def _bring_to(self, same: int, had: int, reason: str, times: _Times) -> None:
        """Makes the context that of the latest request, which begins with `same` of the `had`
        messages of the one before."""
        names = self.names
        length = self.ends[same - 1] if same else 0
        answer, self.answer = self.answer, None
        if same < had:
            self._rebase(length, reason)
        elif answer is not None:
            if same < len(names) and self._says(names[same], answer[1]):
                self.known[names[same]] = [(answer[0], answer[0] + 1)]
                self.ends.append(_length(self.context))
                same += 1
            else:
                self._rebase(length, reason)
        del self.ends[same:]
        for place in range(same, len(names)):
            self._add(place, times)
            self.ends.append(_length(self.context))

    def _is_answer(self, name: str) -> bool:
        blob = self.log.blobs.get(name)
        return blob is None or blob.role == "assistant"

    def _says(self, name: str, answer: Message) -> bool:
        """Whether a logged message is the answer as the transcript has it."""
        blob = self.log.blobs.get(name)
        if blob is None:
            return True
        if blob.role != "assistant":
            return False
        said = _assistant(blob)
        return (said.content, [call.id for call in said.tool_calls]) == (
            answer.content,
            [call.id for call in answer.tool_calls],
        )

    def _add(self, place: int, times: _Times) -> None:
        """Puts one of the latest request's messages at the end of the context."""
        name = self.names[place]
        ranges = self.known.get(name)
        if ranges is not None:
            self.context = _joined(self.context, ranges)
            self._restate(None)
            return
        blob = self.log.blobs.get(name)
        if blob is None:
            # Not logged again because the transcript has it: an answer of the repeated history.
            answers = sum(1 for earlier in self.names[:place] if self._is_answer(earlier))
            if answers < len(self.answers_before):
                self._point_at(self.answers_before[answers][0])
            else:
                self.session.lose("unresolved_request_message")
            return
        start = self.count
        for message in times.stamp(blob):
            number = self.before.pop(_key(message), None)
            if number is not None:
                self._point_at(number)
                continue
            self.steps.append(message)
            self.context = _joined(self.context, [(self.count, self.count + 1)])
            self.count += 1
        if self.count > start:
            self.known[name] = [(start, self.count)]

    def _point_at(self, number: int) -> None:
        self.context = _joined(self.context, [(number, number + 1)])
        self._restate(None)

    def _rebase(self, length: int, reason: str) -> None:
        self.context = _cut(self.context, length)
        self._restate(reason)

    def _restate(self, reason: str | None) -> None:
        self.steps.append(Rebase(reason, tuple((self.lane, a, b) for a, b in self.context)))

    def _emit(
        self, request: Request, answer: Answer | None, error: Answer | None, attempt: int
    ) -> None:
        params = request.params
        system, tools = self.log.prompts(request.shape or "")
        known = turn(answer) if answer else Turn(None, "anthropic_messages", status="cancelled")
        if answer is None and error is not None:
            known = structs.replace(known, status="error", error=error.error, end_us=error.last_us)
        kept = params.thinking is not None and params.thinking.type != "disabled"
        effort = (params.output_config or {}).get("effort")
        self.steps.append(
            structs.replace(
                known,
                model=known.model or params.model,
                start_us=request.time_us,
                clock="logged" if request.time_us is not None else known.clock,
                system=system,
                tools=tools,
                earlier_reasoning="kept" if kept else "dropped",
                attempt=attempt,
                sampling=Sampling(
                    params.max_tokens,
                    params.temperature,
                    params.top_p,
                    effort if isinstance(effort, str) else None,
                    True if params.stream is None else params.stream,
                ),
                file=known.file if answer else request.file,
                line=known.line if answer else request.line,
            )
        )
        if known.answer is not None:
            self.answer = (self.count, known.answer)
            self.context = _joined(self.context, [(self.count, self.count + 1)])
            self.count += 1


class _Times:
    """Lends the transcript's time stamps to the messages of the requests."""

    def __init__(self, seen: list[Message], tools: dict[str, str]) -> None:
        self.tools = tools
        self.results = {m.tool_call_id: m for m in seen if m.role == "tool"}
        self.texts = {m.content: m for m in seen if m.role == "user" and m.by_person}

    def stamp(self, blob: wire.ApiMessage) -> list[Message]:
        if blob.role == "assistant":
            return [_assistant(blob)]
        role = "system" if blob.role == "system" else "user"
        found = content.from_user(blob.content, self.tools, None, False, 0, 0, role)
        return [self._stamped(message, blob.content) for message in found]

    def _stamped(self, message: Message, said: wire.Content) -> Message:
        known = self.results.get(message.tool_call_id) if message.role == "tool" else None
        if known is None and message.role == "user":
            parts = said if isinstance(said, list) else [said]
            texts = [part if isinstance(part, str) else part.text for part in parts if part]
            known = next((self.texts[text] for text in texts if text in self.texts), None)
        if known is None:
            return structs.replace(message, line=None)
        return structs.replace(
            message,
            time_us=known.time_us,
            by_person=known.by_person,
            file=known.file,
            line=known.line,
        )


def _assistant(blob: wire.ApiMessage) -> Message:
    return structs.replace(content.assistant(content.blocks(blob.content), None, 0, 0), line=None)


def _error(errors: list[Answer], request: Request, following: Request | None) -> Answer | None:
    """The first failure logged between two requests."""
    for error in errors:
        time = error.last_us or 0
        if time >= (request.time_us or 0) and (
            following is None or time <= (following.time_us or time)
        ):
            errors.remove(error)
            return error
    return None


def _key(message: Message) -> tuple[str, str | None, str | None, tuple[str, ...]]:
    """What makes two messages the same."""
    ids = tuple(call.id for call in message.tool_calls)
    return message.role, message.content, message.tool_call_id, ids


def _common(a: list[str], b: list[str]) -> int:
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length


def _length(ranges: list[tuple[int, int]]) -> int:
    return sum(stop - start for start, stop in ranges)


def _joined(ranges: list[tuple[int, int]], more: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined = list(ranges)
    for start, stop in more:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def _cut(ranges: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    kept: list[tuple[int, int]] = []
    for start, stop in ranges:
        if length <= 0:
            break
        kept.append((start, min(stop, start + length)))
        length -= stop - start
    return kept
