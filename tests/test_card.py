"""The dataset card: YAML that the Hub's own classes read, figures that DuckDB computes again,
pictures, Croissant that mlcroissant reads; and nothing from a log that could break out of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import fleet
import harness
import rows
from traj import schema
from traj.dataset import Dataset
from traj.errors import MissingExtraError, UsageError
from traj.exporters import export
from traj.publish.card import Names, markup, pages
from traj.publish.card.readme import SHEETS
from traj.release import public_manifest, split

ROOT = "hf://datasets/org/agents@1.0.0"
EVIL = (
    "</code><script>alert(1)</script>",
    "a | b | c",
    "`` ` ```\n# heading\n---\n",
    "[click](https://evil.invalid) ![x](https://evil.invalid/x.png)",
    "https://evil.invalid www.evil.invalid <https://evil.invalid>",
    "\x1b[31mred\x07\u202egnp.exe\u2028",
    "$\\frac{1}{0}$ **bold** _it_ &lt;b&gt; {{ x }}",
    "---\nlicense: mit\n---",
    "x" * 3000,
    "",
)


def names_of(dataset: Dataset, **over: Any) -> Names:
    """Names under which all of a dataset's files are published as they are."""
    files: dict[str, dict[str, list[str]]] = {}
    for table in ("turns", *(name for name in schema.TABLES if name != "turns")):
        for file in dataset.files(table):
            files.setdefault(table, {}).setdefault(file.split, []).append(file.path)
    known = {"repo_id": "org/agents", "private_repo_id": None, "version": "1.0.0"}
    return Names(**(known | {"traces": False, "files": files} | over))


def laid_out(dataset: Dataset, found: dict[str, bytes], folder: Path) -> Path:
    """The repository as it would be: the card's pages and the data files."""
    for name, data in found.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    for file in dataset.manifest.files:
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.path).write_bytes((dataset.path / file.path).read_bytes())
    return folder


def written(folder: Path, tables: rows.Tables, **manifest: Any) -> Dataset:
    return Dataset.open(rows.write(folder, tables, **manifest))


def text_of(found: dict[str, bytes]) -> str:
    """The card's Markdown, without its YAML."""
    return found["README.md"].decode().split("\n---\n", 1)[1]


def blocks(text: str, language: str) -> list[str]:
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    return [one.content for one in tokens if one.type == "fence" and one.info == language]


def tables_in(text: str) -> Iterator[list[list[str]]]:
    """Every table of a page, as rows of cells, by a Markdown parser."""
    parser = MarkdownIt("gfm-like", {"linkify": False})
    found: list[list[str]] = []
    for token in parser.parse(text):
        if token.type == "table_open":
            found = []
        elif token.type == "tr_open":
            found.append([])
        elif token.type == "inline" and found is not None and token.level >= 3 and found:
            found[-1].append(token.content)
        elif token.type == "table_close":
            yield found
            found = []


@pytest.fixture(scope="module")
def card(sample: Dataset) -> dict[str, bytes]:
    return pages(sample, names_of(sample))


