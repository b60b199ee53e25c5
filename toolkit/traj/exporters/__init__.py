"""Writes a dataset as the files that a replay harness reads.

A target is one module: see `Exporter`. Its `write` writes the files of one phase into an empty
folder, a play at a time, and gives back what it counted. `export` does what all targets share: the
folder appears whole or not at all, and `export.json` in it says what was written, how long it is,
what was lost, and how to replay it.
"""

from __future__ import annotations

import hashlib
import importlib
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from traj.errors import UsageError
from traj.exporters import read_back
from traj.workload.load import Load, Phase
from traj.workload.losses import FILLED, SENT, TEXT
from traj.workload.options import LoadOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traj.dataset import Dataset
    from traj.exporters.tally import Tally
    from traj.workload.cache_simulation import CacheHits
    from traj.workload.tool_time import ToolTimeReport

TARGETS = {
    "abench": "traj.exporters.abench",
    "agentperf-local": "traj.exporters.agentperf_local",
    "aiperf-baseten": "traj.exporters.aiperf_baseten",
    "aiperf-dag": "traj.exporters.aiperf_dag",
    "aiperf-mooncake": "traj.exporters.aiperf_mooncake",
    "atif": "traj.exporters.atif",
    "dynamo-agentic": "traj.exporters.dynamo_agentic",
    "dynamo-mooncake": "traj.exporters.dynamo_mooncake",
    "guidellm-graph": "traj.exporters.guidellm_graph",
    "hub-traces": "traj.exporters.hub_traces",
    "inference-perf": "traj.exporters.inference_perf",
    "mlperf-endpoints": "traj.exporters.mlperf_endpoints",
    "openai-jsonl": "traj.exporters.openai_jsonl",
    "otel": "traj.exporters.otel",
    "parquet": "traj.exporters.parquet",
    "sglang-agentic": "traj.exporters.sglang_agentic",
    "vllm-multi-turn": "traj.exporters.vllm_multi_turn",
    "vllm-timed-trace": "traj.exporters.vllm_timed_trace",
    "weka": "traj.exporters.weka",
}
VERSION = "1.1"
REPORT = "export.json"


ASPECTS = {  # what a target may carry of a load
    "text": "messages as recorded",
    "lengths": "lengths in place of text",
    "hashes": "which blocks of tokens requests share",
    "delays": "tool times and other waiting",
    "tools": "tool definitions and tool calls",
    "sub_agents": "sub-agents beside their parent",
    "output_length": "answers as long as recorded",
}
PROOFS = {  # how it is known that a target's files are right
    "replayed": "the real harness replays them in a test, and what arrived is compared",
    "loaded": "the harness's own loader or model reads them in a test",
    "read": "written by the harness's documentation or source: never run here",
}


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What export.json says. Counts, percentiles and losses are those of one phase: each has the
    same, prefixes aside. `cache` is what `traj.workload.cache_simulation` found in the files."""

    version: str
    target: str
    harness: str
    options: dict[str, Any]
    dataset: dict[str, Any]
    counts: dict[str, int]
    percentiles: dict[str, dict[str, float]]
    ideal_hit_rate: float | None
    uncut_hit_rate: float | None
    cache: CacheHits | None
    tool_time: ToolTimeReport | None
    losses: tuple[dict[str, Any], ...]
    phases: tuple[dict[str, Any], ...]
    files: tuple[dict[str, Any], ...]
    command: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        found = asdict(self)
        found["cache"] = None if self.cache is None else self.cache.to_dict()
        return found

    def to_json(self) -> bytes:
        import orjson

        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        return orjson.dumps(self.to_dict(), option=options)


class Exporter(Protocol):
    """What a target's module offers.

    Where it has `TAKES`, only those options mean something to it (an archive keeps the record as it
    is); where `WHOLE_ROWS` is true its plays come with all columns of the dataset.
    """

    NAME: str
    SUMMARY: str
    HARNESS: str  # and its version
    PROOF: str  # of PROOFS
    TEXT: bool  # whether it needs the text of prompts
    CARRIES: tuple[str, ...]  # of ASPECTS
    DROPS: Mapping[str, str]  # kinds of loss of its own, with the reason

    def command(self, tally: Tally, options: LoadOptions) -> str:
        """What replays a phase's files, in their folder, with URL, MODEL and TOKENIZER set."""
        ...

    def write(self, phase: Phase, out: Path) -> Tally: ...

    # One that an engine is sent has `prompts` too, and `read` where it has text: see read_back.


def exporter(target: str) -> Exporter:
    """The module of a target.

    Raises UsageError naming the known targets.
    """
    try:
        module = TARGETS[target]
    except KeyError:
        known = ", ".join(sorted(TARGETS))
        raise UsageError(f"unknown export target {target!r}: known are {known}") from None
    return cast("Exporter", importlib.import_module(module))


