"""`traj publish` against a stand-in Hub; huggingface_hub, datasets, polars and duckdb are real."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

import traj
from hub_double import TOKEN, Hub, serving
from released import relabelled, samples, set_apart
from traj.dataset import MANIFEST, Dataset, Manifest, write
from traj.dataset.fingerprint import by_split
from traj.dataset.write import shards_for
from traj.publish import PublishOptions, exposure, publication, publish
from traj.publish.plan import RepositoryPlan
from traj.release.commitment import ALGORITHM

pytest.importorskip("huggingface_hub")

PUBLIC, PRIVATE = "org/name", "org/name-private"
Plans = tuple[RepositoryPlan, ...]
CLIENTS = {"traj", "datasets", "datasets, streaming", "polars", "duckdb"}


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with my.traj, ready to be published, and private.traj, its private split."""
    folder = tmp_path_factory.mktemp("ready")
    set_apart(samples(folder))
    return folder


@pytest.fixture
def stand_in():
    with serving() as hub:
        yield hub


def variables(hub: Hub, home: Path, **over: str) -> dict[str, str]:
    """What a client is to find in its environment."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    own = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home / "hf")}
    return {**known, **own, "HF_TOKEN": TOKEN, "TMPDIR": str(home), **over}


def command(hub: Hub, home: Path, *words: object, **over: str) -> subprocess.CompletedProcess[str]:
    """One call of the command line, as JSON."""
    line = [sys.executable, "-m", "traj", "publish", *map(str, words), "--json"]
    environment = variables(hub, home, **over)
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
    assert TOKEN not in done.stdout + done.stderr
    return done


def published(hub: Hub, home: Path, *words: object, **over: str) -> dict:
    done = command(hub, home, *words, **over)
    report = json.loads(done.stdout or "{}")
    bad = [one for one in report.get("loaded", ()) if one["status"] not in ("same", "not_run")]
    assert done.returncode == 0, (bad, report.get("refusals"), done.stderr)
    return report


def both(folder: Path, version: str = "1.0.0") -> list[object]:
    words: list[object] = [folder / "my.traj", PUBLIC, "--version", version]
    return [*words, "--private-repo", PRIVATE, "--private-dataset", folder / "private.traj"]


def whole(tree: dict[str, bytes]) -> bool:
    """Whether a revision is a dataset with all files, or has none yet."""
    if MANIFEST not in tree:
        return set(tree) == {".gitattributes"}
    manifest = Manifest.from_json(tree[MANIFEST], MANIFEST)
    data = {path for path in tree if path.startswith("data/")}
    return data == {file.path for file in manifest.files}


# The whole path


def test_samples_become_a_public_and_a_private_repository(ready, stand_in, tmp_path):
    """From recorded sessions to two repositories that every client loads as they were; again, and
    nothing is sent."""
    report = published(stand_in, tmp_path, *both(ready), "--traces")
    assert report["ok"]
    read = [one for one in report["loaded"] if one["config"] != "traces"]
    assert {(one["client"], one["status"]) for one in read} == {(x, "same") for x in CLIENTS}
    assert all(one["rows"] == one["expected_rows"] > 0 for one in read)
    by_repo = {one["repo_id"] for one in report["loaded"]}
    assert by_repo == {PUBLIC, PRIVATE}
    public, private = stand_in.repos[PUBLIC], stand_in.repos[PRIVATE]
    assert (public.private, private.private) == (False, True)
    for plan, repo in zip(report["planned"], (private, public), strict=True):
        assert {path for path, _ in plan["files"]} == set(repo.tree()) - {".gitattributes"}
        assert repo.tags == {"1.0.0": repo.refs["main"]}
    assert all(map(whole, [public.tree(), private.tree()]))
    assert sum(path.startswith("traces/") for path in public.tree()) > 5
    shown = b"".join(public.tree().values())
    for row in Dataset.open(ready / "private.traj").table("trajectories").to_pylist():
        assert row["trajectory_id"].encode() not in shown
    # What anyone may read was read without a token, the rest with it.
    last = max(number for number, one in enumerate(stand_in.log) if "/tag/" in one.path)
    for name, token in ((PUBLIC, False), (PRIVATE, True)):
        reads = [one for one in stand_in.log[last + 1 :] if f"/{name}/" in one.path]
        assert len(reads) > 20
        assert {one.token for one in reads if "/cdn/" not in one.path} == {token}
    stand_in.forget()
    again = published(stand_in, tmp_path, *both(ready), "--traces", "--no-load-back")
    assert [one["unchanged"] for one in again["uploaded"]] == [True, True]
    assert not stand_in.writes()


def test_a_loaded_dataset_is_the_published_one(ready, stand_in, tmp_path):
    """traj.load("org/name") gives the rows and the manifest of the local folder's public part;
    a folder of that name goes before it."""
    with publisher(stand_in, tmp_path) as send:
        assert send(planned(ready, "2.0"))["code"] == 0
    copytree(ready / "my.traj", tmp_path / "org" / "name")
    code = """
