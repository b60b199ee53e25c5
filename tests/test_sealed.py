"""Encrypted private splits: ciphertext on the disk and nothing else, read in memory by key."""

from __future__ import annotations

import base64
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pyrage
import pytest
from pyarrow.parquet.encryption import create_decryption_properties

import rows
import traj
from fleet import fleet, options, repository, session, together
from traj.dataset import Dataset
from traj.dataset.sealed import Opener, Seal
from traj.errors import DatasetError, MissingExtraError, UsageError
from traj.exporters import export
from traj.pipeline import record
from traj.release import reveal, split, verify
from traj.release.keys import save_parquet_key
from traj.workload.options import LoadOptions

HEAD = b"age-encryption.org/v1\n"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two files of keys, as age-keygen writes them, and what encrypts to each."""
    folder = tmp_path_factory.mktemp("keys")
    found = []
    for name in ("mine", "yours"):
        identity = pyrage.x25519.Identity.generate()
        file = folder / name
        file.write_text(f"# created: today\n# public key: {identity.to_public()}\n{identity}\n")
        found.append((file, str(identity.to_public())))
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A dataset that is not split, and the same split with both parts in the open."""
    folder = tmp_path_factory.mktemp("plain")
    data = rows.write(folder / "x.traj", fleet(12), group_rows=False)
    shutil.copytree(data, folder / "open.traj")
    over = {"private_share": 0.4, "private_out": folder / "private.traj"}
    assert split(folder / "open.traj", options(folder, **over)).ok
    return data, Dataset.open(folder / "private.traj")


def sealed(plain, folder, to, **over):
    """The dataset with its private split encrypted."""
    data = Path(shutil.copytree(plain[0], folder / "x.traj"))
    private = folder / "private.traj"
    given = {"private_share": 0.4, "private_out": private, "encrypt_to": tuple(to)} | over
    assert split(data, options(folder, **given)).ok
    return data, private


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_every_file_is_encrypted_and_reads_back(plain, keys, tmp_path):
    """Each file is an age file, no name or byte says what is in it, and with the key the rows are
    those of the split in the open."""
    (file, recipient), _ = keys
    _, private = sealed(plain, tmp_path, [recipient])
    held = files(private)
    assert all(path.read_bytes().startswith(HEAD) for path in held)
    assert all(path.suffix == ".age" for path in held)
    opened = Dataset.open(private, file)
    for table in ("trajectories", "turns", "messages", "tool_calls", "prompts"):
        assert opened.table(table).equals(plain[1].table(table))
    assert [x.trajectory_id for x in opened.trajectories()] == [
        x.trajectory_id for x in plain[1].trajectories()
    ]
    assert traj.validate(opened).ok


def test_each_of_several_recipients_can_read(plain, keys, tmp_path, monkeypatch):
    """Any one key is enough; the environment may name it."""
    _, private = sealed(plain, tmp_path, [recipient for _, recipient in keys])
    for file, _ in keys:
        assert Dataset.open(private, file).table("turns").num_rows
        monkeypatch.setenv("TRAJ_IDENTITY", str(file))
        assert traj.load(private).table("turns").num_rows


def test_ssh_keys_will_do(plain, tmp_path):
    """An ssh-ed25519 key pair, as ssh-keygen writes it."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not here to make a key pair")
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me@home", "-f", tmp_path / "id"]
    subprocess.run(make, check=True)
    _, private = sealed(plain, tmp_path, [(tmp_path / "id.pub").read_text()])
    assert Dataset.open(private, tmp_path / "id").table("turns").num_rows


def test_without_the_right_key_there_is_one_line(plain, keys, tmp_path):
    """No key, another's key, a file that is no key: exit code 2, one line, no secret in it."""
    (_, recipient), (other, _) = keys
    _, private = sealed(plain, tmp_path, [recipient])
    junk = tmp_path / "junk"
    junk.write_text("AGE-SECRET-KEY-1NOTAKEY")
    (tmp_path / "empty").write_text("# nothing\n")
    environment = {name: value for name, value in os.environ.items() if name != "TRAJ_IDENTITY"}
    for identity, said in (
        (None, "is encrypted"),
        (other, "opens it"),
        (junk, "not a file of age or ssh keys"),
        (tmp_path / "empty", "no key in it"),
        (tmp_path / "none", "No such file"),
    ):
        given = {} if identity is None else {"TRAJ_IDENTITY": str(identity)}
        done = subprocess.run(
            [sys.executable, "-m", "traj", "validate", private],
            capture_output=True,
            text=True,
            check=False,
            env=environment | given,
        )
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert "SECRET" not in done.stderr


