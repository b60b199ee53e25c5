"""`traj split`: who lies where, apart, and for good; all of it or nothing is written."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import pytest

import rows
import traj
from conftest import SAMPLES
from fleet import fleet, key_file, options, repository, session, together
from traj.dataset import MANIFEST, Dataset
from traj.dataset.files import DataWriter
from traj.errors import DatasetError, TrajError, UsageError
from traj.pipeline import record
from traj.release import SplitOptions, public_manifest, split
from traj.release.keys import make_key, read_key, save_key

SPLITS = ("public", "private")


def lies(*folders: Path) -> dict[str, str]:
    """The split of each trajectory."""
    found: dict[str, str] = {}
    for folder in folders:
        dataset = Dataset.open(folder)
        for name in ("unsplit", *SPLITS):
            ids = dataset.table("trajectories", ["trajectory_id"], name).column(0).to_pylist()
            found |= dict.fromkeys(ids, name)
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def content(dataset: Dataset) -> dict[str, list[dict[str, object]]]:
    """All rows of all splits, but for the split."""
    found = {}
    for table in ("trajectories", "turns", "messages", "tool_calls"):
        rows_ = dataset.table(table).to_pylist()
        for row in rows_:
            row.pop("split", None)
        found[table] = sorted(rows_, key=lambda row: json.dumps(row, default=str, sort_keys=True))
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows.write(tmp_path_factory.mktemp("fleet") / "x.traj", fleet(), group_rows=False)


@pytest.fixture
def data(written: Path, tmp_path: Path) -> Path:
    """48 sessions in 24 repositories, not split."""
    return Path(shutil.copytree(written, tmp_path / "datasets" / "data.traj"))


def test_a_split_keeps_families_whole_and_files_apart(data, tmp_path):
    """Every row is in one split's files, no repository in both, and the dataset is sound."""
    before = content(Dataset.open(data))
    report = split(data, options(tmp_path))
    assert report.ok
    dataset = Dataset.open(data)
    assert content(dataset) == before
    assert {file.split for file in dataset.manifest.files} == set(SPLITS)
    homes = {}
    for row in dataset.table("trajectories").to_pylist():
        homes.setdefault(row["repository"]["url"], set()).add(row["split"])
    assert all(len(found) == 1 for found in homes.values())
    assert report.trajectories == {"public": 48 - report.trajectories["private"], "private": 10}
    checked = traj.validate(dataset)
    assert checked.ok
    assert not checked.findings
    assert all(
        one.status == "passed" for one in checked.checks if one.name.startswith(("split", "commit"))
    )


def test_a_splits_prompts_are_its_own(data, tmp_path):
    """A system prompt that only private sessions have is in the private files alone."""
    split(data, options(tmp_path))
    dataset = Dataset.open(data)
    for name in SPLITS:
        used = set(dataset.table("turns", ["system_id"], name).column(0).to_pylist())
        held = dataset.table("prompts", ["prompt_id"], name).column(0).to_pylist()
        assert sorted(used) == held


def test_splitting_again_changes_nothing(data, tmp_path):
    """The same dataset under the same key: the same bytes, and the same canaries."""
    split(data, options(tmp_path))
    before = files(data)
    report = split(data, options(tmp_path))
    assert files(data) == before
    assert report.assigned == {"public": 0, "private": 0}


def test_every_split_has_a_canary_of_its_own(data, tmp_path):
    """Fresh for each split of each dataset, kept when it is split again or moved apart."""
    other = Path(shutil.copytree(data, tmp_path / "other.traj"))
    split(data, options(tmp_path))
    split(other, options(tmp_path))
    facts = [Dataset.open(one).manifest.splits for one in (data, other)]
    canaries = [one[name]["canary"] for one in facts for name in SPLITS]
    assert len(set(canaries)) == 4
    split(data, options(tmp_path, private_out=tmp_path / "private.traj"))
    public, private = Dataset.open(data).manifest, Dataset.open(tmp_path / "private.traj").manifest
    assert [public.canary, private.canary] == canaries[:2]
    assert canaries[1] not in (data / MANIFEST).read_text()