import sys, os, traj
from traj import schema
from traj.dataset import Dataset
from traj.release import public_manifest
os.chdir(sys.argv[1])
found = traj.load("org/name", revision="2.0") if sys.argv[2] == "hub" else traj.load("org/name")
local = Dataset.open(sys.argv[3])
assert found.path.is_relative_to("org") == (sys.argv[2] != "hub"), found.path
paths = [file.path for file in public_manifest(local.manifest).files]
assert [file.path for file in found.manifest.files] == paths
for name in schema.TABLES:
    assert found.table(name).equals(local.table(name, split="public"))
print(found.manifest.version)
"""
    empty = tmp_path / "empty"
    empty.mkdir()
    for place, kind, version in ((empty, "hub", "2.0"), (tmp_path, "folder", "None")):
        line = [sys.executable, "-c", code, str(place), kind, str(ready / "my.traj")]
        environment = variables(stand_in, tmp_path)
        done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == version


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ('traj.load("org/none")', "no such dataset folder, and no such dataset on the Hugging"),
        ('traj.load("org/name", revision="9.9")', "has no revision '9.9'"),
        ('traj.load("no.traj")', "no such dataset folder"),
        ('traj.load(Path("org/none"))', "no such dataset folder"),
        ('traj.load("no.traj", revision="1")', "only a dataset on the Hugging Face Hub has"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(call, said, stand_in, tmp_path):
    """Unknown names and revisions; a Path never goes to the network."""
    create = 'HfApi().create_repo("org/name", repo_type="dataset", exist_ok=True)'
    code = f"""
import traj
from pathlib import Path
from huggingface_hub import HfApi
from traj.errors import TrajError
{create}
try:
    {call}
except TrajError as error:
    print(error)
