"""Scrubbing: what is planted goes, what is ordinary stays, and nothing tells what was found."""

from __future__ import annotations

import base64
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plants import CONTEXTS, DIGITS, HEX, Plant, drawn, planted, plants
from traj.errors import UsageError
from traj.events import Lane, Message, Repository, Session, ToolCall, Turn
from traj.scrub import Detector, Engines, Redaction, ScrubError, load_rules, scrub_session
from traj.scrub.found import Found
from traj.scrub.views import View, unwrapped, views

PERSONAL = {
    "mail alice.b+c@firm-mail.co.uk now": "alice.b",
    "Signed-off-by: Zoe <zoe_k@kuehn.de>": "zoe_k",
    "Author: Zoe <zo3@kühn.de>": "zo3",
    "see /home/alice7/src/app.py": "alice7",
    "cd /Users/zoe.kuehn/work && ls": "zoe.kuehn",
    "open file:///home/alice7/x.html": "alice7",
    "cc -I/home/alice7/include -c x.c": "alice7",
    "at C:\\Users\\ZKuehn\\AppData\\x": "ZKuehn",
    "in /mnt/c/Users/zkuehn/Desktop": "zkuehn",
    "~/.claude/projects/-Users-zkuehn-work/x.jsonl": "zkuehn",
    "zkuehn@buildbox7:~/work$ make test": "zkuehn@buildbox7",
    "[zkuehn@buildbox7 work]$ make test": "buildbox7",
    "drwxr-xr-x  5 zkuehn  staff  160 Jan  1 10:00 src": "zkuehn",
    "uid=1000(zkuehn) gid=1000(zkuehn) groups=27(sudo)": "zkuehn",
    "env: USER=zkuehn SHELL=/bin/zsh": "zkuehn",
    "Linux buildbox7 6.1.0-18-amd64 #1 SMP x86_64 GNU/Linux": "buildbox7",
    "ping Zoes-MacBook-Pro.local failed": "Zoes-MacBook",
    "connect to 52.14.201.7 port 22: refused": "52.14.201.7",
    "GET http://18.205.93.10:8080/health": "18.205.93.10",
    "inet6 2600:1f18:4a3:69ab:1::5 scope global": "1f18:4a3",
}

