"""A stand-in for the Hugging Face Hub, on loopback: what `huggingface_hub` 2.x, `datasets` and
`HfFileSystem` ask of the real one when datasets are published and loaded. Its state is in memory.

It is as strict as the real one where that matters: private repositories need a token, large files
are there only once they were sent whole, what a commit refers to must exist, tags stay. It counts
what arrives, and can fail at any request: before it is carried out, or after, unanswered.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import secrets
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = "hf_TheTokenThatNobodyMayRead0123456789"
ATTRIBUTES = b"".join(
    f"*.{end} filter=lfs diff=lfs merge=lfs -text\n".encode() for end in ("parquet", "arrow", "gz")
)
_LARGE = 10_000_000  # bytes: beyond them every file is a large one
_PAGE = 40  # entries of a tree in one answer; the real one gives 1000


@dataclass(frozen=True)
class Blob:
    """One file of a commit."""

    data: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        head = "version https://git-lfs.github.com/spec/v1\n"
        return f"{head}oid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @property
    def git_oid(self) -> str:
        data = self.pointer if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.git_oid


@dataclass
class Repo:
    """One dataset repository: commits by id, and names for them."""

    private: bool
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)  # by SHA-256

    def resolve(self, revision: str) -> str | None:
        known = self.refs | self.tags | {name: name for name in self.commits}
        return known.get(revision)

    def commit(self, tree: dict[str, Blob]) -> str:
        told = json.dumps(
            [self.refs.get("main"), *((name, tree[name].git_oid) for name in sorted(tree))]
        )
        name = hashlib.sha1(told.encode()).hexdigest()
        self.commits[name] = tree
        self.refs["main"] = name
        return name

    def tree(self, revision: str = "main") -> dict[str, bytes]:
        """The files of a revision, as their bytes."""
        found = self.commits[self.resolve(revision)]
        return {name: blob.data for name, blob in found.items()}


@dataclass
class Request:
    """What arrived."""

    method: str
    path: str
    bytes: int
    token: bool


Fault = tuple[int, str, "Callable[[], None] | None"]  # which request, before or after, what to do


class Hub:
    """The state of the stand-in, and what it was asked."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.log: list[Request] = []
        self.lock = threading.RLock()
        self.url = ""
        self.storage = ""  # another origin, as the real one's storage is
        self.fault: Fault | None = None
        self.cut_at: int | None = None  # from that request on, by the log, connections are cut off
        self.between: tuple[int, Callable[[], None]] | None = None  # done before that request
        self.seen = 0  # requests since the fault was set
        self._hrefs: dict[str, tuple[Repo, str, int]] = {}  # a secret: what may be put there

    def forget(self) -> None:
        """Empties the log."""
        self.log.clear()

    def fail_at(self, number: int | None, when: str = "before", do: Any = None) -> None:
        """Has the request of this number (from 0) cut off, and every later one; `do` is called."""
        with self.lock:
            self.fault = None if number is None else (number, when, do)
            self.seen = 0

    def sent(self) -> int:
        """Bytes of files that arrived: large ones, and those within commits."""
        return sum(one.bytes for one in self.log if one.method == "PUT" or "/commit/" in one.path)

    def writes(self) -> list[str]:
        """The requests that change something, in order."""
        return [
            f"{one.method} {one.path}"
            for one in self.log
            if one.method == "PUT"
            or any(part in one.path for part in ("/commit/", "/tag/", "/repos/create"))
        ]

    def new_href(self, repo: Repo, oid: str, size: int) -> str:
        name = secrets.token_hex(8)
        self._hrefs[name] = (repo, oid, size)
        return f"{self.storage}/storage/{name}"

    def stored(self, name: str) -> tuple[Repo, str, int] | None:
        return self._hrefs.get(name)


class _CutError(Exception):
    """The connection is to end here."""