"""
    line = [sys.executable, "-c", code]
    environment = variables(stand_in, tmp_path)
    done = subprocess.run(
        line, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert said in done.stdout, done.stderr
    assert len(done.stdout.splitlines()) == 1
    asked = sum("none" in one.path for one in stand_in.log)
    assert bool(asked) == (call == 'traj.load("org/none")')


@pytest.mark.parametrize("as_parquet", [False, True])
def test_an_encrypted_companion_is_read_with_its_key_alone(as_parquet, tmp_path, stand_in):
    """Every file of the private repository but its card is an age file, or encrypted Parquet; traj
    loads it back."""
    pyrage = pytest.importorskip("pyrage")
    key = pyrage.x25519.Identity.generate()
    identity = tmp_path / "age.txt"
    identity.write_text(str(key))
    home = samples(tmp_path)
    set_apart(
        home, encrypt_to=(str(key.to_public()),), identity=identity, parquet_encryption=as_parquet
    )
    report = published(stand_in, tmp_path, *both(tmp_path), "--identity", identity)
    own = [one for one in report["loaded"] if one["repo_id"] == PRIVATE]
    assert [(one["client"], one["status"]) for one in own] == [("traj", "same")]
    tree = stand_in.repos[PRIVATE].tree()
    endings = (".age", *([".parquet"] if as_parquet else []))
    opened = {path for path in tree if not path.endswith(endings)}
    assert opened == {".gitattributes", "README.md"}
    refused = command(stand_in, tmp_path, *both(tmp_path))
    assert refused.returncode == 2
    assert "TRAJ_IDENTITY" in refused.stderr


def test_a_dry_run_shows_everything_and_asks_nobody(ready, stand_in, tmp_path):
    """Files, bytes, tag of both repositories, without a token or a request."""
    report = published(stand_in, tmp_path, *both(ready), "--dry-run", HF_TOKEN="")
    assert not stand_in.log
    assert [one["tag"] for one in report["planned"]] == ["1.0.0", "1.0.0"]
    files = dict(report["planned"][1]["files"])
    manifest = Dataset.open(ready / "my.traj").manifest
    assert {one.path: one.bytes for one in manifest.files}.items() <= files.items()
    assert {"README.md", MANIFEST, "croissant.json"} <= files.keys()
    line = [sys.executable, "-m", "traj", "publish", *map(str, both(ready)), "--dry-run"]
    done = subprocess.run(
        line, capture_output=True, text=True, check=False, env=variables(stand_in, tmp_path)
    )
    assert f"{PUBLIC} (public), one commit, tag 1.0.0" in done.stdout
    assert "nothing was sent" in done.stdout


# Sending plans


@contextmanager
def publisher(hub: Hub, folder: Path, **over: str):
    """What sends plans in a fresh process: called, it gives how that ended."""
    line = [sys.executable, str(Path(__file__).with_name("publisher.py"))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    pipes |= {"env": variables(hub, folder, **over)}
    with subprocess.Popen(line, **pipes) as process:

        def send(plans: Plans, kill_at: int | None = None, when: str = "before") -> dict:
            file = folder / "plans.pickle"
            file.write_bytes(pickle.dumps(plans))
            process.stdin.write(f"{file}\n")
            pid = int(process.stdout.readline())
            if kill_at is not None:
                hub.fail_at(kill_at, when, lambda: os.kill(pid, signal.SIGKILL))
            process.stdin.write("go\n")
            result = json.loads(process.stdout.readline())
            hub.fail_at(None)
            return result

        yield send
        process.stdin.close()


def planned(folder: Path, version: str = "1.0.0", traces: Path | None = None) -> Plans:
    """The plans of both repositories; with trace files in a folder that is to stay."""
    options = PublishOptions(PUBLIC, PRIVATE, folder / "private.traj", traces=traces is not None)
    return publication.prepare(folder / "my.traj", options, version, traces or folder).plans


def test_a_version_stays_what_it_is(ready, stand_in, tmp_path):
    """Other content under a published version is refused before anything is sent; under a new one
    it replaces the files of the old, whose tag still leads to them."""
    with_traces = planned(ready, "1.0.0", tmp_path / "one")
    with publisher(stand_in, tmp_path) as send:
        assert send(planned(ready))["code"] == 0
        repo = stand_in.repos[PUBLIC]
        before = repo.tree()
        stand_in.forget()
        again = send(with_traces)
        assert again["code"] == 2
        assert "version 1.0.0 is published with other content" in again["told"]
        assert not stand_in.writes()
        done = send(planned(ready, "1.1.0", tmp_path / "two"))
        assert done["code"] == 0
        assert repo.tree("1.0.0") == before
        assert repo.tree("1.1.0") == repo.tree() != before
        assert not any(one.method == "PUT" for one in stand_in.log)
        assert not done["told"][1]["deleted"]
        gone = send(planned(ready, "1.2.0"))["told"][1]["deleted"]
        assert gone
        assert all(path.startswith("traces/") for path in gone)
        assert all(whole(repo.tree(commit)) for commit in repo.commits)
        old = send(planned(ready))
        assert [one["unchanged"] for one in old["told"]] == [True, True]
        assert repo.refs["main"] == repo.tags["1.2.0"]


def licence_added(hub: Hub) -> None:
    """Someone else's commit."""
    repo = hub.repos[PUBLIC]
    tree = repo.commits[repo.refs["main"]]
    repo.commit({**tree, "LICENSE": tree[".gitattributes"]})


def test_files_that_are_not_ours_stay(ready, stand_in, tmp_path):
    """A licence that someone put into the repository is left there, and said."""
    with publisher(stand_in, tmp_path) as send:
        send(planned(ready))
        licence_added(stand_in)
        told = send(planned(ready, "2"))["told"]
    assert "LICENSE" in stand_in.repos[PUBLIC].tree()
    assert [one["left"] for one in told] == [[], ["LICENSE"]]


