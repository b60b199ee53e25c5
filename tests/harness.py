"""Real replay harnesses, each in an environment of its own, and the mock engine that they meet.

Environments lie below `.venvs` and are made once; nothing else needs a network. What the engine
received is what tests compare with the dataset's rows, not what an exporter wrote.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "mock"
TOKENIZER = "traj/tok"
REVISION = "0" * 40
# pip's words when no registry answers.
NO_NETWORK = re.compile(r"connection|resolution|timed out|unreachable|proxy", re.IGNORECASE)
LIMIT_S = 240


def environment(name: str, *pip_installs: str) -> Path:
    """The folder of an environment's commands. Each of `pip_installs` is one call's arguments;
    `name` holds the versions, since a finished environment is not looked at again.
    """
    home = ROOT / ".venvs" / name
    done = home / "installed"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        for arguments in pip_installs:
            pip = [str(home / "bin" / "pip"), "install", "-q", *arguments.split()]
            result = subprocess.run(pip, capture_output=True, text=True, check=False)
            if result.returncode and NO_NETWORK.search(result.stderr):
                pytest.skip(f"{name} cannot be installed: {result.stderr.strip()}")
            assert result.returncode == 0, result.stderr
        done.touch()
    return home / "bin"


def make_hub(home: Path) -> None:
    """A Hugging Face cache with one small tokenizer: harnesses find it there without a network."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    sources = sorted(Path(os.__file__).parent.glob("*.py"))[:60]
    tokenizer.train_from_iterator((path.read_text() for path in sources), trainer)
    folder = snapshot(home)
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    references = folder.parent.parent / "refs"
    references.mkdir()
    (references / "main").write_text(REVISION)


def snapshot(hub: Path) -> Path:
    """The folder of the tokenizer's files, for harnesses that want a path."""
    return hub / "hub" / f"models--{TOKENIZER.replace('/', '--')}" / "snapshots" / REVISION


def variables(url: str, hub: Path, commands: Path) -> dict[str, str]:
    """The environment in which an export's command runs."""
    return {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "URL": url,
        "MODEL": MODEL,
        "TOKENIZER": TOKENIZER,
        "HF_HOME": str(hub),
        "HF_HUB_OFFLINE": "1",
    }


def run(command: str, folder: Path, environment: dict[str, str], limit_s: float = LIMIT_S) -> str:
    """Runs a command that starts processes of its own: one that hangs is ended with all of them."""
    with subprocess.Popen(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"no end after {limit_s} s: {process.communicate()[0][-5000:]}")
    assert process.returncode == 0, output[-5000:]
    return output


@dataclass(frozen=True)
class Engine:
    """A running mock engine."""

    url: str

    def log(self) -> list[dict[str, Any]]:
        """What it received, in order of arrival."""
        with urllib.request.urlopen(f"{self.url}/log") as response:
            return sorted(json.load(response), key=lambda entry: entry["arrived"])

    def forget(self) -> None:
        """Empties its cache and its memory."""
        request = urllib.request.Request(f"{self.url}/forget", method="POST")
        urllib.request.urlopen(request).close()


@contextmanager
def engine(hub: Path) -> Iterator[Engine]:
    """The mock engine, on a free port, with the hub's tokenizer."""
    script = [sys.executable, str(Path(__file__).parent / "mock_engine.py")]
    tokenizer = ["--tokenizer", str(snapshot(hub) / "tokenizer.json")]
    with subprocess.Popen([*script, *tokenizer], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Engine(f"http://127.0.0.1:{process.stdout.readline().strip()}")
        finally:
            process.terminate()
