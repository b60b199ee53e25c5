"""Archives read by the official packages of their formats, each in an environment of its own."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

import harness
import rows
from test_export_archives import rich
from traj.dataset import Dataset
from traj.exporters import export

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.harness

LIMIT_S = 120


@pytest.fixture(scope="module", params=["rich", "sample"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A dataset made by hand, and a recorded one."""
    if request.param == "sample":
        return request.getfixturevalue("sample")
    return Dataset.open(rows.write(tmp_path_factory.mktemp("rich") / "dataset", rich()))


def run(commands: Path, script: str, *arguments: Path) -> str:
    """What a script prints that an environment's Python runs."""
    command = [str(commands / "python"), "-c", script, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


ATIF = """
import json, sys
from pathlib import Path
from atif import Trajectory

def check(document):
    below = {one.trajectory_id for one in document.subagent_trajectories or ()}
    for step in document.steps:
        for result in step.observation.results if step.observation else ():
            for reference in result.subagent_trajectory_ref or ():
                assert reference.trajectory_id in below, reference
    return 1 + sum(map(check, document.subagent_trajectories or ()))

found = 0
for path in Path(sys.argv[1]).iterdir():
    document = Trajectory.model_validate_json(path.read_bytes(), strict=True)
    found += check(document)
    assert document.to_json_dict(exclude_none=False) == Trajectory.model_validate(
        json.loads(path.read_bytes())
    ).to_json_dict(exclude_none=False)
    def dropped(given, held):
        if isinstance(given, dict):
            assert given.keys() <= held.keys(), given.keys() - held.keys()
            for key, value in given.items():
                dropped(value, held[key])
        elif isinstance(given, list):
            assert len(given) == len(held)
            for one, other in zip(given, held):
                dropped(one, other)
        else:
            assert given == held
    dropped(json.loads(path.read_bytes()), document.to_json_dict(exclude_none=False))
print(found)
"""


def test_atif_models_take_every_document(dataset: Dataset, tmp_path: Path) -> None:
    """atif's strict models, which know no other fields, hold each document as it was written, and
    every reference to a sub-agent leads to one below the document that has it."""
    commands = harness.environment("atif-1.8.0", "atif==1.8.0")
    report = export(dataset, "atif", tmp_path / "out")
    found = run(commands, ATIF, tmp_path / "out" / "trajectories")
    assert int(found) == report.counts["sessions"]


OTEL = """
import base64, json, sys
from pathlib import Path
from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData
from opentelemetry.semconv._incubating.attributes import (
    error_attributes, gen_ai_attributes, service_attributes,
)

named = {
    value
    for module in (error_attributes, gen_ai_attributes, service_attributes)
    for name, value in vars(module).items()
    if name.isupper() and isinstance(value, str)
}
operations = {one.value for one in gen_ai_attributes.GenAiOperationNameValues}
providers = {one.value for one in gen_ai_attributes.GenAiProviderNameValues}

def base64_ids(value):
    '''Ids as plain protobuf JSON has them, where the protocol's own has hexadecimal ones; no empty
    lists, and no times of 0.'''
    if isinstance(value, list):
        return [base64_ids(one) for one in value]
    if not isinstance(value, dict):
        return value
    ids = ("traceId", "spanId", "parentSpanId")
    return {
        key: base64.b64encode(bytes.fromhex(one)).decode() if key in ids else base64_ids(one)
        for key, one in value.items()
        if one != [] and not (key.endswith("UnixNano") and one == "0")
    }

spans = 0
for path in Path(sys.argv[1]).iterdir():
    (line,) = path.read_text().splitlines()
    given = base64_ids(json.loads(line))
    trace = json_format.ParseDict(given, TracesData())  # refuses unknown fields
    back = json_format.MessageToDict(trace, use_integers_for_enums=True)
    assert back == given, path
    for resource in trace.resource_spans:
        keys = [one.key for one in resource.resource.attributes]
        for span in resource.scope_spans[0].spans:
            spans += 1
            assert (len(span.trace_id), len(span.span_id)) == (16, 8)
            assert 0 < span.end_time_unix_nano >= span.start_time_unix_nano or not any(
                one.key == "traj.started_at" for one in resource.resource.attributes
            )
            values = {one.key: one.value for one in span.attributes}
            assert len(values) == len(span.attributes)
            keys += values
            operation = values["gen_ai.operation.name"].string_value
            assert operation in operations
            client = operation == "chat"
            assert span.kind == (Span.SPAN_KIND_CLIENT if client else Span.SPAN_KIND_INTERNAL)
            if "gen_ai.provider.name" in values:
                assert values["gen_ai.provider.name"].string_value in providers
        assert all(key in named or key.startswith("traj.") for key in keys), keys
print(spans)
"""


def test_otel_messages_take_every_trace(dataset: Dataset, tmp_path: Path) -> None:
    """OpenTelemetry's protobuf messages hold each trace as it was written, and every attribute that
    is not traj's own is one of the semantic conventions."""
    versions = "opentelemetry-proto==1.45.2 opentelemetry-semantic-conventions==0.66b2"
    commands = harness.environment("otel-1.45.2-0.66b2", versions)
    export(dataset, "otel", tmp_path / "out")
    found = run(commands, OTEL, tmp_path / "out" / "traces")
    spans = len(dataset.table("turns")) + len(dataset.table("tool_calls"))
    assert int(found) > spans


OPENAI = """
import json, sys
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from pydantic import TypeAdapter

messages = TypeAdapter(list[ChatCompletionMessageParam])
tools = TypeAdapter(list[ChatCompletionFunctionToolParam])
found = 0
for line in open(sys.argv[1], encoding="utf-8"):
    given = json.loads(line)
    held = [
        {key: list(one) if key == "tool_calls" else one for key, one in message.items()}
        for message in messages.validate_python(given["messages"])
    ]
    assert held == given["messages"]  # the types drop what they do not know
    assert given["messages"][-1]["role"] == "assistant"
    if "tools" in given:
        assert given["tools"]
        assert tools.validate_python(given["tools"]) == given["tools"]
    found += 1
print(found)
"""


def test_openai_types_take_every_line(dataset: Dataset, tmp_path: Path) -> None:
    """OpenAI's own types for messages and tools hold each line as it was written; an assistant has
    the last word."""
    commands = harness.environment("openai-3.54.0", "openai==3.54.0")
    report = export(dataset, "openai-jsonl", tmp_path / "out")
    found = run(commands, OPENAI, tmp_path / "out" / "conversations.jsonl")
    assert int(found) == report.counts["sessions"]


HUB = """
import json, sys
import datasets

loaded = datasets.load_dataset("json", data_files=sys.argv[1] + "/*.jsonl", split="train",
                               cache_dir=sys.argv[2])
names = ("session_id", "prompt", "num_user_messages", "trace")
print(json.dumps([{name: row[name] for name in names} for row in loaded]))
"""


def test_datasets_takes_hub_traces_for_agent_traces(
    sample: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` takes the files for agent traces without being told: a row each, with the id of
    the session, its first prompt, and the whole trace."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    versions = "datasets==5.2.0 teich==0.3.6"
    commands = harness.environment("datasets-5.2.0-teich-0.3.6", versions)
    report = export(sample, "hub-traces", tmp_path / "out")
    folder = tmp_path / "out" / "traces"
    found = {row["session_id"]: row for row in json.loads(run(commands, HUB, folder, tmp_path))}
    assert len(found) == report.counts["sessions"] == len(list(folder.iterdir()))
    for session_id, row in found.items():
        text = (folder / f"{session_id}.jsonl").read_text()
        messages = [line.get("message", {}) for line in map(json.loads, text.splitlines())]
        said = [one["content"] for one in messages if one.get("role") == "user"]
        assert row["num_user_messages"] == len(said)
        assert row["prompt"] == (said[0] if said else None)
        assert row["trace"] == text
