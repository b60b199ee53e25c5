"""What a replay measured: a row a request, and what the rows say together.

A run is a folder: requests.parquet (schema/v1/requests.toml) and run.json.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traj import schema
from traj.errors import TrajError, UsageError

if TYPE_CHECKING:
    import polars as pl

    from traj.build.tokens import Tokenizer
    from traj.replay.outcome import Outcome
    from traj.replay.scripts import Script, Step

REQUESTS, RUN = "requests.parquet", "run.json"
_PERCENTILES = (5, 25, 50, 75, 95, 99)


@dataclass(frozen=True, slots=True)
class Sent:
    """One request and what came of it."""

    script: Script
    step: Step
    agent: int
    due_us: int
    outcome: Outcome


class Requests:
    """The rows of one process, times on the monotonic clock."""

    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self._texts: list[str] = []  # of the answers: counted when nobody waits for it

    def add(self, sent: Sent) -> None:
        script, step, outcome = sent.script, sent.step, sent.outcome
        self._texts.append(outcome.text)
        self.rows.append(
            (
                schema.VERSION,
                script.place,
                script.trajectory_id,
                script.phase,
                script.number,
                sent.agent,
                step.turn,
                step.lane,
                step.delay_us,
                sent.due_us,
                outcome.sent_us,
                outcome.first_token_us,
                outcome.last_token_us,
                outcome.end_us,
                step.input_tokens,
                step.cached_tokens,
                step.output_tokens,
                outcome.input_tokens,
                outcome.cached_tokens,
                outcome.output_tokens,
                None,
                outcome.events,
                outcome.status,
                outcome.http_status,
                outcome.error,
                outcome.retries,
                outcome.finish_reason,
            )
        )

    def count(self, tokenizer: Tokenizer) -> None:
        """Counts what was answered, each distinct text once."""
        texts = [text for text in dict.fromkeys(self._texts) if text]
        known = dict(zip(texts, tokenizer.count(texts), strict=True))
        place = schema.arrow("requests").names.index("counted_output_tokens")
        self.rows = [
            (*row[:place], known.get(text), *row[place + 1 :])
            for row, text in zip(self.rows, self._texts, strict=True)
        ]


_TIMES = ("due_us", "sent_us", "first_token_us", "last_token_us", "end_us")


def frame(parts: Iterable[tuple[int, list[tuple[Any, ...]]]]) -> pl.DataFrame:
    """The rows of all parts in the order of plays and turns. Before each part's stands what its
    times need to be from the start of the run."""
    import polars as pl

    columns = schema.arrow("requests").empty_table()
    known = pl.from_arrow(columns)
    assert isinstance(known, pl.DataFrame)
    found = []
    for shift_us, rows in parts:
        part = pl.DataFrame(rows, schema=known.schema, orient="row")
        found.append(part.with_columns(pl.col(*_TIMES) + shift_us))
    return pl.concat(found).sort("place", "turn")


@dataclass(frozen=True, slots=True)
class Client:
    """How well the harness kept its own time; the run is only as true as this."""

    schedule_error_us: dict[str, int | None]  # sent later than due, percentiles
    loop_lag_us: dict[str, int | None]  # the event loop woke later than asked, percentiles
    cpu_share: float  # of one core, of the busiest process
    processes: int
    clock_error_us: int | None = None  # between machines, at most; null on one


@dataclass(frozen=True, slots=True)
class Run:
    """One replay. Latencies are in microseconds, speeds in tokens a second."""

    requests: pl.DataFrame = field(repr=False)
    options: dict[str, Any]
    dataset: dict[str, Any]
    tool: dict[str, str]
    started_at: str
    duration_us: int
    client: Client
    played: int  # trajectories that were played to their ends
    valid: bool
    reasons: tuple[str, ...]  # why it is not
    interrupted: bool

    def summary(self) -> dict[str, Any]:
        """What the rows say together; failures beside what was measured, never inside."""
        import polars as pl

        rows = self.requests
        status = dict(rows.group_by("status").len().sort("len", descending=True).iter_rows())
        good = measured(rows)
        reported = good.filter(pl.col("cached_tokens").is_not_null())
        return {
            "requests": rows.height,
            "answered": good.height,
            "failed": rows.height - good.height - status.get("cancelled", 0),
            "by_status": status,
            "first_errors": self._first_errors(),
            "plays": rows["place"].n_unique(),
            "played_whole": self.played,
            "retries": int(rows["retries"].sum()),
            "ttft_us": percentiles(good["ttft_us"]),
            "output_tokens_per_s": percentiles(good["output_tokens_per_s"]),
            "latency_us": percentiles(good["end_us"] - good["sent_us"]),
            "input_tokens": _sum(good, "input_tokens"),
            "output_tokens": _sum(good, "output_tokens"),
            "counted_output_tokens": _sum(good, "counted_output_tokens"),
            "usage_missing": int(good["output_tokens"].null_count()),
            "cached_share": _share(reported, "cached_tokens", "input_tokens"),
            "predicted_cached_share": _share(
                good, "predicted_cached_tokens", "planned_input_tokens"
            ),
        }

    def _first_errors(self) -> dict[str, str]:
        import polars as pl

        told = self.requests.filter(pl.col("error").is_not_null()).sort("end_us")
        return dict(
            told.group_by("status", maintain_order=True)
            .first()
            .select("status", "error")
            .iter_rows()
        )

    def to_dict(self) -> dict[str, Any]:
        """As run.json holds it."""
        return {
            "version": "1.0",
            "summary": self.summary(),
            "client": asdict(self.client),
            "valid": self.valid,
            "reasons": list(self.reasons),
            "interrupted": self.interrupted,
            "started_at": self.started_at,
            "duration_us": self.duration_us,
            "options": self.options,
            "dataset": self.dataset,
            "tool": self.tool,
        }

    def write(self, out: Path) -> None:
        """Writes the run's folder, whole or not at all."""
        import orjson

        scratch = out.parent / f".{out.name}.unfinished"
        try:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            arrow = self.requests.to_arrow().cast(schema.arrow("requests"))
            _write_parquet(arrow, scratch / REQUESTS)
            text = orjson.dumps(self.to_dict(), option=orjson.OPT_INDENT_2)
            (scratch / RUN).write_bytes(text + b"\n")
            scratch.replace(out)
        except OSError as error:
            raise TrajError(f"{out}: cannot write: {error.strerror or error}") from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def check_free(out: Path) -> None:
    """Raises UsageError for a place where no run can be put."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists; choose a new folder for the run")


def measured(rows: pl.DataFrame) -> pl.DataFrame:
    """The answered requests, with `ttft_us` and `output_tokens_per_s`: tokens after the first over
    the time after the first, null for an answer of one. The engine's count, else ours."""
    import polars as pl

    tokens = pl.coalesce("output_tokens", "counted_output_tokens")
    spent_us = pl.col("last_token_us") - pl.col("first_token_us")
    speed = pl.when((tokens > 1) & (spent_us > 0)).then((tokens - 1) * 1e6 / spent_us)
    return rows.filter(pl.col("status") == "ok").with_columns(
        (pl.col("first_token_us") - pl.col("sent_us")).alias("ttft_us"),
        speed.alias("output_tokens_per_s"),
    )


def percentiles(values: pl.Series) -> dict[str, Any]:
    """By name (`p50`); linear between neighbours, None where there are no values."""
    found: dict[str, Any] = {
        f"p{p}": _rounded(values.quantile(p / 100, interpolation="linear")) for p in _PERCENTILES
    }
    return found | {"max": _rounded(values.max())}


def _rounded(value: Any) -> float | int | None:
    return None if value is None else round(float(value), 3)


def _sum(rows: pl.DataFrame, name: str) -> int | None:
    return None if rows[name].null_count() == rows.height else int(rows[name].sum())


def _share(rows: pl.DataFrame, part: str, whole: str) -> float | None:
    total = int(rows[whole].sum())
    return round(int(rows[part].sum()) / total, 6) if total else None


def _write_parquet(table: Any, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd")