ORDINARY = [
    "commit 3f786850e387550fdab836ed7e6dc881de23001b",
    "id: 123e4567-e89b-12d3-a456-426614174000",
    '"integrity": "sha512-' + base64.b64encode(bytes(range(64))).decode() + '"',
    'checksum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"',
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg"
    + base64.b64encode(bytes(range(256)) * 40).decode(),
    "Chrome/120.0.6099.10 Safari/537.36, v10.20.30.40, django==4.2.11.1, 1.2.3.4",
    "127.0.0.1:8080 10.1.2.3 192.168.1.20 0.0.0.0 255.255.255.0 ::1 fe80::1",
    "std::fmt::Display, a::b::c, 12:34:56, 2024:01:02",
    "@pytest.mark.skip\n@app.get('/x')\nfoo@2x.png react@18.2.0 actions/checkout@v4",
    "git@github.com:owner/name.git and noreply@anthropic.com and a@example.com",
    "password = os.environ['DB_PASSWORD']\ntoken = get_token_from_session_store_v2(request)",
    "postgres://postgres:postgres@localhost/test redis://:${REDIS_PASSWORD}@cache:6379",
    "Authorization: Bearer $TOKEN, Bearer <your-token>, Bearer {access_token}",
    "/home/user/x /home/runner/work /home/node/app /root/x /Users/Shared https://a.com/home/page",
    "the token count of secret_sharing_scheme_v2_implementation is 12345678901234567890",
    "AKIAIOSFODNN7EXAMPLE",
    "msg_01Xab3dEfGh1jKlMnOpQrStUv toolu_01A09q90qw90lq917835lq9 req_011CSHoEeqs5C35K2UUqR7Fy",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def detector(home: Path) -> Detector:
    """With the shipped rules, made where nothing is to be written."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "XDG_CACHE_HOME", "KF_RULE_CACHE_DIR"):
            patch.setenv(name, str(home))
        rules = load_rules()
        return Detector(rules, Engines(rules.helpers))


def scrubbed(detector: Detector, *texts: str) -> list[str]:
    """Texts of one trajectory, scrubbed."""
    redaction = Redaction(detector, "session x")
    for text in texts:
        redaction.learn(text)
    return [redaction.clean(text, "message") for text in texts]


def some(kind: str, seed: int = 1) -> Plant:
    return next(plant for plant in plants(random.Random(seed)) if plant.kind == kind)


def test_recall(detector: Detector) -> None:
    """Of 29 kinds of secrets in five contexts each, at least 98 % are gone to within 10 letters,
    and in no context fewer than 95 %."""
    missed: Counter[tuple[str, str]] = Counter()
    total = 0
    for seed in range(4):
        rng = random.Random(seed)
        kinds = plants(rng)
        assert len(kinds) >= 26
        for plant in kinds:
            for case in planted(rng, plant):
                total += 1
                assert case.left(case.text), "a plant that is not there proves nothing"
                (clean,) = scrubbed(detector, case.text)
                missed[plant.kind, case.context] += case.left(clean)
                if case.context == "plain":
                    assert clean.startswith("The file says:\n"), "too much is gone"
                    assert clean.endswith("\nand that is all."), "too much is gone"
    assert missed.total() <= 0.02 * total, missed
    for context in CONTEXTS:
        assert sum(n for (_, c), n in missed.items() if c == context) <= 0.05 * total / 5, missed


@pytest.mark.parametrize("text", PERSONAL)
@pytest.mark.parametrize("context", ["plain", "json", "escaped", "base64", "diff"])
def test_personal(detector: Detector, text: str, context: str) -> None:
    """E-mail, home directories, users, hosts and public addresses are gone in every context."""
    about = f"Output of the command:\n{text}\nexit 0"
    if context == "json":
        (out,) = scrubbed(detector, json.dumps({"command": text}))
        assert PERSONAL[text] not in json.dumps(json.loads(out), ensure_ascii=False)
        return
    if context == "escaped":
        about = json.dumps({"stdout": about})
    elif context == "base64":
        run = base64.b64encode(about.encode()).decode()
        assert run not in scrubbed(detector, f"data: {run}")[0]
        return
    elif context == "diff":
        about = f"@@ -1 +1,2 @@\n context\n+# {text}\n"
    assert PERSONAL[text] in about or context == "escaped"
    assert PERSONAL[text] not in scrubbed(detector, about)[0]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary(detector: Detector, text: str) -> None:
    """Hashes, ids, images, versions, examples and names in programs stay as they are."""
    assert scrubbed(detector, text) == [text]
    assert scrubbed(detector, json.dumps({"x": text})) == [json.dumps({"x": text})]


# What the corpus holds for certain: people's mail addresses and home directories, a public address.
BOUNDS = {"user": 850, "email": 20, "ipv4": 4, "host": 2}


def test_false_positives(detector: Detector, shared: Path) -> None:
    """In 7.7 MB of real sessions, all formats, nothing is taken for a secret, and no more for
    personal than is."""
    texts: dict[str, None] = {}

    def walk(value: object) -> None:
        if isinstance(value, str):
            texts[value] = None
        elif isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, dict):
            for item in value.values():
                walk(item)

    for path in sorted((shared / "corpus").rglob("*.json*")):
        for line in (
            [whole] if _parses(whole := path.read_text("utf-8", "replace")) else whole.split("\n")
        ):
            walk(json.loads(line) if _parses(line) else line)
    assert sum(map(len, texts)) > 5_000_000
    kinds = Counter(found.kind for text in texts for found in detector.found(text))
    assert {kind: n for kind, n in kinds.items() if n > BOUNDS.get(kind, 0)} == {}


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_placeholders(detector: Detector) -> None:
    """Equal secrets get equal placeholders, numbered by first appearance, in every text and form;
    recording again gives the same."""
    one, two = some("github-pat", 1).secret, some("github-pat", 2).secret
    texts = (f"a {two} b", json.dumps({"x": f"é {one}\n{two}"}), f"{one[:20]}\n{one[20:]}")
    first = scrubbed(detector, *texts)
    assert first[0] == "a [REDACTED:github-pat:1] b"
    assert "é [REDACTED:github-pat:2]\\n[REDACTED:github-pat:1]".replace("é", "\\u00e9") in first[1]
    assert first[2] == "[REDACTED:github-pat:2]"
    assert scrubbed(detector, *texts) == first


@pytest.mark.parametrize("kind", ["github-pat", "gitlab", "slack", "jwt", "anthropic", "datadog"])
def test_lists(detector: Detector, kind: str) -> None:
    """Secrets below each other are each replaced, and nothing of the words around them."""
    secrets = [some(kind, seed).secret for seed in (1, 2, 3)]
    text = "".join(f"API_KEY={secret}\nother words\n" for secret in secrets) + "\n".join(secrets)
    (clean,) = scrubbed(detector, text)
    for number, secret in enumerate(secrets, 1):
        text = text.replace(secret, f"#{number}#")
    assert re.sub(r"\[REDACTED:[a-z-]+:(\d)\]", r"#\1#", clean) == text


def test_names(detector: Detector) -> None:
    """A user known from one text is replaced as a word in all of them, by a name nobody has."""
    texts = ("in /home/zkuehn/src", "ask zkuehn, not zkuehnel; user1 agrees", "mail zkuehn@x.org")
    clean = scrubbed(detector, *texts)
    assert clean[0] == "in /home/user2/src"
    assert clean[1] == "ask user2, not zkuehnel; user1 agrees"
    assert clean[2] == "mail person1@example.com"


def test_spread(detector: Detector) -> None:
    """A secret that one text gives away by its name is replaced where it stands alone, too."""
    secret = drawn(random.Random(5), HEX, 32)
    clean = scrubbed(detector, f"DD_API_KEY={secret}", f"sent {secret} to the agent")
    assert secret not in clean[1]
    assert scrubbed(detector, f"sent {secret} to the agent") == [f"sent {secret} to the agent"]


def test_seam(detector: Detector) -> None:
    """A secret that is cut in two between the results of two tools is removed from both."""
    secret = some("anthropic").secret
    texts = (f"page 1\nkey: {secret[:50]}", f"{secret[50:]}\npage 2")
    steps = [
        Message(role="tool", content=text, tool_call_id=str(n)) for n, text in enumerate(texts)
    ]
    session = Session("x", "s", "a", lanes=[Lane("main", steps=[*steps])])
    first, second = (
        step.content for step in scrub_session(session, detector).session.lanes[0].steps
    )
    assert first == "page 1\nkey: [REDACTED:anthropic-api-key:1]"
    assert second == "[REDACTED:anthropic-api-key:1]\npage 2"


@pytest.mark.parametrize(
    "text",
    [
        "binary\0output\0token {}",
        "token {}  # gitleaks:allow",
        "token {}  # betterleaks:allow",
        "x" * 200_000 + " {} " + "y" * 200_000,
        "word " * 3_277 + "{}" + " word" * 5_000,
        "\x1b[32mtoken\x1b[0m \x1b[1m{}\x1b[0m",
        "https://a.test/?t={}&x=1",
        "déjà vu ✓ {} ü",
    ],
)
def test_traps(detector: Detector, text: str) -> None:
    """NUL bytes, comments that ask scanners to look away, long lines, the edges of pieces, terminal
    colours and other scripts hide nothing, and the rest of the text stays."""
    secret = some("discord").secret
    (clean,) = scrubbed(detector, text.format(secret))
    assert clean == text.format("[REDACTED:discord-bot-token:1]")


def test_colours_within(detector: Detector) -> None:
    """A match that grep has coloured within a secret does not break it."""
    secret = some("github-pat").secret
    (clean,) = scrubbed(detector, f"a.env:{secret[:9]}\x1b[01;31m{secret[9:20]}\x1b[m{secret[20:]}")
    assert clean == "a.env:[REDACTED:github-pat:1]"


def test_wrapped_base64(detector: Detector) -> None:
    """Base64 of many lines is read as a whole: a secret across two of its lines is found."""
    plant = some("openai")
    run = base64.encodebytes(("# settings of the app\n" + plant.text).encode()).decode()
    (clean,) = scrubbed(detector, f"$ base64 .env\n{run}done")
    assert clean == "$ base64 .env\n[REDACTED:openai-api-key:1]\ndone"


json_values = st.recursive(
    st.text(max_size=30) | st.integers() | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(json_values, st.sampled_from(["github-pat", "rsa-key", "azure-storage"]), st.booleans())
def test_json(detector: Detector, value: object, kind: str, ascii_only: bool) -> None:
    """Arguments that are JSON stay JSON, with the same structure, whatever stands in them."""
    plant = some(kind)
    text = json.dumps(
        {"before": value, plant.text: plant.text, "n": [1, value]}, ensure_ascii=ascii_only
    )
    clean = json.loads(scrubbed(detector, text)[0])
    (name,) = clean.keys() - {"before", "n"}
    assert "[REDACTED:" in name
    assert name == clean[name]
    assert list(clean) == ["before", name, "n"]
    assert clean["before"] == value
    assert clean["n"] == [1, value]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["a", "é", "\\n", '\\"', "\\\\", "\\u0041", "%2F", "\n", " ", "\x1b[1m", "\0"]
        )
    )
)
def test_views(parts: list[str]) -> None:
    """Every stretch of a reading says where it comes from: alone, that place reads the same."""
    text = "".join(parts)
    for view in list(views(text, as_json=False))[1:2]:
        for start in range(len(view.text)):
            first, last = view.place(start, start + 1)
            alone = list(views(text[first:last], as_json=False))[-1]
            assert alone.text == view.text[start]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["a1b2c3d4e5", "f6g7h8", "\n", " ", "     7\t", "\\", "word"])))
def test_unwrapped(parts: list[str]) -> None:
    """A reading without line breaks consists of the text's own characters, each from its place."""
    text = "".join(parts)
    view = unwrapped(View(text))
    for place, letter in enumerate(view.text if view else ""):
        first, last = view.place(place, place + 1)
        assert text[first:last] == letter or (letter == "\n" and first == len(text))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_again(detector: Detector, text: str) -> None:
    """A scrubbed text is left as it is by scrubbing it again, as another recording would."""
    plant = some("stripe")
    (clean,) = scrubbed(detector, f"{text} {plant.text} /home/zkuehn/{text} 52.14.201.7 q@kuehn.de")
    assert plant.secret not in clean
    assert scrubbed(detector, clean) == [clean]


def session_with(secret: str) -> Session:
    answer = Message(
        role="assistant",
        content=f"I found {secret}",
        reasoning=f"so {secret} is it",
        tool_calls=(
            ToolCall("c1", "Bash", json.dumps({"command": f'echo "{secret}" > /home/zkuehn/k'})),
        ),
    )
    asked = Message(role="user", content=f"my key is {secret}")
    turn = Turn(
        answer,
        system=f"Home: /home/zkuehn {secret}",
        tools=json.dumps([{"d": secret}]),
        error=secret,
    )
    return Session(
        "x",
        "0c0e7a52",
        "agent",
        title=f"About {secret}",
        command=f"agent --key {secret}",
        lanes=[
            Lane(
                "main",
                name="main",
                steps=[asked, turn, Message(role="tool", content=secret, name=secret)],
            ),
            Lane("subagent", name=f"look at {secret}", steps=[asked, turn]),
        ],
        repository=Repository(
            f"https://zkuehn:{secret}@github.com/zkuehn/x.git", "abc", f"zkuehn/{secret}"
        ),
    )


def test_session(detector: Detector) -> None:
    """Every text of a session is scrubbed, equal messages stay equal, the repository keeps its
    owner, arguments stay JSON, and the session given is left alone."""
    secret = some("gitlab").secret
    session = session_with(secret)
    before = repr(session)
    result = scrub_session(session, detector)
    assert repr(session) == before
    assert secret not in repr(result.session)
    assert "zkuehn" not in repr(result.session).replace("github.com/zkuehn/x", "")
    main, sub = result.session.lanes
    assert main.steps[:2] == sub.steps[:2]
    assert json.loads(main.steps[1].answer.tool_calls[0].arguments) == {
        "command": 'echo "[REDACTED:gitlab-pat:1]" > /home/user1/k'
    }
    assert result.session.repository.url == "https://github.com/zkuehn/x.git"
    assert result.replaced == {"gitlab-pat": 20, "user": 5}
    assert result.redactions == 25


def test_check(detector: Detector) -> None:
    """What is about to be written is looked at again, for names learned from the session too."""
    result = scrub_session(session_with(some("gitlab").secret), detector)
    result.redaction.check(result.session.lanes[0].steps[0].content, "content")
    for text in (some("npm").text, "as zkuehn said"):
        with pytest.raises(ScrubError):
            result.redaction.check(text, "content")


def test_each_text_once(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that stands in a thousand places is scanned once, and once more if it changed."""
    scans: Counter[str] = Counter()
    scan = Detector._scan

    def counted(self: Detector, text: str, depth: int) -> list[Found]:
        scans[text] += 1
        return scan(self, text, depth)

    monkeypatch.setattr(Detector, "_scan", counted)
    step = Message(role="user", content=f"unique {drawn(random.Random(), DIGITS, 12)} /home/zkuehn")
    session = Session("x", "s", "a", lanes=[Lane("main", steps=[step] * 1000)])
    scrub_session(session, detector)
    scrub_session(session, detector)
    assert sorted(scans.values()) == [1, 1]


def test_fails_closed(detector: Detector, monkeypatch: pytest.MonkeyPatch, capfd, caplog) -> None:
    """What cannot be removed stops the recording with one line that names session, field and kind,
    and neither that line, its causes, standard output nor the log tell the secret."""
    monkeypatch.setattr(Redaction, "_replace", lambda self, text, *rest: text)
    secret = some("stripe").secret
    with pytest.raises(ScrubError) as caught:
        scrub_session(session_with(secret), detector)
    error = caught.value
    assert (
        str(error)
        == "session 0c0e7a52: title: a secret of kind stripe-access-token could not be removed"
    )
    told = [
        *capfd.readouterr(),
        caplog.text,
        repr(error),
        repr(error.__context__),
        repr(error.__cause__),
    ]
    told += [repr(found) for found in detector.found(secret)]
    assert not any(secret[8:16] in text for text in told)


def test_writes_compiled_rules_alone(detector: Detector, home: Path) -> None:
    """In the home directory the engines leave nothing but their own rules, in the cache folder:
    what they were shown is in none of it."""
    plant = some("slack")
    scrubbed(detector, plant.text)
    left = [path for path in home.rglob("*") if path.is_file()]
    assert all(path.suffix == ".vscdb" for path in left)
    assert not any(plant.secret.encode() in path.read_bytes() for path in left)


def test_rules_file(detector: Detector, tmp_path: Path) -> None:
    """A team's words and patterns are replaced, what it allows stays, and the version says so."""
    file = tmp_path / "rules.toml"
    file.write_text(
        """
[[words]]
kind = "project"
words = ["Blue Fin", "fin"]

[[patterns]]
kind = "badge"
regex = 'E-(?P<secret>[0-9]{6})'
marks = ["E-"]

[allow]
values = ["ops@firm.org"]
patterns = ['.*@lists[.]firm[.]org']
users = ["zkuehn"]
kinds = ["ipv4"]
""",
        "utf-8",
    )
    rules = load_rules(file)
    assert rules.version == load_rules().version + "+own"
    detector = Detector(rules, detector._engines)
    assert scrubbed(
        detector,
        "BLUE FIN and Fin, not final; E-123456",
        "ops@firm.org x@lists.firm.org y@firm.org 52.14.201.7",
        "/home/zkuehn/x",
        '{"id": 1, "b": "E-123456"}',
    ) == [
        "[REDACTED:project:1] and [REDACTED:project:2], not final; E-[REDACTED:badge:1]",
        "ops@firm.org x@lists.firm.org person1@example.com 52.14.201.7",
        "/home/zkuehn/x",
        '{"id": 1, "b": "E-[REDACTED:badge:1]"}',
    ]
    assert "Blue" not in repr(rules)
    assert "[0-9]{6}" not in repr(rules.patterns[0]) + repr(rules.patterns[1])


def test_number_in_json(detector: Detector, tmp_path: Path) -> None:
    """A JSON number that a pattern finds becomes a string: the text stays JSON."""
    file = tmp_path / "rules.toml"
    file.write_text("[[patterns]]\nkind = 'badge'\nregex = '77[0-9]{7}'\n", "utf-8")
    detector = Detector(load_rules(file), detector._engines)
    (clean,) = scrubbed(detector, '{"id": 771234567, "n": [-771234567.5]}')
    assert json.loads(clean) == {"id": "[REDACTED:badge:1]", "n": ["[REDACTED:badge:1]"]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[words]]\nwords = ['Bluefin'\n", "not TOML"),
        ("[[word]]\nwords = ['Bluefin']", "unknown key 'word'"),
        ("[words]\nwords = ['Bluefin']", "write [[words]]"),
        ("[[words]]\nword = ['Bluefin']", "unknown key 'word'"),
        ("[[words]]\nwords = 'Bluefin'", "list of strings"),
        ("[[words]]\nwords = []", "without words"),
        ("[[patterns]]\nregex = 'Bluefin('", "does not compile"),
        ("[[patterns]]\nregex = '(Bluefin)?'", "matches the empty text"),
        ("[[patterns]]\nkind = 'Bluefin]'\nregex = 'x'", "small letters"),
        ("[[patterns]]\nregex = 'x'\ncheck = 'Bluefin'", "unknown check"),
        ("[allow]\npatterns = ['Bluefin[']", "does not compile"),
    ],
)
def test_rules_errors(tmp_path: Path, text: str, problem: str) -> None:
    """A wrong rules file is told in one line that quotes none of its words."""
    file = tmp_path / "own.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(UsageError) as caught:
        load_rules(file)
    assert problem in str(caught.value)
    assert str(caught.value).startswith(f"{file}: ")
    assert "Bluefin" not in str(caught.value)
    assert "\n" not in str(caught.value)
