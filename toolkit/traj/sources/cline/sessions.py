"""Cline's newer format: a session's messages in one document, its sub-agents' in others beside."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from traj.events import Repository, Session, Turn
from traj.sources import documents
from traj.sources.cline import content, wire
from traj.sources.cline.talk import Talk


def read(path: Path, session: Session, index: int, compacted: Path | None) -> Talk:
    """Reads one agent's messages into its lane."""
    state = None
    if compacted is not None:
        state = documents.read(compacted, wire.COMPACTED, session)
    talk = Talk(session, index, len(session.files))
    found = documents.read(path, wire.SESSION, session)
    if index == 0 and found.origin is not None:
        session.agent_version = found.origin.version
    before = state.source_message_count if state is not None else None
    for line, said in documents.items(found.messages, wire.SAID, session):
        if state is not None and before is not None and line == before + 1:
            _compact(talk, state, session)
            state = None
        if said.role == "assistant":
            metrics = said.metrics or wire.Metrics()
            usage = content.MEANING.usage(
                metrics.input_tokens,
                metrics.cache_read_tokens,
                metrics.output_tokens,
                written_tokens=metrics.cache_write_tokens,
            )
            talk.answer(said, line, usage)
        else:
            talk.say(said, line)
    set_system(talk, found.system_prompt)
    return talk


def _compact(talk: Talk, state: wire.Compacted, session: Session) -> None:
    """From here on other messages stand for those before: the last compaction alone is kept."""
    start = talk.count
    for line, said in documents.items(state.messages, wire.SAID, session):
        if said.role == "assistant":
            talk.add(content.answer(said, content.microseconds(said.ts), talk.file, line))
        else:
            for message in content.to_model(said, talk.file, line, session, is_main=False):
                talk.add(message)
    session.lose("answer_not_recorded")
    talk.rebase("compaction", (start, talk.count))


def set_system(talk: Talk, system: str | None) -> None:
    """The session says its system prompt once; that of a sub-agent is known by its call."""
    if system:
        steps = talk.lane.steps
        steps[:] = [replace(s, system=system) if isinstance(s, Turn) else s for s in steps]


def describe(path: Path, session: Session) -> None:
    """What stands beside the messages: the repository and a title."""
    found = documents.read(path, wire.MANIFEST, session)
    metadata = found.metadata or wire.Metadata()
    session.title = metadata.title
    if metadata.git is not None:
        session.repository = Repository(metadata.git.url, None, metadata.git.branch)