def test_a_private_split_never_goes_into_a_public_repository(ready, stand_in, tmp_path):
    """A companion that is public is refused before anything is sent to either repository."""
    plans = planned(ready)
    (public,) = (plan for plan in plans if not plan.private)
    with publisher(stand_in, tmp_path) as send:
        elsewhere = replace(public, names=replace(public.names, repo_id=PRIVATE))
        assert send((elsewhere,))["code"] == 0
        stand_in.forget()
        answer = send(plans)
    assert answer["code"] == 2
    assert "is a public repository" in answer["told"]
    assert not stand_in.writes()


def state(hub: Hub) -> dict:
    """What a reader finds: trees, tags, who may see them."""
    return {
        name: (repo.private, repo.tree(), {tag: repo.tree(tag) for tag in repo.tags})
        for name, repo in hub.repos.items()
    }


def test_killed_at_any_request_and_run_again_it_ends_the_same(ready, stand_in, tmp_path):
    """SIGKILL at each request, when the Hub has carried it out and not answered yet, and before the
    first: no revision is ever half a dataset, nothing public is there before its private part, and
    the next run ends where an undisturbed one does."""
    plans = planned(ready)
    with publisher(stand_in, tmp_path) as send:
        assert send(plans)["code"] == 0
        wanted, requests = state(stand_in), len(stand_in.log)
        assert requests > 40
        for number, when in [(0, "before"), *((number, "after") for number in range(requests))]:
            stand_in.repos.clear()
            assert send(plans, number, when)["code"] == -signal.SIGKILL, number
            for repo in stand_in.repos.values():
                assert all(whole(repo.tree(commit)) for commit in repo.commits)
            if PUBLIC in stand_in.repos:
                assert "1.0.0" in stand_in.repos[PRIVATE].tags
            assert send(plans)["code"] == 0, number
            assert state(stand_in) == wanted, number


def test_a_cut_connection_is_one_line_and_can_be_taken_up_again(ready, stand_in, tmp_path):
    """The network fails at the first commit; the next run sends no large file again."""
    plans = planned(ready)
    with publisher(stand_in, tmp_path) as send:
        send(plans)
        at = next(n for n, one in enumerate(stand_in.log) if "/commit/" in one.path)
        stand_in.repos.clear()
        stand_in.forget()
        stand_in.cut_at = at
        failed = send(plans)
        assert failed["code"] == 1
        assert failed["told"].startswith(f"{PRIVATE}: the Hub cannot be reached")
        assert "\n" not in failed["told"]
        large = sum(one.method == "PUT" for one in stand_in.log)
        stand_in.cut_at = None
        assert send(plans)["code"] == 0
        again = sum(one.method == "PUT" for one in stand_in.log) - large
        assert large > 4
        assert again == sum(one.path.endswith((".parquet", ".png")) for one in plans[1].files)


def test_another_commit_in_between_is_not_overwritten(ready, stand_in, tmp_path):
    """A repository that changed while files were sent: one line, and the next run takes it in."""
    with publisher(stand_in, tmp_path) as send:
        send(planned(ready))
        stand_in.forget()
        send(planned(ready, "2"))
        at = max(n for n, one in enumerate(stand_in.log) if "preupload" in one.path)
        stand_in.forget()
        stand_in.between = at, lambda: licence_added(stand_in)
        failed = send(planned(ready, "3"))
        assert failed["code"] == 1
        assert "someone else committed meanwhile: run again" in failed["told"]
        stand_in.between = None
        assert send(planned(ready, "3"))["code"] == 0
    assert "LICENSE" in stand_in.repos[PUBLIC].tree("3")


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"HF_TOKEN": ""}, "no Hugging Face token: run `hf auth login`, or set HF_TOKEN"),
        ({"HF_TOKEN": "hf_" + "x" * 34}, "the Hub answered 401"),
        ({"HF_TOKEN": "odd\u00e9token"}, ""),
        ({"HF_ENDPOINT": "http://user:word@127.0.0.1:9"}, "the Hub cannot be reached"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
    ],
    ids=["no token", "wrong token", "odd token", "nobody there", "offline"],
)
def test_what_the_library_raises_is_one_line_without_the_token(
    over, said, ready, stand_in, tmp_path
):
    """Whatever goes wrong between here and the Hub."""
    with publisher(stand_in, tmp_path, **over) as send:
        done = send(planned(ready))
    assert done["code"] in (1, 2)
    assert said in done["told"]
    assert "\n" not in done["told"]
    for secret in (TOKEN, "odd\u00e9token", "user:word", "x" * 34):
        assert secret not in done["told"]
    assert not any(repo.commits for repo in stand_in.repos.values())


