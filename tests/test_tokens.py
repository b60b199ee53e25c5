"""Token counts: the compiled-in tokenizers are tiktoken's own, and nothing is counted twice."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
import tiktoken
import toktok
from hypothesis import given, settings
from hypothesis import strategies as st

from traj.build.tokens import Counter, Tokenizer, open_tokenizer
from traj.errors import UsageError

# The split pattern of o200k_base as tiktoken defines it.
PATTERN = "|".join(
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)


@pytest.fixture(scope="module")
def ranks() -> dict[bytes, int]:
    """The vocabulary that is compiled into toktok, token by token."""
    encoding = toktok._encoding("o200k_base")
    return {encoding.decode_bytes([rank]): rank for rank in range(199_998)}


def test_the_compiled_vocabulary_is_the_published_one(ranks):
    """Written out as a .tiktoken file it has the hash that tiktoken itself demands."""
    lines = (base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    assert digest == open_tokenizer("o200k_base").sha256


@pytest.fixture(scope="module")
def reference(ranks) -> tiktoken.Encoding:
    return tiktoken.Encoding("o200k", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})


# The two are built with different Unicode tables: U+323B0 is a letter to one (Unicode 17) and
# unassigned to the other. Characters that this Python knows are assigned in both.
assigned = st.characters(exclude_categories=["Cs", "Cn"])


@settings(max_examples=300, deadline=None)
@given(text=st.text(assigned, max_size=400))
def test_counts_are_tiktokens(reference, text):
    """Any text of assigned characters has as many tokens as tiktoken's own encoder gives it."""
    (count,) = open_tokenizer().count([text])
    assert count == len(reference.encode_ordinary(text))


@settings(max_examples=100, deadline=None)
@given(front=st.text(assigned, max_size=60), ends=st.tuples(*[st.text(assigned, max_size=30)] * 2))
def test_common_tokens_are_those_of_the_ids(reference, front, ends):
    """Two texts share as many tokens as their ids do."""
    texts = [front + end for end in ends]
    ids = [reference.encode_ordinary(text) for text in texts]
    shared = 0
    while shared < min(map(len, ids)) and ids[0][shared] == ids[1][shared]:
        shared += 1
    assert open_tokenizer().common(*texts) == shared


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n" * 300,
        "a" * 5000,
        "<|endoftext|>",
        "\0",
        "e\u0301 " * 50,
        "🧠" * 40,
        "\t x" * 99,
    ],
)
def test_awkward_texts_have_tiktokens_counts(reference, text):
    """Long runs, control characters and strings like special tokens count as plain text."""
    (count,) = open_tokenizer().count([text])
    assert count == len(reference.encode_ordinary(text))


def test_each_distinct_message_is_counted_once():
    """The tokenizer sees every text of a key once, whatever how often the key comes."""
    seen: list[str] = []

    def count(texts):
        seen.extend(texts)
        return [len(text) for text in texts]

    counter = Counter(Tokenizer("t", "0", count, lambda one, other: 0))
    texts = {b"a": ["one", "three"], b"b": ["to"]}
    keys = [b"a", b"b", b"a", b"a"]
    assert counter.count(keys, lambda i: texts[keys[i]]) == [(3, 5), (2,), (3, 5), (3, 5)]
    assert counter.count([b"b"], lambda i: ["never"]) == [(2,)]
    assert seen == ["one", "three", "to"]


def test_a_tokenizer_json_counts_as_its_library_does(tmp_path):
    """A model's own tokenizer file is taken by path, and known by its hash."""
    from tokenizers import Tokenizer as Fast
    from tokenizers import models, pre_tokenizers

    fast = Fast(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path / "tokenizer.json"
    fast.save(str(path))
    opened = open_tokenizer(str(path))
    assert opened.count(["a b c", ""]) == [3, 0]
    assert opened.common("a b c", "a b a") == 2
    assert opened.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_tokenizer_json_counts_all_of_the_text(tmp_path):
    """Truncation, padding and special tokens of the file do not change counts."""
    from tokenizers import Tokenizer as Fast
    from tokenizers import models, pre_tokenizers

    fast = Fast(models.BPE(vocab={"a": 0, "b": 1, "<": 2, ">": 3}, merges=[]))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.add_special_tokens(["<a>"])
    fast.enable_truncation(2)
    fast.enable_padding(length=9)
    path = tmp_path / "tokenizer.json"
    fast.save(str(path))
    assert open_tokenizer(str(path)).count(["abab", "a", "<a>"]) == [4, 1, 3]


@pytest.mark.parametrize("name", ["no_such_encoding", "missing.json", "broken.json"])
def test_a_tokenizer_that_is_not_there_is_one_clear_error(name, tmp_path, monkeypatch):
    """Unknown names, missing files and foreign files are wrong calls that say so."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text(json.dumps({"not": "a tokenizer"}))
    with pytest.raises(UsageError, match=name):
        open_tokenizer(name)


def test_an_encoding_that_cannot_be_downloaded_is_one_clear_error(monkeypatch, tmp_path):
    """Without tiktoken's cache and without a network the remedy is named."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("tiktoken.load.read_file", refuse)
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    with pytest.raises(UsageError, match="TIKTOKEN_CACHE_DIR"):
        open_tokenizer("p50k_base")