@pytest.mark.parametrize("damage", [lambda x: x[:-5], lambda x: x[:90], lambda x: b"PAR1" + x])
def test_a_damaged_file_is_told(damage, plain, keys, tmp_path):
    """What was cut or changed is an error that names the file, and a finding of validate; the
    hashes in the manifest are those of the encrypted files."""
    (identity, recipient), _ = keys
    _, private = sealed(plain, tmp_path, [recipient])
    (path,) = (path for path in files(private) if path.parent.name == "turns")
    path.write_bytes(damage(path.read_bytes()))
    opened = Dataset.open(private, identity)
    with pytest.raises(DatasetError, match=r"turns/.*damaged"):
        opened.table("turns")
    found = traj.validate(opened)
    assert not found.ok
    assert "file_sha256" in {one.check for one in found.findings}


def test_nothing_is_ever_written_in_the_open(plain, keys, tmp_path, monkeypatch):
    """Killed at any file, the split leaves no plain byte in the private folder; and the next run
    finishes it."""
    (identity, recipient), _ = keys
    data = Path(shutil.copytree(plain[0], tmp_path / "x.traj"))
    private = tmp_path / "private.traj"
    over = {"private_share": 0.4, "private_out": private, "encrypt_to": (recipient,)}
    close, done = Seal.close, []
    for stop in range(6):

        def killed(self, text, stop=stop):
            done.append(text)
            if len(done) > stop:
                raise KeyboardInterrupt
            return close(self, text)

        done.clear()
        monkeypatch.setattr(Seal, "close", killed)
        with pytest.raises(KeyboardInterrupt):
            split(data, options(tmp_path, **over))
        left = files(private)
        assert all(not (text := path.read_bytes()) or text.startswith(HEAD) for path in left)
    monkeypatch.undo()
    assert split(data, options(tmp_path, **over)).ok
    assert all(path.read_bytes().startswith(HEAD) for path in files(private))
    assert Dataset.open(private, identity).table("messages").equals(plain[1].table("messages"))


def test_reading_leaves_nothing_behind(plain, keys, tmp_path, monkeypatch):
    """Opening, validating and disclosing write no file anywhere but the one that was asked for."""
    (identity, recipient), _ = keys
    data, private = sealed(plain, tmp_path, [recipient])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for name in ("TMPDIR", "TEMP", "TMP", "HOME"):
        monkeypatch.setenv(name, str(scratch))
    before = {path: path.read_bytes() for path in files(tmp_path)}
    opened = Dataset.open(private, identity)
    assert traj.validate(opened).ok
    name = opened.table("trajectories", ["trajectory_id"]).column(0)[0].as_py()
    reveal(opened, [name], tmp_path / "d.json", tmp_path / "split.key")
    assert verify(tmp_path / "d.json", Dataset.open(data)).ok
    (tmp_path / "d.json").unlink()
    assert {path: path.read_bytes() for path in files(tmp_path)} == before


def test_an_encrypted_split_grows(keys, tmp_path):
    """With the key, what is new joins what is encrypted, for the same recipients; nobody moves."""
    (identity, recipient), (other, _) = keys
    sessions = [
        session(f"s{n}", repository(f"h/o/r{n}"), turns=1 + n % 3, prompt=rows.words(60, f"p{n}"))
        for n in range(30)
    ]
    private = tmp_path / "private.traj"
    over = {"private_out": private, "private_share": 0.4}
    data = rows.write(tmp_path / "x.traj", together(*sessions[:15]), group_rows=False)
    assert split(data, options(tmp_path, **over, encrypt_to=(recipient,))).ok
    known = set(Dataset.open(private, identity).table("trajectories").column(1).to_pylist())
    manifest = Dataset.open(data).manifest
    tables = together(*sessions)
    shutil.rmtree(data)
    rows.write(data, tables, group_rows=False, commitment=manifest.commitment, splits={})
    with pytest.raises(UsageError, match="opens it"):
        split(data, options(tmp_path, **over, identity=other))
    assert split(data, options(tmp_path, **over, identity=identity)).ok
    now = set(Dataset.open(private, identity).table("trajectories").column(1).to_pylist())
    assert known < now
    assert all(path.read_bytes().startswith(HEAD) for path in files(private))
    with pytest.raises(UsageError, match="opens it"):
        Dataset.open(private, other)