def many(folder: Path, count: int) -> Path:
    """A public dataset of so many sessions, each with 6 KB that nothing compresses."""
    import random

    import pyarrow as pa

    import rows
    from fleet import repository, session, together
    from traj.dataset import Span
    from traj.dataset.write import commit, in_order, prompts_of, write_prompts, write_shards

    if not (folder / "one").exists():
        one = together(session("one", repository("h/o/n"), turns=2, system="You work."))
        rows.write(folder / "one", one)
    model = Dataset.open(folder / "one")
    ((_, spans),) = model.spans()
    tables = {name: span.rows().to_pylist() for name, span in spans.items()}
    chunks = {name: [] for name in tables}
    names = sorted(rows.trajectory_id(str(number)) for number in range(count))
    for name in names:
        noise = random.Random(name).randbytes(3000).hex()
        for table, found in tables.items():
            fresh = [row | {"trajectory_id": name} for row in found]
            if table == "messages":
                fresh[0] |= {"content": noise}
            chunks[table] += [row | {"split": "public"} if "split" in row else row for row in fresh]
    whole_ = {
        name: pa.Table.from_pylist(found, spans[name].table.schema)
        for name, found in chunks.items()
    }
    sizes = {name: len(found) for name, found in tables.items()}
    out = folder / f"{count}.traj"
    out.mkdir()
    given = (
        (name, {x: Span(table, n * sizes[x], (n + 1) * sizes[x]) for x, table in whole_.items()})
        for n, name in enumerate(names)
    )
    shards = shards_for(count)
    files = write_shards(out, shards, "public", given)
    files.append(write_prompts(out, "public", prompts_of(model)))
    made = replace(model.manifest, files=in_order(files), shards=shards)
    commit(out, replace(made, splits=by_split(Dataset(out, made))))
    return out


def test_one_more_trajectory_is_less_than_a_tenth_of_the_bytes(stand_in, tmp_path):
    """A second publication sends the shard that the new trajectory lies in and the pages, without
    the help of Xet, which would send less still."""
    count = write._PER_SHARD * 32 + 40
    first, second = (
        publication.prepare(many(tmp_path, n), PublishOptions(PUBLIC), version, tmp_path).plans
        for n, version in ((count, "1"), (count + 1, "2"))
    )
    with publisher(stand_in, tmp_path) as send:
        assert send(first)["code"] == 0
        whole_, large = stand_in.sent(), len(stand_in.repos[PUBLIC].tree())
        stand_in.forget()
        (told,) = send(second)["told"]
    assert whole_ > 5_000_000
    assert 0 < stand_in.sent() < whole_ / 10
    assert len(stand_in.repos[PUBLIC].tree()) == large
    assert told["sent"] < 16


def test_what_is_read_otherwise_is_noticed(ready, stand_in, tmp_path):
    """A file that the Hub gives with another content is found by every client."""
    code = """
import pickle, sys
from pathlib import Path
from traj.publish.load_back import load_back
plan = pickle.loads(Path(sys.argv[1]).read_bytes())[1]
for one in load_back(plan, sys.argv[2], None):
    print(one.client, one.config, one.status, one.detail, sep="|")
"""
    plans = planned(ready)
    with publisher(stand_in, tmp_path) as send:
        assert send(plans)["code"] == 0
    repo = stand_in.repos[PUBLIC]
    tree = repo.commits[repo.refs["main"]]
    (turns,) = (path for path in tree if path.startswith("data/turns/"))
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(tree[turns].data))
    at = table.schema.get_field_index("turn")
    other = pa.array([one + 1 for one in table["turn"].to_pylist()], table.schema.types[at])
    sink = pa.BufferOutputStream()
    pq.write_table(table.set_column(at, table.schema.field(at), other), sink)
    tree[turns] = replace(tree[turns], data=sink.getvalue().to_pybytes())
    repo.large[tree[turns].sha256] = tree[turns].data
    line = [sys.executable, "-c", code, str(tmp_path / "plans.pickle"), repo.refs["main"]]
    environment = variables(stand_in, tmp_path)
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found = [one.split("|") for one in done.stdout.splitlines()]
    assert {one[0] for one in found if one[1] in ("turns", "all")} == CLIENTS
    for client, config, status, detail in found:
        if config == "turns":
            assert (status, "column turn is another" in detail) == ("differs", True), client
        elif client == "traj":
            assert status != "same"
        else:
            assert status == "same", (client, config, detail)


