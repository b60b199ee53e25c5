"""SWE-agent: `<instance>.traj`, from the first versions to 1.x.

One document is one session. Since 1.0 each step holds the request as it was sent; before, the
history alone says what the model was shown. There are no times but how long each action ran, and
no figures but the agent's own sums over the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traj.errors import SourceError
from traj.events import Repository, Sampling, Session
from traj.sources import documents
from traj.sources.about import About, Meaning
from traj.sources.lines import Head
from traj.sources.located import Located
from traj.sources.requests.pieces import fit
from traj.sources.swe_agent import history, queries, wire

if TYPE_CHECKING:
    from msgspec import Raw

NAME = "swe_agent"
MEANING = Meaning(cached=None, written=None, reasoning=None)
ABOUT = About(
    "SWE-agent",
    MEANING,
    lengths="session",
    turn_clock="none",
    tool_clock="none",
    seen="real sessions",
    lacks=(
        "token figures of a request (the agent counts its own sums)",
        "times",
        "definitions of tools",
        "tool calls where actions are text of the answer",
        "before 1.0: answers that the agent could not use, and its shortening of what it sends",
        "retries of the provider's client",
    ),
)
_STEP = ("action", "observation", "response", "thought")


def locate(path: Path, head: Head) -> list[Located]:
    """Recognises a trajectory by its first step, or a history by what its messages say of the
    agent; empty for anything else."""
    found = head.document
    if not isinstance(found, dict):
        return []
    best = _first(found.get("attempts")) or found
    step = _first(best.get("trajectory"))
    if step is not None and all(isinstance(step.get(name), str) for name in _STEP):
        return [Located(path, NAME, _session_id(path, step))]
    said = _first(found.get("history"))
    if said is not None and {"role", "content", "agent"} <= said.keys():
        return [Located(path, NAME, _session_id(path, {}))]
    return []


def _first(found: object) -> dict[str, Any] | None:
    first = found[0] if isinstance(found, list) and found else None
    return first if isinstance(first, dict) else None


def _session_id(path: Path, step: dict[str, Any]) -> str:
    """A hash of the first step, as the file has no id of its own. How long its action ran makes it
    this run's own; older files do not say, and are told apart by all that they hold."""
    if step.get("execution_time"):
        beginning = repr([step.get(name) for name in (*_STEP, "execution_time")])
        return hashlib.sha256(beginning.encode("utf-8", "replace")).hexdigest()[:32]
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session. Raises SourceError."""
    session = Session(NAME, session_id, "SWE-agent")
    document = documents.read(parts[0].path, wire.DOCUMENT, session)
    attempts = [run for _, run in documents.items(document.attempts, wire.RUN, session)]
    runs: list[wire.Run] = attempts or [document]
    config = _config(runs[0].replay_config)
    model = (config.agent.model if config.agent else None) or wire.Model()
    asked = queries.Asking(model.name or None, _sampling(model))
    if not queries.read(session, runs, asked):
        history.read(session, runs, asked)
    _describe(session, config, runs)
    return session


def _describe(session: Session, config: wire.Config, runs: Sequence[wire.Run]) -> None:
    infos = [fit(run.info, wire.Info) or wire.Info() for run in runs]
    session.agent_version = infos[0].swe_agent_version
    session.title = config.problem_statement.id if config.problem_statement else None
    repo = config.env.repo if config.env else None
    if repo is not None and repo.github_url:
        session.repository = Repository(repo.github_url, repo.base_commit)
    stats = [info.model_stats for info in infos if info.model_stats is not None]
    if stats:
        session.usage = MEANING.usage(
            sum(one.tokens_sent or 0 for one in stats) or None,
            None,
            sum(one.tokens_received or 0 for one in stats) or None,
            whole=False,
        )
        session.lose("usage_not_per_request", session.usage.source != "none")


def _config(raw: Raw) -> wire.Config:
    text = fit(raw, str)
    found = fit(raw if text is None else text.encode("utf-8", "replace"), wire.Config)
    return found or wire.Config()


def _sampling(model: wire.Model) -> Sampling:
    return Sampling(model.max_output_tokens, model.temperature, model.top_p)