def test_recipients_can_be_changed(plain, keys, tmp_path):
    """Another list of recipients encrypts everything anew: whoever is off it reads nothing that is
    in the folder."""
    (mine, recipient), (yours, other) = keys
    data, private = sealed(plain, tmp_path, [recipient])
    over = {"private_out": private, "identity": mine, "encrypt_to": (other,)}
    assert split(data, options(tmp_path, **over)).ok
    assert Dataset.open(private, yours).table("messages").equals(plain[1].table("messages"))
    theirs = Opener.read(mine, private)
    for path in files(private):
        with pytest.raises(UsageError, match="opens it"):
            theirs.open(path)


def test_files_without_news_are_not_encrypted_again(plain, keys, tmp_path):
    """Splitting again leaves the data files as they are."""
    (identity, recipient), _ = keys
    data, private = sealed(plain, tmp_path, [recipient])
    before = {p: p.read_bytes() for p in files(private / "data") if p.parent.name != "prompts"}
    assert split(data, options(tmp_path, private_out=private, identity=identity)).ok
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.parametrize("given", ["", "age1nonsense", "ssh-rsa nonsense", "me@home"])
def test_what_is_no_recipient_is_refused(given, plain, tmp_path):
    """Before anything is written."""
    data = Path(shutil.copytree(plain[0], tmp_path / "x.traj"))
    over = {"private_out": tmp_path / "private.traj", "encrypt_to": (given,)}
    with pytest.raises(UsageError, match="public key"):
        split(data, options(tmp_path, **over))
    assert not files(tmp_path / "private.traj")


def test_a_plain_private_folder_does_not_become_an_encrypted_one(plain, keys, tmp_path):
    """What lay in the open is not made secret by encrypting it later; and without a folder of its
    own nothing is encrypted."""
    data = Path(shutil.copytree(plain[0], tmp_path / "x.traj"))
    private = tmp_path / "private.traj"
    assert split(data, options(tmp_path, private_out=private)).ok
    with pytest.raises(UsageError, match="not encrypted"):
        split(data, options(tmp_path, private_out=private, encrypt_to=(keys[0][1],)))
    with pytest.raises(UsageError, match="--private-out"):
        split(data, options(tmp_path, encrypt_to=(keys[0][1],)))


def test_nothing_is_recorded_into_an_encrypted_folder(plain, keys, tmp_path):
    """Recording would put plain files beside the encrypted ones."""
    from conftest import SAMPLES

    _, private = sealed(plain, tmp_path, [keys[0][1]])
    before = files(private)
    with pytest.raises(UsageError, match="not a dataset"):
        record([SAMPLES / "codex"], private)
    assert files(private) == before


def test_without_pyrage_the_extra_is_named(plain, keys, tmp_path, monkeypatch):
    """An optional library that is missing is an error that says how to get it."""
    (identity, recipient), _ = keys
    _, private = sealed(plain, tmp_path, [recipient])
    monkeypatch.setitem(sys.modules, "pyrage", None)
    with pytest.raises(MissingExtraError, match=r"traj-toolkit\[release\]"):
        Dataset.open(private, identity)