def test_a_client_that_is_missing_is_not_run(ready, stand_in, tmp_path):
    """Not installed is neither passed nor failed."""
    code = """
import pickle, sys
from pathlib import Path
sys.modules["duckdb"] = None
from traj.publish.load_back import load_back
plan = pickle.loads(Path(sys.argv[1]).read_bytes())[1]
for one in load_back(plan, sys.argv[2], None):
    if one.client == "duckdb":
        print(one.config, one.status, one.rows, one.detail)
"""
    with publisher(stand_in, tmp_path) as send:
        assert send(planned(ready))["code"] == 0
    commit = stand_in.repos[PUBLIC].refs["main"]
    line = [sys.executable, "-c", code, str(tmp_path / "plans.pickle"), commit]
    environment = variables(stand_in, tmp_path)
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout == "all not_run None duckdb is not installed\n", done.stderr


# What is refused


def refused(folder: Path, **over) -> set[str]:
    """The reasons, from a dry run."""
    given = {"private_dataset": folder / "private.traj", "version": "1.0.0", "dry_run": True}
    report = publish(folder / "my.traj", PublishOptions(PUBLIC, **given | over))
    assert not report.uploaded
    assert report.ok == (not report.refusals)
    assert all(one.remedy for one in report.refusals)
    return {f"{one.check}: {one.reason}" for one in report.refusals}


def has(reasons: set[str], *parts: str) -> bool:
    return any(all(part in one for part in parts) for one in reasons)


def rewritten(folder: Path, **change) -> None:
    """The manifest of my.traj with some of it changed."""
    file = folder / "my.traj" / MANIFEST
    manifest = Manifest.from_json(file.read_bytes(), str(file))
    file.write_bytes(replace(manifest, **change).to_json())


