"""How the sessions were recorded, and what the record does not say."""

from __future__ import annotations

from traj.publish.card.figures import Figure, Sheet
from traj.publish.card.frames import Frames, sql
from traj.publish.card.markup import code, count, folded, share, table

_VERSIONS = 6  # named for an agent
_MODELS = 20
_SOURCE = "https://github.com/traj-toolkit/traj"


def _unknown(label: str, source: str, condition: str, note: str) -> Figure:
    query = sql([f"count(*) filter (where {condition}) / count(*)"], source)
    return Figure(label, query, (share,), note)


def _weight(label: str, source: str, value: str, group: str) -> Figure:
    each = sql([f"{value} as n"], source, f"where {group} is not null group by {group}")
    query = sql(["max(n) / sum(n)"], f"({each})")
    return Figure(f"the largest {label}", query, (share,), f"`{group}`")


GAPS = Sheet(
    ("", "share", "is"),
    (
        _unknown(
            "turns without the provider's input figure",
            "turns",
            "input_tokens is null",
            "`turns.input_tokens is null`",
        ),
        _unknown(
            "turns whose figures are partial or missing",
            "turns",
            "usage_source <> 'reported'",
            "`turns.usage_source`: above all, old logs hold placeholders for output",
        ),
        _unknown(
            "turns with a derived clock, or none",
            "turns",
            "clock in ('derived', 'none')",
            "`turns.clock`: the start is when the last thing that the request needed was there",
        ),
        _unknown(
            "turns without a time of the first token",
            "turns",
            "first_token_us is null",
            "`turns.first_token_us is null`",
        ),
        _unknown(
            "turns whose system prompt is not in the record",
            "turns",
            "system_id is null",
            "`turns.system_id is null`",
        ),
        _unknown(
            "turns whose tool definitions are not in the record",
            "turns",
            "tools_id is null",
            "`turns.tools_id is null`",
        ),
        _unknown(
            "turns with earlier reasoning that cannot be counted",
            "turns",
            "earlier_reasoning in ('encrypted', 'unknown')",
            "`turns.earlier_reasoning`",
        ),
        Figure(
            "input at the start of contexts that the record does not hold",
            "select sum(unseen_input_tokens) / sum(input_tokens) from turns "
            "where unseen_input_tokens is not null",
            (share,),
            "`turns.unseen_input_tokens / turns.input_tokens`",
        ),
        _unknown(
            "tool calls without times",
            "tool_calls",
            "start_us is null or end_us is null",
            "`tool_calls.start_us`, `tool_calls.end_us`",
        ),
        _unknown(
            "tool calls with a derived clock, or none",
            "tool_calls",
            "clock in ('derived', 'none')",
            "`tool_calls.clock`",
        ),
        _unknown(
            "trajectories of unknown language",
            "trajectories",
            "language is null",
            "`trajectories.language is null`",
        ),
        _unknown(
            "trajectories of unknown use",
            "trajectories",
            "use_case is null",
            "`trajectories.use_case is null`",
        ),
        _unknown(
            "trajectories of unknown outcome",
            "trajectories",
            "outcome = 'unknown'",
            "`trajectories.outcome`",
        ),
    ),
)
WEIGHTS = Sheet(
    ("", "has of all turns", "by"),
    (
        _weight("trajectory", "turns", "count(*)", "trajectory_id"),
        _weight("repository", "trajectories", "sum(totals.turns)", "repository.name"),
        _weight("model", "turns", "count(*)", "model"),
        _weight("agent", "trajectories", "sum(totals.turns)", "agent.name"),
    ),
)
_AGENTS = (
    "select agent.name, agent.version, source.format, source.recorder, count(*) "
    "from trajectories group by agent.name, agent.version, source.format, source.recorder "
    "order by count(*) desc, agent.name, agent.version"
)
_MODEL_COUNTS = "select model, count(*) from turns group by model order by count(*) desc, model"
_LOSSES = (
    "select loss.kind, sum(loss.count), count(*) "
    "from (select unnest(losses) as loss from trajectories) "
    "where loss.kind is not null group by loss.kind order by loss.kind"
)


def agents(frames: Frames) -> list[str]:
    """The agents' names as the logs give them, those of most trajectories first."""
    tally: dict[str, int] = {}
    for name, _, _, _, number in frames.rows(_AGENTS):
        tally[name] = tally.get(name, 0) + number
    return sorted(tally, key=lambda name: (-tally[name], name))