@pytest.fixture
def as_parquet(plain, keys, tmp_path):
    """The private split as encrypted Parquet: its folder, and the key's file for other readers."""
    (identity, recipient), _ = keys
    _, private = sealed(plain, tmp_path, [recipient], parquet_encryption=True)
    file = tmp_path / "parquet-key"
    command = [sys.executable, "-m", "traj", "tools", "parquet-key", str(private)]
    done = subprocess.run(
        [*command, "--identity", str(identity), "-o", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return private, file


def test_encrypted_parquet_opens_with_its_key_alone(as_parquet, plain, keys):
    """In pyarrow, polars and DuckDB, as with an age key in traj; there is no plain text in it, and
    the key stands nowhere but in the sealed manifest."""
    private, file = as_parquet
    text = file.read_text().strip()
    key = base64.b64decode(text)
    assert len(key) == 32
    dataset = Dataset.open(private, keys[0][0])
    assert key.hex() not in dataset.manifest.to_json().decode()
    long = max(plain[1].table("messages")["content"].to_pylist(), key=len).encode()
    for path in files(private):
        data = path.read_bytes()
        assert data[:4] == (b"PARE" if path.suffix == ".parquet" else HEAD[:4])
        assert long not in data
        assert key not in data
    con = duckdb.connect()
    con.execute(f"PRAGMA add_parquet_key('key', '{text}')")
    for table in ("trajectories", "turns", "messages", "tool_calls", "prompts"):
        own = plain[1].table(table)
        assert dataset.table(table).equals(own)
        (path,) = (private / "data" / table).iterdir()
        opened = pq.ParquetFile(path, decryption_properties=create_decryption_properties(key))
        assert opened.read().equals(own)
        known = pl.ParquetDecryptionProperties(footer_key=key)
        assert pl.read_parquet(path, decryption=known).height == own.num_rows
        query = (
            f"select count(*) from read_parquet('{path}', encryption_config={{footer_key:'key'}})"
        )
        assert con.execute(query).fetchone() == (own.num_rows,)


def test_encrypted_parquet_is_a_dataset_like_any_other(as_parquet, keys, tmp_path, monkeypatch):
    """It is validated and exported; what is exported is in the open, and has no key in it."""
    private, file = as_parquet
    monkeypatch.setenv("TRAJ_IDENTITY", str(keys[0][0]))
    assert traj.validate(traj.load(private)).ok
    export(traj.load(private), "parquet", tmp_path / "open.traj", LoadOptions())
    key = base64.b64decode(file.read_text()).hex()
    for path in files(tmp_path / "open.traj"):
        assert key.encode() not in path.read_bytes()
    assert traj.load(tmp_path / "open.traj").table("turns").num_rows


def test_encrypted_parquet_grows_under_its_key(plain, keys, tmp_path):
    """Splitting again leaves data and key; other recipients get another key, as who is off the list
    knows the old one; a folder of age files becomes encrypted Parquet when asked to."""
    (mine, recipient), (yours, other) = keys
    data, private = sealed(plain, tmp_path, [recipient])
    over = {"private_out": private, "identity": mine}
    assert split(data, options(tmp_path, **over, parquet_encryption=True)).ok
    first = Dataset.open(private, mine)
    assert {path.suffix for path in files(private / "data")} == {".parquet"}
    before = {p: p.read_bytes() for p in files(private / "data") if p.parent.name != "prompts"}
    assert split(data, options(tmp_path, **over)).ok
    assert {p: p.read_bytes() for p in before} == before
    assert Dataset.open(private, mine).opener.parquet_key == first.opener.parquet_key
    assert split(data, options(tmp_path, **over, encrypt_to=(other,))).ok
    after = Dataset.open(private, yours)
    assert after.opener.parquet_key not in (None, first.opener.parquet_key)
    assert after.table("messages").equals(plain[1].table("messages"))
    with pytest.raises(DatasetError):
        Dataset(private, after.manifest, first.opener).table("messages")


def test_encrypted_parquet_without_readers_is_refused(plain, tmp_path):
    """Its key would be nobody's."""
    data = Path(shutil.copytree(plain[0], tmp_path / "x.traj"))
    with pytest.raises(UsageError, match="--encrypt-to"):
        split(data, options(tmp_path, private_out=tmp_path / "p.traj", parquet_encryption=True))
    with pytest.raises(UsageError, match="no encrypted Parquet"):
        save_parquet_key(Dataset.open(data), tmp_path / "key")


def test_damage_to_encrypted_parquet_is_told(as_parquet, keys):
    """A changed byte is an error that names the file."""
    private, _ = as_parquet
    (path,) = (private / "data" / "messages").iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    dataset = Dataset.open(private, keys[0][0])
    with pytest.raises(DatasetError, match="messages"):
        dataset.table("messages")
    assert not traj.validate(dataset).ok