@pytest.fixture
def folder(ready, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(copytree(ready, tmp_path / "copy"))


def test_what_is_sound_is_not_refused(folder):
    """The dataset that the others spoil."""
    assert refused(folder, private_repo_id=PRIVATE, traces=True) == set()


def test_all_reasons_are_given_at_once(tmp_path):
    """Recorded and nothing else: not split, not scrubbed, of unknown licence and visibility."""
    from conftest import SAMPLES
    from traj.pipeline import record

    record([SAMPLES / "codex"], tmp_path / "my.traj")
    found = refused(tmp_path, private_dataset=None)
    assert has(found, "unsplit: 8 trajectories are in neither split")
    assert has(found, "unscrubbed: was never scrubbed")
    found = {one.partition(":")[0] for one in found}
    assert found >= {"unsplit", "unscrubbed"}


@pytest.mark.parametrize(
    ("licence", "said"),
    [
        (None, "the licence of github.com/traj-samples/"),
        ("Proprietary", ", Proprietary, is not on the list"),
        ("LicenseRef-Ours", ", LicenseRef-Ours, is not on the list"),
        ("MIT AND LicenseRef-Ours", ", MIT AND LicenseRef-Ours, is not"),
    ],
)
def test_an_unknown_licence_is_refused_unless_permitted(licence, said, tmp_path):
    """Null, no SPDX expression, or one that is not on the list; --permit-license adds one."""
    home = samples(tmp_path)
    relabelled(home, lambda row: row | {"repository": row["repository"] | {"license": licence}})
    set_apart(home)
    assert has(refused(tmp_path), "unlicensed", said)
    more = refused(tmp_path, permit_licenses=("LicenseRef-Ours",))
    assert has(more, "unlicensed") == (licence in (None, "Proprietary"))


def test_a_repository_that_is_not_public_is_refused(tmp_path):
    """Visibility unknown or private."""
    home = samples(tmp_path)
    hidden = {"visibility": "unknown"}
    relabelled(home, lambda row: row | {"repository": row["repository"] | hidden})
    set_apart(home)
    assert has(refused(tmp_path), "unseen", "is unknown, not public")


def test_what_was_not_scrubbed_is_refused(folder):
    """By the manifest's word."""
    rewritten(folder, scrubbed=False)
    assert has(refused(folder), "unscrubbed")


def test_a_planted_secret_is_refused_and_not_shown(tmp_path):
    """A token in a title, which was put there after scrubbing; another in the version, which the
    card shows."""
    home = samples(tmp_path)
    secret = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
    title = {"task": {"url": None, "title": f"use {secret} here"}}
    relabelled(home, lambda row: row | title)
    set_apart(home)
    found = refused(tmp_path)
    assert has(found, "secrets", "trajectories.task.title", "github-pat")
    assert not has(found, secret)


def test_a_secret_on_a_page_is_refused(folder, monkeypatch):
    """What the card says is searched as rows are."""
    secret = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
    on_the_card(monkeypatch, lambda text: f"{text}\n{secret}\n")
    found = refused(folder)
    assert has(found, "secrets: README.md")
    assert not has(found, secret)


def on_the_card(monkeypatch, change) -> None:
    import traj.publish.card as cards

    made = cards.pages

    def pages(dataset, names):
        found = made(dataset, names)
        return found | {"README.md": change(found["README.md"].decode()).encode()}

    monkeypatch.setattr(cards, "pages", pages)


def test_a_public_card_that_names_the_private_split_is_refused(folder, monkeypatch):
    """As a split of a config; and a card that names no config, or files that are not there."""
    on_the_card(monkeypatch, lambda text: text.replace("- split: public", "- split: private", 1))
    assert has(refused(folder), "card_names", "names the split 'private'")
    on_the_card(
        monkeypatch,
        lambda text: text.replace("split: private", "split: public", 1).replace(
            "public-*", "other-*"
        ),
    )
    assert has(refused(folder), "card_names", "files of", "that are not there")
    on_the_card(monkeypatch, lambda text: "# No data\n")
    assert has(refused(folder), "card_names", "does not name the config turns")


def test_a_page_that_shows_something_private_is_refused(folder, monkeypatch):
    """A trajectory's id, the canary, a repository that only private sessions are on."""
    private = Dataset.open(folder / "private.traj")
    row = private.table("trajectories").to_pylist()[0]
    for shown in (
        row["trajectory_id"],
        private.manifest.canary,
        f"https://github.com/{row['repository']['owner']}/{row['repository']['name']}",
    ):
        with monkeypatch.context() as patch:
            on_the_card(patch, lambda text, shown=shown: f"{text}\n{shown}\n")
            assert has(refused(folder), "private_shown: README.md"), shown


def test_a_leaked_repository_is_refused(folder):
    """A private session's repository that public sessions are on, too."""
    private = Dataset.open(folder / "private.traj").table("trajectories").to_pylist()[0]
    public = Dataset.open(folder / "my.traj")
    spoil(folder / "my.traj", public, lambda row: row | {"repository": private["repository"]})
    found = refused(folder)
    assert has(found, "unproven: public and private share something: split_repositories")


def spoil(path: Path, dataset: Dataset, change) -> None:
    """Rewrites the public trajectories, whatever a split would say of it."""
    import pyarrow as pa

    from traj.dataset import Span
    from traj.dataset.write import commit, in_order, write_shards

    rows = []
    for name, spans in dataset.spans(split="public"):
        head = spans["trajectories"].rows()
        fresh = pa.Table.from_pylist([change(head.to_pylist()[0])], head.schema)
        rows.append((name, {**spans, "trajectories": Span(fresh, 0, 1)}))
    files = write_shards(path, dataset.manifest.shards, "public", rows)
    files += [file for file in dataset.manifest.files if file.table == "prompts"]
    commit(path, replace(dataset.manifest, files=in_order(files)))


def test_private_rows_in_public_files_are_refused(folder):
    """Whatever the file's name says, the rows' own word counts."""
    public = Dataset.open(folder / "my.traj")
    spoil(folder / "my.traj", public, lambda row: row | {"split": "private"})
    assert has(refused(folder), "unsplit", "in the public files are not public ones")


def test_sessions_without_a_split_are_refused(folder):
    """What was recorded since the split."""
    import rows
    from fleet import repository, session, together
    from traj.dataset.fingerprint import by_split
    from traj.dataset.write import commit, in_order

    other = rows.write(folder / "o.traj", together(session("new", repository("h/o/n"))))
    late = Dataset.open(other)
    home = Dataset.open(folder / "my.traj")
    for file in late.manifest.files:
        (home.path / file.path).write_bytes((other / file.path).read_bytes())
    files = in_order([*home.manifest.files, *late.manifest.files])
    made = replace(home.manifest, files=files)
    commit(home.path, replace(made, splits=by_split(Dataset(home.path, made))))
    assert has(refused(folder), "unsplit: 1 trajectories are in neither split")


def test_a_damaged_dataset_is_refused(folder):
    """What `traj validate` calls an error, here or in the private folder; a file that cannot be
    read at all is an error of one line."""
    for name in ("my.traj", "private.traj"):
        file = folder / name / MANIFEST
        kept = file.read_bytes()
        manifest = Manifest.from_json(kept, name)
        wrong = (replace(manifest.files[0], sha256="0" * 64), *manifest.files[1:])
        file.write_bytes(replace(manifest, files=wrong).to_json())
        assert has(refused(folder), "invalid: file_sha256"), name
        file.write_bytes(kept)
    (file,) = (folder / "my.traj" / "data" / "turns").iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(traj.errors.DatasetError, match="public-00000"):
        refused(folder)


def test_a_private_split_that_is_not_at_hand_is_refused(folder, tmp_path):
    """Without it, or with another one, nothing shows that none of it is public."""
    assert has(refused(folder, private_dataset=None), "unproven: its private split is not here")
    other = tmp_path / "other"
    other.mkdir()
    home = samples(other, count=4)
    private = set_apart(home)
    found = refused(folder, private_dataset=private)
    assert has(found, "unproven", "is not the private split that it is committed to")


def test_a_key_in_the_folder_is_refused(folder):
    """A split's secret, an age key: whatever it is called."""
    from fleet import KEY

    (folder / "my.traj" / "notes.txt").write_text(KEY)
    assert has(refused(folder), "key_inside: notes.txt is a secret key")


def test_both_splits_in_one_folder_are_told_apart(tmp_path):
    """A dataset that holds both: the public repository gets the public files, the companion the
    private ones, of either the manifest says no more than it may."""
    from fleet import options
    from traj.release import split

    home = samples(tmp_path)
    assert split(home, options(tmp_path, private_share=0.3)).ok
    options_ = PublishOptions(PUBLIC, PRIVATE)
    private, public = publication.prepare(home, options_, "1", tmp_path).plans
    for plan, own in ((private, "private"), (public, "public")):
        data = [one.path for one in plan.files if one.path.startswith("data/")]
        assert {path.split("/")[2].partition("-")[0] for path in data} == {own}
        assert set(plan.dataset.manifest.splits) == {own}
    assert public.dataset.manifest.commitment["algorithm"] == ALGORITHM
    given = {"private_dataset": None, "private_repo_id": PRIVATE}
    assert refused(tmp_path, **given) == set()


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"version": None}, "has no version yet"),
        ({"version": "main"}, "cannot be a version"),
        ({"version": "a b"}, "cannot be a version"),
        ({"version": "deadbeef"}, "cannot be a version"),
        ({"repo_id": "name"}, "is no repository"),
        ({"repo_id": "a/b/c"}, "is no repository"),
        ({"private_repo_id": PUBLIC}, "are to be two"),
        ({"private_repo_id": PRIVATE, "private_dataset": None}, "holds no private split"),
        ({"permit_licenses": ("mine",)}, "is no SPDX licence"),
    ],
)
def test_a_wrong_call_is_refused_at_once(over, said, ready):
    """Before anything is read or made."""
    given = {"repo_id": PUBLIC, "private_dataset": ready / "private.traj", "version": "1"}
    with pytest.raises(traj.errors.UsageError, match=said):
        publish(ready / "my.traj", PublishOptions(**given | {"dry_run": True} | over))


def test_texts_are_all_that_scrubbing_looks_at(ready):
    """Every column of free text is searched, ids and hashes are not."""
    places = {place for place, _ in exposure.texts(Dataset.open(ready / "my.traj"))}
    assert places >= {
        "messages.content",
        "messages.tool_calls.arguments",
        "prompts.content",
        "trajectories.source.files.name",
    }
    assert not any(place.endswith(("_id", "sha256", "commit")) for place in places)