def test_public_manifest_says_nothing_of_the_private_split(data, tmp_path):
    """Of a dataset with both splits in it, what is published names public files, the public
    canary, and the commitment."""
    split(data, options(tmp_path))
    manifest = Dataset.open(data).manifest
    public = public_manifest(manifest)
    assert {file.split for file in public.files} == {"public"}
    assert public.commitment == manifest.commitment
    secrets = [manifest.splits["private"]["canary"]]
    secrets += [file.sha256 for file in manifest.files if file.split == "private"]
    assert not any(secret in public.to_json().decode() for secret in secrets)


# Growth


@pytest.mark.parametrize("apart", [False, True])
def test_nobody_moves_when_the_dataset_grows(apart, tmp_path):
    """Sessions recorded into a split dataset wait in neither split, then join their families; all
    others stay, and shards without news keep their bytes."""
    home, private = tmp_path / "x.traj", tmp_path / "private.traj"
    codex = sorted((SAMPLES / "codex").rglob("*.jsonl"))
    over = {"private_share": 0.4, "lone_sessions": True, "families": one_task(tmp_path)}
    over |= {"private_out": private} if apart else {}
    known: dict[str, str] = {}
    canaries: dict[str, str] = {}
    where = [home, *([private] if apart else [])]
    for step in (codex[:5], codex, [SAMPLES / "claude_code"]):
        record(step, home)
        if known and not apart:
            assert "unsplit" in lies(home).values()
            splits = Dataset.open(home).manifest.splits
            assert {name: splits[name]["canary"] for name in SPLITS} == canaries
        report = split(home, options(tmp_path, **over))
        assert report.ok, report.findings
        now = lies(*where)
        assert set(now.values()) <= set(SPLITS)
        assert {name: now[name] for name in known} == known
        assert len(now) > len(known)
        known = now
        splits = Dataset.open(home).manifest.splits
        canaries = {name: facts["canary"] for name, facts in splits.items()}
        for folder in where:
            assert traj.validate(Dataset.open(folder)).ok
    assert len(known) == 15
    assert set(known.values()) == set(SPLITS)


def one_task(folder: Path) -> Path:
    """The sample sessions of Claude Code name no repository; each is on one of Codex's."""
    known = {"JavaScript": "javascript-csv", "Java": "java-intervals", "Rust": "rust-duration"}
    known |= {"C": "c-ring", "Python": "python-pager", "Perl": "perl-ini"}
    scratch = folder / "families"
    if not scratch.exists():
        record([SAMPLES / "claude_code"], scratch)
    lines = ["[families]"]
    for row in Dataset.open(scratch).table("trajectories").to_pylist():
        name = f"github.com/traj-samples/{known[row['language']]}"
        lines.append(f'{row["trajectory_id"]} = ["{name}", "{row["trajectory_id"]}"]')
    file = folder / "families.toml"
    file.write_text("\n".join(lines))
    return file