def describe() -> list[dict[str, Any]]:
    """The targets, as data: what each carries and what it drops."""
    modules = [exporter(target) for target in sorted(TARGETS)]
    return [
        {
            "target": module.NAME,
            "summary": module.SUMMARY,
            "harness": module.HARNESS,
            "proof": module.PROOF,
            "carries": list(module.CARRIES),
            "drops": dict(module.DROPS),
        }
        for module in modules
    ]


def export(
    dataset: Dataset,
    target: str,
    out: Path,
    options: LoadOptions | None = None,
    *,
    overwrite: bool = False,
) -> ExportReport:
    """Writes the target's files and export.json to the folder `out`; with several phases, each
    phase's files in a folder of its own.

    With `overwrite` an earlier export there is replaced. Raises UsageError for an unknown target,
    options that it does not take, or a folder that is in use, DatasetError for a dataset that
    cannot be read.
    """
    options = options or LoadOptions()
    module = exporter(target)
    _check_taken(module, options)
    out = Path(out)
    _check_free(out, overwrite)
    whole_rows = getattr(module, "WHOLE_ROWS", False)
    load = Load(dataset, options, text=module.TEXT, whole_rows=whole_rows, archive=_archive(module))
    # Beside the goal, so that the last step is a rename within one file system.
    unfinished = out.parent / f".{out.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        tallies = []
        for number in range(options.phases):
            folder = unfinished / _folder(number, options)
            folder.mkdir(exist_ok=True)
            tallies.append(module.write(Phase(load, number), folder))
        report = _report(load, module, tallies, unfinished)
        (unfinished / REPORT).write_bytes(report.to_json())
        _put(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return report


def _folder(phase: int, options: LoadOptions) -> str:
    return f"phase-{phase:03d}" if options.phases > 1 else "."


def _check_taken(module: Exporter, options: LoadOptions) -> None:
    taken = getattr(module, "TAKES", None)
    if taken is None:  # a load: it takes all, but has no use for an archive's own
        taken = tuple(name for name in LoadOptions.__slots__ if name != "text_free")
    plain = LoadOptions()
    for name in LoadOptions.__slots__:
        if name not in taken and getattr(options, name) != getattr(plain, name):
            raise UsageError(f"{module.NAME} does not take --{name.replace('_', '-')}")


def _archive(module: Exporter) -> str | None:
    """The name of an archive that cannot be without the record's messages."""
    taken = getattr(module, "TAKES", None)
    return None if taken is None or "text_free" in taken else module.NAME


def _check_free(out: Path, overwrite: bool) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise UsageError(f"{out}: not a folder: choose another place for the export")
    if not any(out.iterdir()):
        return
    if not (out / REPORT).is_file():
        raise UsageError(f"{out}: holds something that is not an export: choose another folder")
    if not overwrite:
        raise UsageError(
            f"{out}: holds an earlier export: give --overwrite, or choose another folder"
        )


def _put(unfinished: Path, out: Path) -> None:
    """Moves the finished folder to its place; an earlier one goes aside first, then away."""
    old = out.parent / f".{out.name}.replaced"
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    try:
        unfinished.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _report(load: Load, module: Exporter, tallies: list[Tally], folder: Path) -> ExportReport:
    dataset, options, tally = load.dataset, load.options, tallies[0]
    folders = [_folder(number, options) for number in range(options.phases)]
    phases = [
        {"phase": number, "folder": name, "counts": one.counts()}
        for number, (name, one) in enumerate(zip(folders, tallies, strict=True))
    ]
    return ExportReport(
        version=VERSION,
        target=module.NAME,
        harness=module.HARNESS,
        options=asdict(options),
        dataset={
            "name": dataset.manifest.name,
            "version": dataset.manifest.version,
            "schema_version": dataset.manifest.schema_version,
            "tokenizer": dataset.manifest.tokenizer,
            "sha256": hashlib.sha256(dataset.manifest.to_json()).hexdigest(),
        },
        counts=tally.counts(),
        percentiles=tally.percentiles(),
        ideal_hit_rate=None if load.recounted else tally.ideal_hit_rate(),
        uncut_hit_rate=tally.uncut_hit_rate(),
        cache=_cache(load, module, [folder / name for name in folders]),
        tool_time=load.tool_time.report(),
        losses=tuple(tally.losses({**SENT, **FILLED, **TEXT, **module.DROPS})),
        phases=tuple(phases),
        files=tuple(_file(path, folder) for path in sorted(folder.rglob("*")) if path.is_file()),
        command=module.command(tally, options),
    )


def _cache(load: Load, module: Exporter, folders: list[Path]) -> CacheHits | None:
    """The cache simulation over the files; None for a target that no engine is sent."""
    prompts = getattr(module, "prompts", None)
    if prompts is None:
        return None
    tokenizer = load.tokenizer if module.TEXT else None
    read = getattr(module, "read", None)
    return read_back.hits(prompts, read, folders, tokenizer)


def _file(path: Path, folder: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = path.relative_to(folder).as_posix()
    return {"name": name, "bytes": path.stat().st_size, "sha256": digest}