@pytest.fixture(scope="module")
def repository(
    sample: Dataset, card: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The sample as it would lie on the Hub."""
    return laid_out(sample, card, tmp_path_factory.mktemp("card") / "agents")


def duckdb_over(text: str, folder: Path) -> Any:
    """DuckDB with the views that the card defines, over local files."""
    import duckdb

    connection = duckdb.connect()
    for line in blocks(text, "sql")[0].splitlines():
        if line.startswith("create view"):
            connection.execute(line.replace(ROOT, str(folder)))
    return connection


def test_the_hubs_own_class_reads_the_yaml(sample: Dataset, card: dict[str, bytes]) -> None:
    """huggingface_hub's DatasetCard finds configs, the default, tags and a licence in the card."""
    from huggingface_hub import DatasetCard

    data = DatasetCard(card["README.md"].decode()).data
    configs = {one["config_name"]: one for one in data["configs"]}
    assert configs.keys() == set(schema.TABLES)
    assert [name for name, one in configs.items() if one.get("default")] == ["turns"]
    assert configs["turns"]["data_files"] == [
        {"split": "unsplit", "path": "data/turns/unsplit-*.parquet"}
    ]
    assert data.pretty_name == "agents"
    assert data.license == "other"
    assert data.license_name
    assert data.size_categories == ["n<1K"]
    assert "format:agent-traces" not in data["tags"]


def test_datasets_finds_features_and_counts_in_the_yaml(
    sample: Dataset, card: dict[str, bytes]
) -> None:
    """`datasets` reads from the YAML the schema's very types, and each split's number of rows."""
    from datasets import Features
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCard

    infos = DatasetInfosDict.from_dataset_card_data(DatasetCard(card["README.md"].decode()).data)
    assert infos.keys() == set(schema.TABLES)
    for name, info in infos.items():
        assert info.features == Features.from_arrow_schema(schema.arrow(name))
        wanted = {file.split: 0 for file in sample.files(name)}
        for file in sample.files(name):
            wanted[file.split] += pq.read_metadata(sample.path / file.path).num_rows
        assert {one: info.splits[one].num_examples for one in info.splits} == wanted


def test_every_figure_is_what_duckdb_computes_by_the_line_in_the_card(
    card: dict[str, bytes], repository: Path
) -> None:
    """Each query that the card prints gives, in another engine, exactly the cells that it shows."""
    text = text_of(card)
    connection = duckdb_over(text, repository)
    printed = re.findall(r"^-- (.+)\n(.+);$", blocks(text, "sql")[0], re.MULTILINE)
    figures = {figure.label: figure for sheet in SHEETS for figure in sheet.figures}
    assert [label for label, _ in printed] == list(figures)
    shown = {tuple(row[: len(row)]) for table in tables_in(text) for row in table}
    seen = 0
    for sheet in SHEETS:
        for figure in sheet.figures:
            query = dict(printed)[figure.label]
            for row in connection.execute(query).fetchall():
                cells = [read(cell) for read, cell in zip(figure.cells, row, strict=True)]
                whole = [*([figure.label] if sheet.named else []), *cells]
                whole += [figure.note] if sheet.noted else []
                assert tuple(whole) in shown, (figure.label, whole)
                seen += 1
    assert seen > 50


def test_figures_are_those_of_a_plain_count(sample: Dataset, card: dict[str, bytes]) -> None:
    """Sums, percentiles, means and shares in the card are those that loops over the rows give."""
    turns = sample.table("turns").to_pylist()
    calls = sample.table("tool_calls").to_pylist()
    heads = sample.table("trajectories").to_pylist()

    def cells(values: list[int | None], read: Any) -> list[str]:
        known = sorted(value for value in values if value is not None)
        ranks = [known[max(0, -(-len(known) * cut // 100) - 1)] for cut in (5, 50, 95)]
        shown = [read(value) for value in (*ranks, known[-1], mean(known))]
        return [*shown, markup.share(len(known) / len(values))]

    cards = list(tables_in(text_of(card)))
    rows_by_label = {row[0]: row for table in cards if "is" in table[0] for row in table[1:]}
    (tools,) = (table for table in cards if table[0][0] == "category")
    rows_by_category = {row[0]: row for row in tools[1:]}
    for name in ("input_tokens", "cached_tokens", "output_tokens"):
        row = rows_by_label[name.replace("_", " ")]
        assert row[1:7] == cells([turn[name] for turn in turns], markup.count)
    delays = cells([turn["delay_us"] for turn in turns], markup.span)
    assert rows_by_label["time before a turn"][1:7] == delays
    assert rows_by_label["trajectories"][1] == f"{len(heads):,}"
    assert rows_by_label["tool calls"][1] == f"{len(calls):,}"
    lanes = {(turn["trajectory_id"], turn["lane"]) for turn in turns}
    assert rows_by_label["lanes"][1] == f"{len(lanes):,}"
    both = [t for t in turns if None not in (t["input_tokens"], t["cached_tokens"])]
    logged = sum(t["cached_tokens"] for t in both) / sum(t["input_tokens"] for t in both)
    assert rows_by_label["cached share, as logged"][1] == markup.share(logged)
    for category in {call["category"] for call in calls}:
        own = [call for call in calls if call["category"] == category]
        took = [
            None
            if None in (one["start_us"], one["end_us"])
            else one["end_us"] - one["start_us"] - (one["permission_us"] or 0)
            for one in own
        ]
        row = rows_by_category[f"`{category}`"]
        spread = cells(took, markup.span)
        assert row[1:7] == [f"{len(own):,}", spread[5], *spread[:4]]


@pytest.mark.filterwarnings("ignore")
def test_datasets_loads_every_config_of_the_folder(
    sample: Dataset, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """load_dataset, its checks of counts and types on, gives every config's rows as they are."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset

    assert load_dataset(str(repository), cache_dir=str(tmp_path))["unsplit"].num_rows == sum(
        file.rows for file in sample.files("turns")
    )
    for name in schema.TABLES:
        found = load_dataset(str(repository), name, split="unsplit", cache_dir=str(tmp_path))
        wanted = sample.table(name)
        assert found.with_format("arrow")[:].cast(wanted.schema).equals(wanted)


@pytest.mark.filterwarnings("ignore")
def test_datasets_gives_nulls_for_columns_that_a_file_lacks(
    sample: Dataset, card: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of an older version, without a nullable column, loads with nulls in its place."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset

    folder = laid_out(sample, card, tmp_path / "agents")
    (file,) = folder.glob("data/turns/*.parquet")
    pq.write_table(pq.read_table(file).drop_columns(["user_us"]), file)
    found = load_dataset(str(folder), "turns", split="unsplit", cache_dir=str(tmp_path / "cache"))
    assert found["user_us"][:] == [None] * found.num_rows
    assert found["tool_us"][:] == sample.table("turns")["tool_us"].to_pylist()


TRACES = """
import datasets
kept = dict(cache_dir={cache!r})
turns = datasets.load_dataset({folder!r}, "turns", **kept)["public"]
{code}
print(turns.num_rows, traces.num_rows)
"""


@pytest.mark.harness
def test_datasets_loads_traces_by_the_line_in_the_card(
    sample: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the trace viewer's files the card has one more config and the tag that the Hub looks
    for; the tables load as before, and the traces, a row a file, by the line in the card."""
    from huggingface_hub import DatasetCard

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    export(sample, "hub-traces", tmp_path / "out")
    traces = sorted((tmp_path / "out" / "traces").iterdir())
    paths = [f"traces/{path.name}" for path in traces]
    known = names_of(sample).files
    files = {config: {"public": splits["unsplit"]} for config, splits in known.items()}
    names = names_of(sample, traces=True, files={**files, "traces": {"public": paths}})
    found = pages(sample, names)
    data = DatasetCard(found["README.md"].decode()).data
    (config,) = (one for one in data["configs"] if one["config_name"] == "traces")
    assert config["data_files"] == [{"split": "public", "path": "traces/*.jsonl"}]
    # datasets takes one builder for all configs: the first one's.
    assert data["configs"][0]["data_files"][0]["path"].endswith(".parquet")
    assert "format:agent-traces" in data["tags"]
    more = {f"traces/{path.name}": path.read_bytes() for path in traces}
    folder = laid_out(sample, found | more, tmp_path / "agents")
    (code,) = (one for one in blocks(text_of(found), "python") if "traces" in one)
    code = code.replace(ROOT, str(folder)).replace('split="public"', 'split="public", **kept')
    versions = "datasets==5.2.0 teich==0.3.6"
    commands = harness.environment("datasets-5.2.0-teich-0.3.6", versions)
    script = TRACES.format(folder=str(folder), code=code, cache=str(tmp_path / "cache"))
    command = [str(commands / "python"), "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    turns = sum(file.rows for file in sample.files("turns"))
    assert done.stdout.split() == [str(turns), str(len(paths))]


@pytest.mark.filterwarnings("ignore")
def test_the_code_in_the_card_runs(
    sample: Dataset, card: dict[str, bytes], repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The polars and DuckDB examples run over the files, and the prompt that is put together is
    the longest turn's."""
    import duckdb

    text = text_of(card)
    assert "nowhere" not in text
    spaces: list[dict[str, Any]] = []
    for block in blocks(text, "python"):
        if ROOT in block:
            spaces.append({})
            exec(block.replace(ROOT, str(repository)), spaces[-1])
    assert len(spaces) == 2
    assert "tokens_from" in capsys.readouterr().out
    query = blocks(text, "sql")[1].replace(ROOT, str(repository))
    assert {row[0] for row in duckdb.sql(query).fetchall()} >= {"main"}
    turns = sample.table("turns").to_pylist()
    longest = max(turns, key=lambda turn: turn["input_tokens"] or 0)
    numbers = [n for one in longest["input"] for n in range(one["start"], one["stop"])]
    assert spaces[1]["prompt"]["message"].to_list() == numbers


def test_no_text_of_a_session_is_in_the_card(sample: Dataset, card: dict[str, bytes]) -> None:
    """Titles, prompts, answers, file names and session ids stay out of every page."""
    whole = b"\n".join(data for name, data in card.items() if not name.endswith(".png")).decode()
    for head in sample.table("trajectories").to_pylist():
        secret = [head["trajectory_id"], head["source"]["session_id"]]
        secret += [file["name"] for file in head["source"]["files"]]
        secret += [head["task"]["title"]] if head["task"] and head["task"]["title"] else []
        assert not [text for text in secret if text in whole]
    for row in sample.table("messages", ["content"]).to_pylist():
        lines = (row["content"] or "").splitlines()
        assert not [line for line in lines if len(line) > 60 and line in whole]


def hostile() -> rows.Tables:
    """Two sessions of which every word that a log chooses is an attack."""
    tables = rows.small()
    for at, head in enumerate(tables["trajectories"]):
        other = {"host": EVIL[at], "owner": EVIL[at + 1], "name": EVIL[at + 3], "url": EVIL[4]}
        known = {"commit": None, "branch": EVIL[0], "license": EVIL[at + 5]}
        head["repository"] = other | known | {"visibility": "unknown", "known_by": "log"}
        head["agent"] = {"name": EVIL[at], "version": EVIL[at + 2]}
        head["source"]["recorder_version"] = EVIL[at + 3]
        head["language"] = EVIL[6 + at]
        head["task"] = {"url": EVIL[3], "title": EVIL[0]}
        head["losses"] = [{"kind": f"item:{evil}", "count": 1} for evil in EVIL]
    for at, turn in enumerate(tables["turns"]):
        turn["model"] = EVIL[at % len(EVIL)]
        turn["lane_name"] = EVIL[0]
    for at, call in enumerate(tables["tool_calls"]):
        call["name"] = call["category"] = EVIL[at % len(EVIL)]
    return tables


def test_hostile_names_do_not_break_out(tmp_path: Path, card: dict[str, bytes]) -> None:
    """Names that are Markdown, HTML, YAML or escape codes change neither the card's structure nor
    its links, and every row of a table has its cells."""
    from huggingface_hub import DatasetCard

    tables = hostile()
    for head, name in zip(tables["trajectories"], EVIL, strict=False):
        assert head["agent"]["name"] == name
    dataset = written(tmp_path, tables, name=EVIL[0], scrubbed=EVIL[2])
    found = pages(dataset, names_of(dataset))
    data = DatasetCard(found["README.md"].decode()).data
    assert data.license == "other"
    text = text_of(found)
    assert not [c for c in text if not c.isprintable() and c != "\n"]
    assert "evil.invalid" in text  # the names are there

    def structure(page: str) -> tuple[list[str], set[str], set[str]]:
        tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(page)
        heads = [
            inline.content
            for token, inline in pairwise(tokens)
            if token.type == "heading_open" and token.tag != "h1"
        ]
        inner = [one for token in tokens for one in token.children or ()]
        links = {str(one.attrs.get("href") or one.attrs.get("src")) for one in inner if one.attrs}
        html = {one.content for one in [*tokens, *inner] if one.type.startswith("html")}
        return heads, links, {re.sub(r"<summary>.*</summary>", "", one) for one in html}

    assert structure(text) == structure(text_of(card))
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        words = [one.content for one in token.children or () if one.type == "text"]
        assert not [word for word in words if "evil" in word or "<" in word or "`" in word]
    for table in tables_in(text):
        assert len({len(row) for row in table}) == 1
    assert b"evil" not in b"".join(found[name] for name in found if name.endswith(".png"))
    json.loads(found["croissant.json"])


@given(st.text(max_size=120))
def test_a_foreign_word_is_one_span_in_one_cell(word: str) -> None:
    """Whatever a word is, its table has one row of two cells, the first a code span or our own
    word for an empty one, and nothing else."""
    text = markup.table(("a", "b"), [(markup.code(word), "x")])
    (found,) = tables_in(text)
    assert [len(row) for row in found] == [2, 2]
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    (_, _, cell, last) = [token for token in tokens if token.type == "inline"]
    assert last.content == "x"
    kinds = [one.type for one in cell.children or ()]
    assert kinds == (["text"] if cell.content == "(empty)" else ["code_inline"])


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_a_share_never_reads_as_all_or_nothing(value: float) -> None:
    """What is more than nothing does not read 0, what is less than all does not read 100."""
    assert markup.share(value) not in ("0.0 %", "100.0 %")


def test_the_same_dataset_gives_the_same_bytes(sample: Dataset, card: dict[str, bytes]) -> None:
    """Pages, pictures included, depend on nothing but the dataset and the names, and do depend on
    those."""
    assert pages(sample, names_of(sample)) == card
    other = pages(sample, names_of(sample, version="1.0.1"))
    assert other["README.md"] != card["README.md"]
    assert other["plots/lengths.png"] == card["plots/lengths.png"]


def test_pictures_are_there_and_said_in_words(card: dict[str, bytes]) -> None:
    """Every picture that the card shows is a page beside it, opaque and of a size to read, and has
    its figures in its alternative text."""
    from PIL import Image

    shown = re.findall(r"^!\[(.+)\]\((.+)\)$", text_of(card), re.MULTILINE)
    assert [path for _, path in shown] == [path for path in card if path.endswith(".png")]
    assert len(shown) == 4
    for words, path in shown:
        assert re.search(r"\d", words)
        with Image.open(BytesIO(card[path])) as picture:
            assert picture.format == "PNG"
            assert picture.width == 1280
            assert not picture.info
            assert picture.convert("RGBA").getextrema()[3] == (255, 255)


@pytest.mark.filterwarnings("ignore")
def test_mlcroissant_reads_the_rows(sample: Dataset, repository: Path) -> None:
    """mlcroissant finds no fault in croissant.json, its hashes are those of the files, and by it
    every table's rows are read, structs and lists too."""
    import mlcroissant

    text = json.loads((repository / "croissant.json").read_bytes())
    found = mlcroissant.Dataset(jsonld=text, mapping={"repo": str(repository)})
    assert not found.metadata.ctx.issues.errors
    assert all("datePublished" in one for one in found.metadata.ctx.issues.warnings)
    hashes = {one.content_url: one.sha256 for one in found.metadata.file_objects if one.md5 is None}
    assert {file.path: file.sha256 for file in sample.manifest.files}.items() <= hashes.items()
    for name in schema.TABLES:
        records = list(found.records(name))
        wanted = sample.table(name).to_pylist()
        assert len(records) == len(wanted)
        for key in schema.table(name).key:
            values = [plain(record[f"{name}/{key}"]) for record in records]
            assert values == [row[key] for row in wanted]
    turn, row = next(iter(found.records("turns"))), sample.table("turns").slice(0, 1).to_pylist()[0]
    assert plain(turn["turns/input"]) == [
        {f"turns/input/{name}": value for name, value in one.items()} for one in row["input"]
    ]
    head = next(iter(found.records("trajectories")))
    own = sample.table("trajectories").slice(0, 1).to_pylist()[0]
    assert plain(head["trajectories/agent"]) == {
        f"trajectories/agent/{name}": value for name, value in own["agent"].items()
    }
    assert plain(head["trajectories/totals"])["trajectories/totals/turns"] == own["totals"]["turns"]


def plain(value: Any) -> Any:
    """A record's value without mlcroissant's bytes."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value


def test_the_public_card_commits_to_the_private_split_and_says_no_more(tmp_path: Path) -> None:
    """The card of the public part has root, counts and distances of the commitment and the public
    canary, and neither the private split in its YAML nor an id or name of it anywhere."""
    from huggingface_hub import DatasetCard

    home = rows.write(tmp_path / "all", fleet.fleet())
    assert split(home, fleet.options(tmp_path, private_out=tmp_path / "apart")).ok
    whole = Dataset.open(home)
    public = replace(whole, manifest=public_manifest(whole.manifest))
    found = pages(public, names_of(public, private_repo_id="org/agents-private"))
    text = found["README.md"].decode()
    commitment = public.manifest.commitment
    assert commitment["root"] in text
    found_tables = {tuple(table[0]): table[1:] for table in tables_in(text)}
    counts = [[f"`{name}`", f"{n:,}"] for name, n in commitment["counts"].items()]
    assert found_tables["table", "private rows"] == counts
    apart_by = [[f"`{name}`", f"{d:.3f}"] for name, d in sorted(commitment["distances"].items())]
    assert found_tables["column", "distance"] == apart_by
    assert f"canary {public.manifest.canary}" in text
    data = DatasetCard(text).data
    splits = {one["split"] for config in data["configs"] for one in config["data_files"]}
    assert splits == {"public"}
    apart = Dataset.open(tmp_path / "apart")
    pages_text = text + found["croissant.json"].decode()
    hidden = [row["repository"]["name"] for row in apart.table("trajectories").to_pylist()]
    hidden += [str(apart.manifest.canary), "org/agents-private"]
    hidden += [file.sha256 for file in apart.manifest.files]
    assert hidden
    assert not [one for one in hidden if re.search(rf"\b{re.escape(one)}\b", pages_text)]
    own = pages(apart, names_of(apart))["README.md"].decode()
    assert commitment["root"] in own
    assert "is kept back" not in own


def test_without_a_commitment_or_canary_the_card_has_no_such_part(card: dict[str, bytes]) -> None:
    """A dataset that was never split has neither section, not even empty."""
    assert "private split" not in text_of(card)
    assert "Canary" not in text_of(card)


@pytest.mark.parametrize(
    ("licences", "hub"),
    [
        (["MIT", "MIT"], "mit"),
        (["GPL-3.0-or-later", "GPL-3.0-or-later"], "gpl-3.0"),
        (["MIT", "Apache-2.0"], "other"),
        (["MIT OR Apache-2.0"] * 2, "other"),
        (["MIT", None], "other"),
    ],
)
def test_the_licence_is_the_one_that_all_share(
    licences: list[str | None], hub: str, tmp_path: Path
) -> None:
    """The Hub is told a licence where all repositories share one that it knows, else `other` with
    a link to the table; the table has every repository with its own."""
    from huggingface_hub import DatasetCard

    tables = rows.small()
    for number, (head, spdx) in enumerate(zip(tables["trajectories"], licences, strict=True)):
        head["repository"] = fleet.repository(f"github.com/owner/name{number}", license=spdx)
    dataset = written(tmp_path, tables)
    text = pages(dataset, names_of(dataset))["README.md"].decode()
    data = DatasetCard(text).data
    assert data.license == hub
    assert (data.get("license_link") is not None) == (hub == "other")
    shown = [row for table in tables_in(text) for row in table]
    for head, spdx in zip(tables["trajectories"], licences, strict=True):
        name = f"`github.com/owner/{head['repository']['name']}`"
        turns = str(head["totals"]["turns"])
        assert [name, f"`{spdx}`" if spdx else "unknown", "1", turns] in shown


def test_a_dataset_without_rows_has_a_card(tmp_path: Path) -> None:
    """With nothing to count every figure is unknown or 0, and the pictures are empty."""
    dataset = written(tmp_path, {name: [] for name in schema.TABLES})
    found = pages(dataset, names_of(dataset))
    assert "0 recorded sessions" in text_of(found)
    assert len(found) == 6


@pytest.mark.parametrize(
    "over",
    [
        {"repo_id": "org/agents'); drop"},
        {"repo_id": "agents"},
        {"version": "1.0 && rm"},
        {"version": ""},
    ],
)
def test_names_that_could_not_be_are_refused(sample: Dataset, over: dict[str, str]) -> None:
    """A repository or tag that the Hub could not have is a user's error, not a broken card."""
    with pytest.raises(UsageError, match="not a name"):
        pages(sample, names_of(sample, **over))


def test_a_split_that_the_hub_does_not_take_is_refused(sample: Dataset) -> None:
    """Split names follow the rule of `datasets`."""
    names = names_of(sample)
    files = {config: {"not-one": next(iter(s.values()))} for config, s in names.files.items()}
    with pytest.raises(UsageError, match="not-one"):
        pages(sample, replace(names, files=files))


def test_a_glob_stands_only_for_the_files_that_were_planned() -> None:
    """Files of one split are named by a glob that outlives a version; where a glob would take in
    others' files, they are named one by one."""
    files = {
        "turns": {
            "public": ["data/turns/public-00001-b.parquet", "data/turns/public-00000-a.parquet"]
        },
        "odd": {"x": ["data/odd/1.parquet"], "y": ["data/odd/2.parquet"]},
        "deep": {"public": ["deep/a.parquet"]},
        "deeper": {"public": ["deep/er/public-a.parquet"]},
    }
    names = Names("org/agents", None, "1", traces=False, files=files)
    assert names.patterns("turns", "public") == ["data/turns/public-*.parquet"]
    assert names.patterns("odd", "x") == ["data/odd/1.parquet"]
    assert names.patterns("deep", "public") == ["deep/*.parquet"]
    assert names.patterns("deeper", "public") == ["deep/er/public-*.parquet"]


@pytest.mark.parametrize("module", ["matplotlib", "datasets"])
def test_a_missing_extra_is_named(
    module: str, sample: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a library of the extra the error says what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"traj-toolkit\[hub\]"):
        pages(sample, names_of(sample))