def test_shards_without_news_keep_their_files(tmp_path, monkeypatch):
    """Splitting again after growth writes the shards that hold something new, and no others."""
    from traj.dataset import write

    monkeypatch.setattr(write, "_PER_SHARD", 4)
    codex = sorted((SAMPLES / "codex").rglob("*.jsonl"))
    home = tmp_path / "x.traj"
    over = {"lone_sessions": True, "families": one_task(tmp_path)}
    record([*codex, SAMPLES / "claude_code"], home)
    report = split(home, options(tmp_path, **over))
    assert report.ok, report.findings
    manifest = Dataset.open(home).manifest
    assert manifest.shards == 4
    before = {file.path for file in manifest.files}
    (row,) = (row for row in Dataset.open(home).table("trajectories").to_pylist()[:1])
    name = row["source"]["files"][0]["name"]
    (path,) = SAMPLES.rglob(name)
    grown = tmp_path / "grown" / name
    grown.parent.mkdir()
    grown.write_bytes(path.read_bytes() + b'{"type":"odd"}\n')
    record([grown], home)
    assert lies(home)[row["trajectory_id"]] == "unsplit"
    assert split(home, options(tmp_path, **over)).ok
    after = Dataset.open(home)
    assert lies(home)[row["trajectory_id"]] == row["split"]
    changed = {file.shard for file in after.manifest.files if file.path not in before}
    assert changed == {int(row["trajectory_id"][0], 16) // 4}
    assert traj.validate(after).ok


# Refusals


def test_unknown_repositories_are_refused(tmp_path):
    """Without a word of the user a session of an unknown repository is not split, and the reason
    is told; nothing is written."""
    data = rows.write(tmp_path / "x.traj", together(session("a", None), session("b", None)))
    before = files(data)
    with pytest.raises(UsageError, match="2 of 2 sessions is unknown"):
        split(data, options(tmp_path))
    assert files(data) == before


def test_shared_content_is_found_before_anything_is_written(tmp_path):
    """A prompt that lies in both splits stops the split; a families file that joins the two
    repositories lets it through."""
    said = rows.words(100, "shared")
    # The same prompt in every repository of two: however the draw goes, some pair is parted.
    sessions = [
        session(f"s{n}", repository(f"h/o/r{n}"), prompt=f"{said} {rows.words(90, str(n // 2))}")
        for n in range(40)
    ]
    data = rows.write(tmp_path / "x.traj", together(*sessions))
    before = files(data)
    report = split(data, options(tmp_path))
    assert not report.ok
    assert {one.check for one in report.findings if one.severity == "error"} == {"split_content"}
    assert files(data) == before
    pairs = [f'p{n} = ["h/o/r{2 * n}", "h/o/r{2 * n + 1}"]' for n in range(20)]
    (tmp_path / "f.toml").write_text("\n".join(["[families]", *pairs]))
    assert split(data, options(tmp_path, families=tmp_path / "f.toml")).ok
    assert traj.validate(Dataset.open(data)).ok


def test_a_family_in_both_splits_is_settled_only_on_demand(data, tmp_path):
    """Where a families file joins a public and a private repository afterwards, the split refuses;
    told to, it makes both public, and moves nobody else."""
    split(data, options(tmp_path))
    before = lies(data)
    heads = Dataset.open(data).table("trajectories").to_pylist()
    parted = [next(row for row in heads if row["split"] == name) for name in SPLITS]
    urls = [row["repository"]["url"] for row in parted]
    (tmp_path / "f.toml").write_text(f"[families]\nx = {json.dumps(urls)}")
    with pytest.raises(UsageError, match="--settle-public"):
        split(data, options(tmp_path, families=tmp_path / "f.toml"))
    assert lies(data) == before
    over = {"families": tmp_path / "f.toml", "settle_public": True}
    assert split(data, options(tmp_path, **over)).ok
    moved = {name for name, where in lies(data).items() if where != before[name]}
    private = {row["trajectory_id"] for row in heads if row["repository"]["url"] == urls[1]}
    assert moved == private


def test_the_key_remembers_across_datasets(data, tmp_path):
    """Recorded anew from the beginning, and in part, a dataset has everyone where they were: the
    key's file says so. It stays its owner's alone."""
    key = tmp_path / "kept.key"
    parts = [Path(shutil.copytree(data, tmp_path / name)) for name in ("a", "b")]
    few = rows.write(tmp_path / "few", fleet(7), group_rows=False)
    splits = []
    for folder in (few, *parts):
        assert split(folder, SplitOptions(key)).ok
        splits.append(lies(folder))
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    first, second, third = splits
    assert second == third
    assert {name: second[name] for name in first} == first
    noted = dict(reversed(line.split()) for line in key.read_text().splitlines()[-24:])
    for row in Dataset.open(parts[0]).table("trajectories").to_pylist():
        assert noted[row["repository"]["url"].removeprefix("https://")] == row["split"]


def test_a_name_cannot_pass_for_another_in_the_keys_notes(tmp_path):
    """A line break in a repository's name, as a hostile log may have it, notes nothing else."""
    where = repository("h/o/n")
    assert where is not None
    where["name"] = "n\nprivate h/o/victim"
    key = tmp_path / "x.key"
    data = rows.write(tmp_path / "x.traj", together(session("a", where)))
    split(data, SplitOptions(key))
    assert len(read_key(key).assigned) == 1


def test_what_becomes_public_leaves_the_private_folder(data, tmp_path):
    """A private session that was recorded again and then settled as public is in the public folder
    alone, where its new rows are."""
    whole = Path(shutil.copytree(data, tmp_path / "whole.traj"))
    private = tmp_path / "private.traj"
    key = tmp_path / "kept.key"
    split(data, SplitOptions(key, private_out=private))
    urls = []
    for folder in (data, private):
        (row, *_) = Dataset.open(folder).table("trajectories").to_pylist()
        urls.append(row["repository"]["url"])
    manifest = json.loads((whole / MANIFEST).read_bytes())
    manifest["commitment"] = Dataset.open(data).manifest.commitment
    shutil.rmtree(data)
    shutil.copytree(whole, data)
    (data / MANIFEST).write_text(json.dumps(manifest))
    (tmp_path / "f.toml").write_text(f"[families]\nx = {json.dumps(urls)}")
    over = {"private_out": private, "families": tmp_path / "f.toml", "settle_public": True}
    before = lies(private)
    assert split(data, SplitOptions(key, **over)).ok
    assert not set(lies(data)) & set(lies(private))
    assert set(lies(private)) < set(before)
    assert set(lies(data, private).values()) == set(SPLITS)
    assert len(lies(data, private)) == 48


def test_another_key_is_refused(data, tmp_path):
    """A dataset is only ever split with the key that it was split with first."""
    split(data, options(tmp_path))
    before = files(data)
    key_file(tmp_path, "TRAJ-SPLIT-KEY-1-" + "00" * 32)
    with pytest.raises(UsageError, match="not the key"):
        split(data, SplitOptions(tmp_path / "split.key"))
    with pytest.raises(UsageError, match="no split key"):
        split(data, SplitOptions(tmp_path / "none.key"))
    assert files(data) == before
    assert not (tmp_path / "none.key").exists()


def test_a_share_of_nothing_is_told(tmp_path):
    """One family cannot be in two splits: the other is empty, which is a finding."""
    data = rows.write(tmp_path / "x.traj", together(session("a", repository("h/o/n"))))
    report = split(data, options(tmp_path))
    assert report.ok
    assert [one.message for one in report.findings] == ["the split is empty: too few families"]


# Keys


def test_a_key_is_made_for_its_owner_alone(tmp_path):
    """A fresh key has mode 600, is another each time, and reads back."""
    made = [make_key(tmp_path / f"{n}.key") for n in range(2)]
    save_key(made[0])
    assert stat.S_IMODE((tmp_path / "0.key").stat().st_mode) == 0o600
    assert made[0].derive("x") != made[1].derive("x") != made[1].derive("y")
    assert read_key(tmp_path / "0.key").derive("x") == made[0].derive("x")
    assert "secret" not in repr(made[0])
    with pytest.raises(UsageError, match="exists"):
        make_key(tmp_path / "0.key")
    with pytest.raises(UsageError, match="File exists"):
        save_key(made[0])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(mode, tmp_path):
    """What group or world can read is no secret."""
    file = key_file(tmp_path)
    file.chmod(mode)
    with pytest.raises(UsageError, match="chmod 600"):
        read_key(file)


def test_a_key_inside_a_dataset_is_refused(data, tmp_path):
    """Neither made there nor read from there, nor through a link that leads there."""
    with pytest.raises(UsageError, match="must not lie in"):
        make_key(data / "x.key", [data])
    inside = key_file(data / "data")
    (tmp_path / "link.key").symlink_to(inside)
    for file in (inside, tmp_path / "link.key"):
        with pytest.raises(UsageError, match="must not lie in"):
            read_key(file, [data])


@pytest.mark.parametrize("text", ["", "TRAJ-SPLIT-KEY-1-ABC", "x" * 20_000])
def test_what_is_no_key_is_refused(text, tmp_path):
    """A file without a whole key in it."""
    with pytest.raises(UsageError, match="not a split key"):
        read_key(key_file(tmp_path, text))


# Whole or not at all


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("after", [0, 1, 5, 9])
def test_a_full_disk_leaves_the_dataset_as_it_was(after, apart, data, tmp_path, monkeypatch):
    """Wherever writing fails, the dataset reads as before, and splitting again finishes."""
    before = lies(data)
    done = []
    close = DataWriter.close

    def full(self: DataWriter) -> object:
        if len(done) == after:
            raise OSError(28, "No space left on device")
        done.append(self)
        return close(self)

    private = tmp_path / "private.traj"
    over = {"private_out": private} if apart else {}
    monkeypatch.setattr(DataWriter, "close", full)
    with pytest.raises(TrajError, match="No space left"):
        split(data, options(tmp_path, **over))
    monkeypatch.undo()
    assert lies(data) == before
    assert traj.validate(Dataset.open(data)).ok
    assert split(data, options(tmp_path, **over)).ok
    for folder in (data, *([private] if apart else [])):
        assert traj.validate(Dataset.open(folder)).ok
        assert set(files(folder)) == {f.path for f in Dataset.open(folder).manifest.files} | {
            MANIFEST
        }


def test_a_split_that_was_killed_between_its_commits_is_finished_by_the_next(
    data, tmp_path, monkeypatch
):
    """The private folder is there, the dataset is not cut yet: nothing is lost, nothing is double
    in the end, and the split is the one that it would have been."""
    from traj.release import splitting as module

    whole = tmp_path / "whole.traj"
    shutil.copytree(data, whole)
    split(whole, options(tmp_path, private_out=tmp_path / "whole-private.traj"))
    private = tmp_path / "private.traj"
    commit = module.commit

    def killed(folder: Path, *args: object) -> None:
        if folder == data:
            raise KeyboardInterrupt
        commit(folder, *args)

    monkeypatch.setattr(module, "commit", killed)
    with pytest.raises(KeyboardInterrupt):
        split(data, options(tmp_path, private_out=private))
    monkeypatch.undo()
    assert set(lies(data).values()) == {"unsplit"}
    assert split(data, options(tmp_path, private_out=private)).ok
    assert lies(data, private) == lies(whole, tmp_path / "whole-private.traj")
    assert not set(lies(data)) & set(lies(private))


# Apart


def test_the_public_folder_knows_nothing_of_the_private_rows(data, tmp_path):
    """With the private split in a folder of its own, the public one holds no byte of a private
    row, prompt, id or file; the private folder is its owner's alone."""
    private = tmp_path / "deep" / "private.traj"
    heads = {
        row["trajectory_id"]: row for row in Dataset.open(data).table("trajectories").to_pylist()
    }
    before = content(Dataset.open(data))
    assert split(data, options(tmp_path, private_out=private)).ok
    home, apart = Dataset.open(data), Dataset.open(private)
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert {file.split for file in home.manifest.files} == {"public"}
    assert {file.split for file in apart.manifest.files} == {"private"}
    assert home.manifest.commitment == apart.manifest.commitment
    both = {name: content(home)[name] + content(apart)[name] for name in before}
    key = lambda row: json.dumps(row, default=str, sort_keys=True)  # noqa: E731
    assert {name: sorted(found, key=key) for name, found in both.items()} == before
    public = b"".join(files(data).values())
    for name in lies(private):
        assert name.encode() not in public
        assert heads[name]["repository"]["owner"].encode() + b"/" not in public
    ids = apart.table("prompts", ["prompt_id"]).column(0).to_pylist()
    assert not set(ids) & set(home.table("prompts", ["prompt_id"]).column(0).to_pylist())
    for folder in (data, private):
        assert traj.validate(Dataset.open(folder)).ok


def test_the_private_folder_must_be_named_again(data, tmp_path):
    """Once the private split lies apart, splitting without its folder would lose sight of it."""
    split(data, options(tmp_path, private_out=tmp_path / "private.traj"))
    with pytest.raises(UsageError, match="--private-out"):
        split(data, options(tmp_path))


def test_a_private_folder_of_another_dataset_is_refused(data, tmp_path):
    """A folder that holds another dataset, or lies inside this one, takes no private split."""
    other = rows.write(tmp_path / "other.traj", fleet(3))
    wrong = ((other, "more than a private"), (data / "in", "outside"), (data.parent, "outside"))
    for folder, said in wrong:
        with pytest.raises(UsageError, match=said):
            split(data, options(tmp_path, private_out=folder))
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a dataset"):
        split(data, options(tmp_path, private_out=notes))
    assert set(lies(data).values()) == {"unsplit"}


def test_a_missing_dataset_is_not_made(tmp_path):
    """Splitting what is not there is an error, and leaves no folder."""
    with pytest.raises(DatasetError, match="no such dataset"):
        split(tmp_path / "none", options(tmp_path))
    assert not (tmp_path / "none").exists()