def recorded(frames: Frames) -> list[str]:
    """Agents, models, tools of ours and their versions."""
    manifest = frames.manifest
    first, last = frames.row("select min(started_at), max(started_at) from trajectories")
    when = f"{first:%Y-%m-%d} to {last:%Y-%m-%d}" if first else "not said"
    versions = frames.rows(
        "select source.recorder_version, count(*) from trajectories "
        "group by source.recorder_version order by count(*) desc, source.recorder_version"
    )
    replaced, among = frames.row(
        "select sum(redactions), count(*) filter (where redactions > 0) from trajectories"
    )
    scrubbed = (
        f"by the rules {code(manifest.scrubbed)}: {count(replaced)} pieces of text in "
        f"{count(among)} trajectories were replaced by stand-ins, equal ones by equal ones"
        if manifest.scrubbed
        else "no"
    )
    tokenizer = manifest.tokenizer
    facts = [
        ("sessions of", when),
        ("recorded with", ", ".join(f"traj {code(name)}" for name, _ in versions) or "-"),
        (
            "written with",
            f"traj {code(manifest.tool_version)}, schema {code(manifest.schema_version)}",
        ),
        ("scrubbed", scrubbed),
        (
            "tokenizer of counted lengths",
            f"{code(tokenizer.get('name'))}, SHA-256 {code(tokenizer.get('sha256'))}",
        ),
    ]
    heads = ("agent", "versions", "read from", "by", "trajectories")
    return [
        "## How it was recorded",
        table(("", ""), facts),
        table(heads, _by_agent(frames), (4,)),
        "`log`: the agent's own record. `proxy`: the requests on the wire.",
        folded("Models", *_models(frames)),
    ]


_NOTES = """\
- Providers' figures and counted ones come from different tokenizers, and counted ones know no chat
  template. Compare each with its like.
- The cached share as logged is that of the providers' caches on those days: they forget, and they
  share text between sessions. The ideal share does neither.
- Tool times are those of the machines and people of the time, without waits for permission where
  the record tells them.
- Images and documents are named by hash and size; what was in them is not here."""
_SCRUBBED = """
- Scrubbing finds what its rules know. Whoever finds more that should not be here is asked to tell
  the owners of this repository, and nobody else."""


def limits(frames: Frames) -> list[str]:
    """What a user of the figures has to know."""
    return [
        "## Limitations",
        "What is not known, and how often:",
        GAPS.block(frames),
        """\
It is no sample of all work with agents, only of what was recorded and may be published. How much
hangs on one:""",
        WEIGHTS.block(frames),
        _NOTES + (_SCRUBBED if frames.manifest.scrubbed else ""),
        *_lost(frames),
    ]


def _lost(frames: Frames) -> list[str]:
    rows = [(code(kind), count(n), count(m)) for kind, n, m in frames.rows(_LOSSES)]
    if not rows:
        return []
    meaning = f"""\
What each means: [the schema's page]({_SOURCE}/blob/main/schema/README.md#losses). By trajectory
they are in `trajectories.losses`."""
    found = table(("kind", "times", "trajectories"), rows, (1, 2))
    return [folded("What the sources held and this does not, or lacked themselves", found, meaning)]


def _by_agent(frames: Frames) -> list[tuple[str, ...]]:
    found: dict[tuple[str, str, str], list[tuple[str | None, int]]] = {}
    for name, version, source, recorder, number in frames.rows(_AGENTS):
        found.setdefault((name, source, recorder), []).append((version, number))
    rows = []
    for (name, source, recorder), versions in found.items():
        named = ", ".join(code(version) for version, _ in versions[:_VERSIONS])
        more = len(versions) - _VERSIONS
        named += f" and {more} more" if more > 0 else ""
        whole = sum(number for _, number in versions)
        rows.append((whole, (code(name), named, code(source), code(recorder), count(whole))))
    return [row for _, row in sorted(rows, key=lambda one: (-one[0], one[1]))]


def _models(frames: Frames) -> list[str]:
    found = frames.rows(_MODEL_COUNTS)
    rows = [(code(name), count(number)) for name, number in found[:_MODELS]]
    more = len(found) - len(rows)
    rest = f"{more} more, in `turns.model`." if more > 0 else ""
    return [table(("model", "turns"), rows, (1,)), rest]


def words(found: list[str], most: int = 4) -> str:
    """Foreign words as a list in a sentence."""
    shown = [code(name) for name in found[:most]]
    if len(found) > most:
        shown.append(f"{len(found) - most} more")
    if len(shown) < 2:
        return "".join(shown)
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
