"""Renders the results as Markdown tables, for the terminal and for README.md.

    python -m benchmarks.results benchmarks/results/*.json

No figure is written by hand: every table comes from the JSON of a run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, columns aligned: the first to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = [
        "-" * width if column == 0 else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f}"


def machine_line(result: dict[str, Any]) -> str:
    """When and where."""
    load = ", ".join(f"{each:.1f}" for each in result["load_average"])
    return (
        f"Measured {result['measured_at']} on {result['cpu']}, {result['cores']} cores, "
        f"{result['system']}, Python {result['python']}; load average before: {load}."
    )


def record_tables(result: dict[str, Any]) -> str:
    """What `record.py` measured."""
    sections = [machine_line(result), f"Command: `{result['traj_command']}`"]
    renderers = {"speed": _speed, "size": _size, "growth": _growth, "memory": _memory}
    sections += [render(result[name]) for name, render in renderers.items() if name in result]
    return "\n\n".join(sections) + "\n"


def _corpus(built: dict[str, Any]) -> str:
    return (
        f"{_megabytes(built['bytes'])} MB {built['kind']} sessions, {built['files']} files, "
        f"{built['replicas']} replicas, longest line {_megabytes(built['largest_line_bytes'])} MB"
    )


def _speed(part: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{one['megabytes_per_s']:.1f}",
            f"{one['wall_s']:.2f}",
            f"{one['cpu_s']:.2f}",
            _megabytes(one["peak_bytes"]),
            len(one["runs"]),
        ]
        for name, one in (("orjson floor", part["floor"]), ("traj record", part["traj"]))
    ]
    header = ["", "MB/s", "wall s", "CPU s", "peak MB", "runs"]
    verdict = (
        f"traj / floor, median pair by pair: {part['wall_ratio']:.1f} wall, "
        f"{part['cpu_ratio']:.1f} CPU. Dataset / source: "
        f"{part['dataset_bytes'] / part['corpus']['bytes']:.3f}; it holds {part['turns']} turns."
    )
    return f"**Speed**: {_corpus(part['corpus'])}.\n\n{table(header, rows)}\n\n{verdict}"


def _size(part: dict[str, Any]) -> str:
    return (
        f"**Size**: {_corpus(part['corpus'])}. Dataset {_megabytes(part['dataset_bytes'])} MB, "
        f"dataset / source {part['ratio']:.3f}."
    )


def _growth(part: dict[str, Any]) -> str:
    rows = [
        [
            step["turns"],
            _megabytes(step["bytes"]),
            f"{step['wall_s']:.2f}",
            f"{step['cpu_s']:.2f}",
            f"{step['cpu_ms_per_further_turn']:.2f}" if "cpu_ms_per_further_turn" in step else "-",
            _megabytes(step["peak_bytes"]),
        ]
        for step in part["steps"]
    ]
    header = ["turns", "MB", "wall s", "CPU s", "CPU ms a further turn", "peak MB"]
    verdict = (
        f"A turn costs {part['ratio_per_turn']:.2f} times as much in the last step (linear: 1)."
    )
    return f"**Growth**: one generated session.\n\n{table(header, rows)}\n\n{verdict}"


def _memory(part: dict[str, Any]) -> str:
    run = part["traj"]
    return (
        f"**Memory**: {_corpus(part['corpus'])}. Peak {_megabytes(run['peak_bytes'])} MB, "
        f"{run['wall_s']:.1f} s wall."
    )


def peer_tables(result: dict[str, Any]) -> str:
    """What `peers.py` measured."""
    sections = [machine_line(result)]
    if "speed" in result:
        sections += [_peer_speed(part) for part in result["speed"]]
    if "accuracy" in result:
        sections.append(_peer_accuracy(result["accuracy"]))
    return "\n\n".join(sections) + "\n"


def _peer_speed(part: dict[str, Any]) -> str:
    rows = [
        [
            f"{name} {one['version']}",
            f"{one['megabytes_per_s']:.1f}" if "wall_s" in one else "failed",
            f"{one['wall_s']:.2f}" if "wall_s" in one else "-",
            f"{one['cpu_s']:.2f}" if "wall_s" in one else "-",
            _megabytes(one["peak_bytes"]) if "wall_s" in one else "-",
            f"{one['wall_ratio_to_traj']:.2f}" if "wall_ratio_to_traj" in one else "-",
            one["writes"],
        ]
        for name, one in part["tools"].items()
    ]
    header = ["tool", "MB/s", "wall s", "CPU s", "peak MB", "time / traj's", "writes"]
    about = f"one session of {_megabytes(part['bytes'])} MB, {part['turns']} turns"
    return f"**Speed**: {about}, {part['repeats']} runs in turn.\n\n{table(header, rows)}"


def _peer_accuracy(part: dict[str, Any]) -> str:
    rows = [[f"independent count of {part['sessions']} sessions", *_tokens(part["truth"]), ""]]
    for name, one in part["tools"].items():
        tokens = _tokens(one["tokens"], part["truth"]) if "tokens" in one else ["-"] * 5
        rows.append([f"{name} {one['version']}", *tokens, one["verdict"]])
    header = ["tool", "calls", "input", "cache read", "cache write", "output", "counts"]
    about = f"{part['files']} files, {_megabytes(part['bytes'])} MB of {part['kind']} sessions"
    return f"**Tokens**: {about}.\n\n{table(header, rows)}"


def _tokens(one: dict[str, Any], truth: dict[str, Any] | None = None) -> list[str]:
    names = ("calls", "prompt_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")
    return [_beside(one.get(name), truth[name] if truth else None) for name in names]


def _beside(value: int | None, true: int | None) -> str:
    """A count, and by how much it differs from the truth."""
    if value is None:
        return "not given"
    if not true or value == true:
        return str(value)
    return f"{value} ({(value - true) / true:+.2%})"


def export_tables(result: dict[str, Any]) -> str:
    """What `export.py` measured."""
    rows = [
        [
            one["options"],
            one["counts"]["trajectories"],
            one["counts"]["requests"],
            _megabytes(one["output_bytes"]),
            f"{one['traj']['wall_s']:.1f}",
            f"{one['traj']['megabytes_per_s']:.1f}",
            _megabytes(one["traj"]["peak_bytes"]),
            f"{one['wall_ratio']:.1f}",
        ]
        for one in result["exports"]
    ]
    header = ["options", "trajectories", "requests", "MB out", "wall s", "MB/s", "peak MB"]
    header.append("wall / floor's")
    command = f"Command: `{result['traj_command']}`"
    return "\n\n".join([machine_line(result), command, table(header, rows)]) + "\n"


def engine_tables(result: dict[str, Any]) -> str:
    """What `real_engine.py` found."""
    names = {
        "requests": "requests",
        "prompt_tokens": "prompt tokens, as the engine counts",
        "rendered_otherwise": "prompts that the engine counts otherwise",
        "cached_tokens": "cached tokens, as the engine says",
        "aiperf_cached_tokens": "cached tokens, as aiperf says",
        "predicted_tokens": "cached tokens, predicted with the engine's template",
        "predicted_otherwise": "requests whose cached tokens are not the predicted ones",
        "largest_difference": "largest difference in a request, tokens",
        "foreign_tokens": "cached tokens that were not the trajectory's own, of the phase",
    }
    phases = result["phases"]
    header = ["", *(f"phase {number}" for number in range(len(phases)))]
    rows = [[text, *(f"{phase[name]:,}" for phase in phases)] for name, text in names.items()]
    export = result["export_cache"]
    scopes = {
        "within": "found within trajectories",
        "across_trajectories": "across trajectories",
        "across_phases": "across phases",
    }
    rates = ", ".join(f"{export[name]['rate']:.2%} {text}" for name, text in scopes.items())
    rate = sum(one["cached_tokens"] for one in phases) / sum(one["prompt_tokens"] for one in phases)
    about = (
        f"vLLM {result['vllm']} on the CPU, blocks of {result['block_size']} tokens; aiperf "
        f"{result['aiperf']}.\nEngine: `{result['serve_command']}`.\n"
        f"Export: `{result['export_command']}`"
    )
    verdict = (
        f"Hit rate, as the engine says: {rate:.2%}. By `export.json`, which knows no template: "
        f"{rates}."
    )
    return "\n\n".join([machine_line(result), about, table(header, rows), verdict]) + "\n"


def scrub_tables(result: dict[str, Any]) -> str:
    """What `scrub.py` measured."""
    fast, found = result["speed"], result["recall"]
    contexts, planted = found["contexts"], found["planted"]
    rows = [[kind, *(counts[c] for c in contexts)] for kind, counts in found["gone"].items()]
    sums = [sum(int(row[place]) for row in rows) for place in range(1, len(contexts) + 1)]
    whole = planted * len(rows) * len(contexts)
    about = (
        f"{fast['megabytes_per_s']:.1f} MB/s of text: {fast['bytes'] / 1e6:.1f} MB, "
        f"{fast['distinct_bytes'] / 1e6:.1f} MB of it distinct, of {fast['sessions']} "
        f"{fast['kind']} sessions ({fast['source_bytes'] / 1e6:.1f} MB of logs) in "
        f"{fast['wall_s']:.2f} s, {fast['floor_ratio']:.1f} times kingfisher alone. "
        f"Start-up {fast['start_s']:.1f} s, with compiled rules kept "
        f"{fast['start_from_cache_s']:.1f} s."
    )
    return "\n\n".join(
        [
            machine_line(result),
            f"**Speed**: {about}",
            f"**Found**: {sum(sums)} of {whole} planted secrets ({sum(sums) / whole:.2%}).",
            table(["kind", *contexts], [*rows, ["all", *sums]]),
        ]
    )


def sources_tables(result: dict[str, Any]) -> str:
    """What `sources.py` found."""
    rows, lost = [], []
    for name, one in result["formats"].items():
        usage, turns = one["usage"], one["turns"]
        rows.append(
            [
                f"`{name}`",
                one["files"],
                one["sessions"],
                f"{one['bytes'] / 1e6:.2f}",
                turns,
                one["tool_calls"],
                _percent(usage.get("reported", 0), turns),
                _percent(usage.get("partial", 0), turns),
                _percent(turns - one["clocks"].get("none", 0), turns),
                _percent(one["timed_calls"], one["tool_calls"]),
                f"{one['timed_bytes'] / 1e3:.0f}",
                f"{one['read_megabytes_per_s']:.0f}",
                f"{one['build_megabytes_per_s']:.0f}",
            ]
        )
        kinds = ", ".join(f"{kind} {count}" for kind, count in one["losses"].items())
        lost.append(f"- `{name}`: {kinds or 'none'}")
    heads = ["format", "files", "sessions", "MB", "turns", "tool calls"]
    heads += ["usage whole", "partial", "turns timed", "calls timed"]
    heads += ["timed KB", "read MB/s", "with build"]
    refused = [[reason, count] for reason, count in result["refused"].items()]
    sections = [
        "What `traj record` finds in the corpus and captures beside the project, and its samples.",
        machine_line(result),
        table(heads, rows),
        "Losses, by kind (schema/README.md says what each means):",
        "\n".join(lost),
        "Files that were not taken, and why:",
        table(["reason", "files"], refused),
    ]
    grown = [
        [
            *(f"`{one['api']}`", one["requests"], f"{one['bytes'] / 1e6:.2f}", f"{one['s']:.2f}"),
            f"{one['bytes'] / one['s'] / 1e6:.0f}",
        ]
        for one in result.get("growth", ())
    ]
    if grown:
        sections += [
            "Live logs of one conversation, in which every request sends all of it again:",
            table(["API", "requests", "MB", "read s", "MB/s"], grown),
        ]
    return "\n\n".join(sections) + "\n"


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _own(module: str) -> Callable[[dict[str, Any]], str]:
    """The tables that a benchmark makes itself."""

    def tables(result: dict[str, Any]) -> str:
        made: str = import_module(f"benchmarks.{module}").tables(result)
        return made

    return tables


def replay_tables(result: dict[str, Any]) -> str:
    """What `replay.py` measured."""
    from benchmarks.replay_tables import tables

    return tables(result)


TABLES = {
    "replay": replay_tables,
    "engine": _own("engine"),
    "engine_beside_vllm": _own("engine_beside_vllm"),
    "proxy": _own("proxy"),
    "record": record_tables,
    "peers": peer_tables,
    "export": export_tables,
    "real_engine": engine_tables,
    "scrub": scrub_tables,
    "sources": sources_tables,
}


def render(path: Path) -> str:
    result = orjson.loads(path.read_bytes())
    tables = TABLES[result["benchmark"]]
    return f"### {path.stem}\n\n{tables(result)}"


def main() -> None:
    for name in sys.argv[1:]:
        print(render(Path(name)))


if __name__ == "__main__":
    main()