class _Answer(Exception):  # noqa: N818 (it is no error, it is what is answered)
    def __init__(self, status: int, body: Any = b"", **headers: str) -> None:
        super().__init__(status)
        self.status, self.headers = status, headers
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 (http.server's names)

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        try:
            body = self._chunks() if self.headers.get("Transfer-Encoding") else b""
            body = body or self.rfile.read(length)
            after = self._begin(len(body))
            with self.hub.lock:
                answer = self._answer(body)
            if after:
                after()
                raise _CutError  # noqa: TRY301
        except (_CutError, ConnectionError):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(answer)

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline().strip(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _begin(self, size: int) -> Callable[[], None] | None:
        """Notes the request; cuts it off where it is to fail, or gives what is to be done after."""
        hub = self.hub
        with hub.lock:
            path = unquote(urlsplit(self.path).path)
            hub.log.append(Request(self.command, path, size, bool(self._token())))
            at = len(hub.log) - 1
            if hub.cut_at is not None and at >= hub.cut_at:
                raise _CutError
            if hub.between and hub.between[0] == at:
                hub.between[1]()
            number, hub.seen = hub.seen, hub.seen + 1
            if hub.fault is None or number < hub.fault[0]:
                return None
            at, when, do = hub.fault
        act = do or (lambda: None)
        if number == at and when == "after":
            return act
        if number == at:
            act()
        raise _CutError

    def _send(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        known = {name.replace("_", "-"): value for name, value in answer.headers.items()}
        if not isinstance(answer.body, bytes):
            raise TypeError
        known.setdefault("Content-Type", "application/json")
        known.setdefault("Content-Length", str(len(answer.body)))
        for name, value in known.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _token(self) -> str | None:
        return self.headers.get("Authorization")

    def _answer(self, body: bytes) -> _Answer:
        try:
            return self._routed(body)
        except _Answer as answer:
            return answer

    def _routed(self, body: bytes) -> _Answer:
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        query = parse_qs(url.query)
        if parts[0] == "storage":
            return self._put(parts[1], body)
        if parts[0] == "cdn":
            return self._part(self.hub.repos[f"{parts[1]}/{parts[2]}"].large[parts[3]], {})
        if parts[:2] == ["api", "whoami-v2"]:
            self._need_token()
            return _Answer(200, {"type": "user", "name": "tester", "orgs": []})
        if parts == ["api", "validate-yaml"]:
            return self._validate(json.loads(body)["content"])
        if parts == ["api", "repos", "create"]:
            return self._create(json.loads(body))
        if parts[:2] == ["api", "datasets"]:
            name = "/".join(parts[2:4])
            repo = self._repo(name)
            return self._api(repo, name, parts[4:], query, body)
        if parts[0] == "datasets":
            name = f"{parts[1]}/{parts[2]}".removesuffix(".git")
            repo = self._repo(name)
            if parts[3:5] == ["info", "lfs"]:
                return self._large(repo, name, parts[5:], json.loads(body))
            if parts[3] == "resolve":
                return self._resolve(repo, name, parts[4], "/".join(parts[5:]))
        return _Answer(404, {"error": f"nothing at {url.path}"})

    def _need_token(self) -> None:
        if self._token() != f"Bearer {TOKEN}":
            raise _Answer(401, {"error": "Invalid username or password."})

    def _repo(self, name: str) -> Repo:
        repo = self.hub.repos.get(name)
        known = self._token() == f"Bearer {TOKEN}"
        if repo is None or (repo.private and not known):
            status = 404 if known else 401
            raise _Answer(status, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        return repo

    def _commit_of(self, repo: Repo, revision: str) -> str:
        found = repo.resolve(revision)
        if found is None:
            text = f"Invalid rev id: {revision}"
            raise _Answer(404, {"error": text}, X_Error_Code="RevisionNotFound")
        return found

    def _create(self, asked: dict[str, Any]) -> _Answer:
        self._need_token()
        assert asked["type"] == "dataset"
        name = f"{asked.get('organization') or 'tester'}/{asked['name']}"
        told = {"url": f"{self.hub.url}/datasets/{name}", "name": name}
        if name in self.hub.repos:
            told["error"] = "You already created this dataset repo"
            return _Answer(409, told)
        repo = Repo(asked.get("visibility") == "private")
        repo.commit({".gitattributes": Blob(ATTRIBUTES, lfs=False)})
        self.hub.repos[name] = repo
        return _Answer(200, told)

    def _validate(self, text: str) -> _Answer:
        errors = []
        if text.startswith("---\n"):
            try:
                front = yaml.safe_load(text[4:].partition("\n---")[0]) or {}
                unnamed = [one for one in front.get("configs", ()) if "config_name" not in one]
                errors += [{"message": '"config_name" is required'} for _ in unnamed]
            except yaml.YAMLError as error:
                errors.append({"message": str(error)})
        return _Answer(400 if errors else 200, {"errors": errors, "warnings": []})

    def _api(
        self, repo: Repo, name: str, parts: list[str], query: dict[str, list[str]], body: bytes
    ) -> _Answer:
        what = parts[0] if parts else "revision"
        revision = parts[1] if len(parts) > 1 else "main"
        if what == "refs":
            return _Answer(200, _refs(repo))
        if what == "tag":
            return self._tag(repo, revision, body)
        if what == "settings":
            self._need_token()
            repo.private = json.loads(body).get("visibility") == "private"
            return _Answer(200, {"private": repo.private})
        commit = self._commit_of(repo, revision)
        tree = repo.commits[commit]
        if what == "revision":
            return _Answer(200, _info(repo, name, commit))
        if what == "tree":
            return self._tree(tree, "/".join(parts[2:]), query)
        if what == "paths-info":
            form = parse_qs(body.decode())
            found = [_entry(path, tree[path]) for path in form["paths"] if path in tree]
            folders = {one for path in tree for one in _folders(path)}
            found += [_folder(path) for path in form["paths"] if path in folders]
            return _Answer(200, found)
        if what == "preupload":
            self._need_token()
            return _Answer(200, {"files": [_mode(one, tree) for one in json.loads(body)["files"]]})
        if what == "commit":
            return self._committed(repo, name, revision, body)
        return _Answer(404, {"error": what})

    def _tag(self, repo: Repo, revision: str, body: bytes) -> _Answer:
        self._need_token()
        if self.command == "DELETE":
            repo.tags.pop(revision)
            return _Answer(200, {})
        commit, tag = self._commit_of(repo, revision), json.loads(body)["tag"]
        if tag in repo.tags:
            return _Answer(409, {"error": f"Tag reference exists already: {tag}"})
        repo.tags[tag] = commit
        return _Answer(200, {})

    def _tree(self, tree: dict[str, Blob], under: str, query: dict[str, list[str]]) -> _Answer:
        inside = {path: blob for path, blob in tree.items() if path.startswith(under)}
        if under and not any(path.startswith(f"{under}/") for path in tree):
            return _Answer(404, {"error": under}, X_Error_Code="EntryNotFound")
        folders = {one for path in inside for one in _folders(path)}
        entries = [_folder(path) for path in folders if path.startswith(under) and path != under]
        entries += [_entry(path, blob) for path, blob in inside.items()]
        if query.get("recursive", ["false"])[0].lower() != "true":
            depth = under.count("/") + 1 if under else 0
            entries = [one for one in entries if one["path"].count("/") == depth]
        entries.sort(key=lambda one: one["path"])
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + _PAGE < len(entries):
            path = urlsplit(self.path).path
            recursive = query.get("recursive", ["false"])[0]
            on = f"{self.hub.url}{path}?recursive={recursive}&cursor={start + _PAGE}"
            headers["Link"] = f'<{on}>; rel="next"'
        return _Answer(200, entries[start : start + _PAGE], **headers)

    def _large(self, repo: Repo, name: str, parts: list[str], asked: dict[str, Any]) -> _Answer:
        self._need_token()
        if parts == ["verify"]:
            known = repo.large.get(asked["oid"])
            if known is None or len(known) != asked["size"]:
                return _Answer(404, {"error": "not uploaded"})
            return _Answer(200, {})
        objects = []
        for one in asked["objects"]:
            found = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in repo.large:
                verify = f"{self.hub.url}/datasets/{name}.git/info/lfs/verify"
                href = self.hub.new_href(repo, one["oid"], one["size"])
                found["actions"] = {"upload": {"href": href}, "verify": {"href": verify}}
            objects.append(found)
        return _Answer(200, {"transfer": "basic", "objects": objects})

    def _put(self, name: str, body: bytes) -> _Answer:
        stored = self.hub.stored(name)
        if stored is None or self._token() is not None:
            return _Answer(403, {"error": "no such place, or an authorization that is not for it"})
        repo, oid, size = stored
        if len(body) != size or hashlib.sha256(body).hexdigest() != oid:
            return _Answer(400, {"error": "not what was announced"})
        repo.large[oid] = body
        return _Answer(200, b"", ETag=f'"{oid[:16]}"')

    def _committed(self, repo: Repo, name: str, revision: str, body: bytes) -> _Answer:
        self._need_token()
        head = repo.refs[revision]
        tree = dict(repo.commits[head])
        for line in map(json.loads, body.splitlines()):
            kind, value = line["key"], line["value"]
            if kind == "header":
                if value.get("parentCommit", head) != head:
                    return _Answer(412, {"error": "A commit has happened since. Please refresh."})
            elif kind == "file":
                tree[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
            elif kind == "lfsFile":
                if value["oid"] not in repo.large:
                    return _Answer(400, {"error": f"no such large file: {value['path']}"})
                tree[value["path"]] = Blob(repo.large[value["oid"]], lfs=True)
            elif tree.pop(value["path"], None) is None:
                text = "A file with this name doesn't exist"
                return _Answer(404, {"error": text}, X_Error_Code="EntryNotFound")
        commit = repo.commit(tree)
        url = f"{self.hub.url}/datasets/{name}/commit/{commit}"
        return _Answer(200, {"success": True, "commitOid": commit, "commitUrl": url})

    def _resolve(self, repo: Repo, name: str, revision: str, path: str) -> _Answer:
        commit = self._commit_of(repo, revision)
        blob = repo.commits[commit].get(path)
        if blob is None:
            return _Answer(404, {"error": path}, X_Error_Code="EntryNotFound")
        headers = {"X_Repo_Commit": commit, "ETag": f'"{blob.etag}"', "Accept_Ranges": "bytes"}
        if not blob.lfs:
            return self._part(blob.data, headers)
        headers["X_Linked_Size"] = str(len(blob.data))
        headers["X_Linked_ETag"] = f'"{blob.etag}"'
        return _Answer(302, Location=f"{self.hub.storage}/cdn/{name}/{blob.sha256}", **headers)

    def _part(self, data: bytes, headers: dict[str, str]) -> _Answer:
        asked = self.headers.get("Range")
        headers = {"Accept_Ranges": "bytes", "Content_Type": "application/octet-stream", **headers}
        if not asked:
            return _Answer(200, data, **headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(data) - int(last))
        stop = min(int(last) + 1, len(data)) if last and first else len(data)
        headers["Content_Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return _Answer(206, data[start:stop], **headers)


def _mode(asked: dict[str, Any], tree: dict[str, Blob]) -> dict[str, Any]:
    """Whether a file is a large one: by its name, its size, or because it is no text."""
    path = asked["path"]
    rules = tree[".gitattributes"].data.decode().splitlines()
    large = asked["size"] > _LARGE or any(fnmatch.fnmatch(path, x.split()[0]) for x in rules)
    try:
        base64.b64decode(asked["sample"])[:400].decode()
    except UnicodeDecodeError as error:
        large |= error.reason != "unexpected end of data"
    known = tree.get(path)
    return {
        "path": path,
        "uploadMode": "lfs" if large else "regular",
        "shouldIgnore": False,
        "oid": known.etag if known else None,
    }


def _entry(path: str, blob: Blob) -> dict[str, Any]:
    found = {"type": "file", "path": path, "oid": blob.git_oid, "size": len(blob.data)}
    if blob.lfs:
        size = len(blob.pointer)
        found["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": size}
    return found


def _folders(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest()}


def _refs(repo: Repo) -> dict[str, Any]:
    return {
        "branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": repo.refs["main"]}],
        "converts": [],
        "tags": [
            {"name": name, "ref": f"refs/tags/{name}", "targetCommit": commit}
            for name, commit in repo.tags.items()
        ],
    }


def _info(repo: Repo, name: str, commit: str) -> dict[str, Any]:
    tree = repo.commits[commit]
    found = {
        "_id": "0" * 24,
        "id": name,
        "author": name.partition("/")[0],
        "sha": commit,
        "lastModified": "2026-11-22T00:00:00.000Z",
        "createdAt": "2026-11-22T00:00:00.000Z",
        "private": repo.private,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        "siblings": [{"rfilename": path} for path in sorted(tree)],
    }
    card = tree.get("README.md")
    if card and card.data.startswith(b"---\n"):
        found["cardData"] = yaml.safe_load(card.data[4:].partition(b"\n---")[0])
    return found


@contextmanager
def serving() -> Iterator[Hub]:
    """The stand-in, listening on two free ports of loopback: its own, and its storage's."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.storage = (f"http://127.0.0.1:{one.server_address[1]}" for one in servers)
    threads = [threading.Thread(target=one.serve_forever, daemon=True) for one in servers]
    for one, thread in zip(servers, threads, strict=True):
        one.daemon_threads = True
        thread.start()
    try:
        yield hub
    finally:
        for one, thread in zip(servers, threads, strict=True):
            one.shutdown()
            one.server_close()
            thread.join()
