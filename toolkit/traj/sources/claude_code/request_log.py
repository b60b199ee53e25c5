"""What a session's files say of its requests: attempts, messages by hash, prompts by shape."""

from __future__ import annotations

import msgspec
from msgspec import Struct, field

from traj.sources.claude_code import wire


class Request(Struct):
    """One HTTP attempt."""

    id: str
    time_us: int | None
    base: str | None
    keep: int
    tail: list[str]
    params: wire.Params
    shape: str | None
    file: int
    line: int


class RequestLog(Struct):
    """All that a session's files say of its requests; shared by its lanes."""

    blobs: dict[str, wire.ApiMessage] = field(default_factory=dict)
    shapes: dict[str, wire.Shape] = field(default_factory=dict)
    by_id: dict[str, Request] = field(default_factory=dict)

    _prompts: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)

    def take(self, line: wire.Line, time_us: int | None, file: int, number: int) -> Request | None:
        """Keeps one of the log's three kinds of line; the attempt, if it is one."""
        if line.type == "api-request-blob" and line.hash and line.message:
            self.blobs[line.hash] = line.message
        elif line.type == "api-request-shape" and line.shapeHash and line.shape:
            self.shapes[line.shapeHash] = line.shape
        elif line.type == "api-request" and line.id:
            keep, tail, params = line.keep or 0, line.tail or [], line.params or wire.Params()
            request = Request(
                line.id, time_us, line.base, keep, tail, params, line.shapeHash, file, number
            )
            self.by_id[line.id] = request
            return request
        return None

    def prompts(self, shape: str) -> tuple[str | None, str | None]:
        """System prompt and tool definitions of a shape, the same objects each time."""
        if shape not in self._prompts and (found := self.shapes.get(shape)) is not None:
            self._prompts[shape] = (_system(found), bytes(found.tools).decode() or None)
        return self._prompts.get(shape, (None, None))

    def messages(self, request: Request) -> list[str]:
        """The hashes of a request's messages, in order."""
        chain = [request]
        while (base := self.by_id.get(chain[-1].base or "")) and base not in chain[-1:]:
            if len(chain) > len(self.by_id):
                break  # a cycle, in a damaged file
            chain.append(base)
        names: list[str] = []
        for step in reversed(chain):
            names = [*names[: step.keep], *step.tail]
        return names


class _Text(Struct):
    text: str = ""


def _system(shape: wire.Shape) -> str | None:
    if not bytes(shape.system):
        return None
    try:
        parts = msgspec.json.decode(shape.system, type=list[_Text] | str)
    except msgspec.DecodeError:
        return None
    return parts if isinstance(parts, str) else "\n".join(part.text for part in parts)
