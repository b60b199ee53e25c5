"""Words: texts of exactly the length asked for, for any tokenizer and between any neighbours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from traj.build.tokens import Tokenizer, open_tokenizer
from traj.errors import UsageError
from traj.workload.words import ENDING_TOKENS, Words, aligned

BUILT_IN = ("o200k_base", "cl100k_base", "o200k_harmony")
# How models of the Llama 3 and Qwen families split text.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = pre_tokenizers.ByteLevel.alphabet()
SENTENCEPIECE = {"special_tokens": ["<unk>", "<s>", "</s>"]}


def split_bytes():
    regex = tokenizers.Regex(SPLIT)
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(regex, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def byte_level(pre_tokenizer, size, normalizer=None):
    fast = tokenizers.Tokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizer
    if normalizer:
        fast.normalizer = normalizer
    fast.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=BYTES, special_tokens=special, show_progress=False
    )
    return fast, trainer


def gpt2():
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), 4000)


def roberta():
    """Puts a space before every text that has none."""
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), 2000)


def qwen():
    return byte_level(split_bytes(), 4000, normalizers.NFC())


def only_bytes():
    """Hardly any merges: a word costs as many tokens as it has letters, and one for the space."""
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), len(BYTES) + 8)


def across_words():
    """No pre-tokenizer: tokens reach over spaces and lines."""
    return byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), 1500)


def phrases():
    """SentencePiece's marks without splitting at them: tokens hold several words."""
    fast = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    fast.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    return fast, trainers.BpeTrainer(vocab_size=2000, show_progress=False, **SENTENCEPIECE)


def llama2():
    """SentencePiece's BPE as a normalizer alone; a space before every text."""
    fast = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    fast.normalizer = normalizers.Replace(" ", "\u2581")
    # Trained on words, as SentencePiece does, then used without splitting.
    fast.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    special = [*SENTENCEPIECE["special_tokens"], *byte_tokens]
    return fast, trainers.BpeTrainer(vocab_size=3000, special_tokens=special, show_progress=False)


def metaspace():
    fast = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    fast.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    fast.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return fast, trainers.BpeTrainer(vocab_size=3000, show_progress=False, **SENTENCEPIECE)


def unigram():
    fast = tokenizers.Tokenizer(models.Unigram())
    fast.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    )
    fast.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    return fast, trainers.UnigramTrainer(
        vocab_size=2000, unk_token="<unk>", show_progress=False, **SENTENCEPIECE
    )


def wordpiece():
    fast = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    fast.normalizer = normalizers.BertNormalizer(lowercase=True)
    fast.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return fast, trainers.WordPieceTrainer(
        vocab_size=3000, special_tokens=special, show_progress=False
    )


KINDS = (
    gpt2, roberta, qwen, only_bytes, across_words, phrases, llama2, metaspace, unigram, wordpiece
)  # fmt: skip
NAMES = (*BUILT_IN, *(kind.__name__ for kind in KINDS))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Words]:
    """Words for every kind of tokenizer, the small ones trained on the standard library."""
    folder = Path(os.__file__).parent
    lines: list[str] = []
    for name in ("argparse", "ast", "datetime", "decimal", "doctest", "inspect", "subprocess"):
        path = folder / f"{name}.py"
        if path.is_file():
            lines += path.read_text("utf-8").splitlines(keepends=True)
    # Without a pre-tokenizer whole chunks are words to the trainer: a few lines each.
    chunks = ["".join(lines[at : at + 3]) for at in range(0, len(lines), 3)]
    found = {name: Words(open_tokenizer(name)) for name in BUILT_IN}
    for kind in KINDS:
        fast, trainer = kind()
        fast.train_from_iterator(chunks, trainer)
        if kind is llama2:
            fast.pre_tokenizer = None
            fast.normalizer = normalizers.Sequence(
                [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
            )
        path = tmp_path_factory.mktemp(kind.__name__) / "tokenizer.json"
        fast.save(str(path))
        found[kind.__name__] = Words(open_tokenizer(str(path)))
    return found


# What stands around a text: all that is known to stick to its neighbours, and plain text.
AWKWARD = [
    "", " ", "  ", "\n", "\n\n", "\r\n", "\t", "\x00", "a", "s", "Z9", "42", "'s", "'", '"', "(",
    ")", "/", "//", ".", "...", ";\n", "{\n", "\u0301", "e\u0301", "\u200d", "\ufe0f", "\U0001f642",
    "\u4e2d\u6587", "\u1100\u1161", "\u3000", "\xa0", "\u2581", "\u0120", "<|endoftext|>", "<s>",
    "<|im_start|>", "[MASK]", "##s", "You are", "def f(self):\n    return 1\n", " word",
    "    indented", "x" * 300, "\n" * 40, "the quick brown fox. " * 30, "\u4e2d" * 200, "a b " * 80,
    "x\n" * 90, "\t\n" * 20, " \n" * 20, "x\n\ny",
]  # fmt: skip
neighbours = st.lists(
    st.sampled_from(AWKWARD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    max_size=5,
).map("".join)
keys = st.binary(max_size=20)
# Below this many tokens a text may not exist: there is room for the ending, but for no word.
ALWAYS = 16


@settings(max_examples=60, deadline=None)
@given(tokens=st.integers(1, 300), key=keys, before=neighbours, after=neighbours)
def test_a_text_has_its_length_between_any_neighbours(made, tokens, key, before, after):
    """Counted whole, the neighbours have the tokens that they have alone, and the text its own."""
    for words in made.values():
        count = words.tokenizer.count
        try:
            text = words.text(tokens, key, before=before, after=after)
        except UsageError:
            assert tokens < ALWAYS
            continue
        whole, *alone = count([before + text + after, before, after])
        assert whole == tokens + sum(alone), words.tokenizer.name


@settings(max_examples=40, deadline=None)
@given(tokens=st.integers(ALWAYS, 200), key=keys, before=neighbours, after=neighbours)
def test_no_token_reaches_over_an_edge(made, tokens, key, before, after):
    """Where text is split into words and nothing is put before it, the tokens' ids are those of
    the three texts one after another."""
    for name in (*BUILT_IN, "gpt2", "qwen"):
        words = made[name]
        text = words.text(tokens, key, before=before, after=after)
        common = words.tokenizer.common
        assert common(before + text, before + text + after) == common(before + text, before + text)
        assert common(before, before + text) == words.tokenizer.count([before])[0]


def test_line_ends_are_left_alone(made):
    """However many line ends follow, none joins the text, though the counts may hide that."""
    for name in (*BUILT_IN, "gpt2", "qwen"):
        words = made[name]
        for lines in range(1, 65):
            after = "\n" * lines
            text = words.text(16, b"key", after=after)
            assert words.tokenizer.common(text, text + after) == 16


@settings(max_examples=25, deadline=None)
@given(
    key=keys,
    lengths=st.tuples(*[st.integers(1, 400)] * 2).map(sorted),
    afters=st.tuples(neighbours, neighbours),
)
def test_texts_of_a_key_share_all_but_the_ending(made, key, lengths, afters):
    """Whatever their lengths and what comes after, the longer begins with the shorter."""
    for words in made.values():
        try:
            short, long = (
                words.text(tokens, key, after=after)
                for tokens, after in zip(lengths, afters, strict=True)
            )
        except UsageError:
            assert lengths[0] < ALWAYS
            continue
        assert words.tokenizer.common(short, long) >= lengths[0] - ENDING_TOKENS


@settings(max_examples=40, deadline=None)
@given(pair=st.lists(st.binary(min_size=1, max_size=16), min_size=2, max_size=2, unique=True))
def test_texts_of_two_keys_differ_in_the_first_block(made, pair):
    """No cache block of 16 tokens holds what two keys give."""
    for words in made.values():
        one, other = (words.text(64, key, after="You are") for key in pair)
        assert words.tokenizer.common(one, other) < 16


@pytest.mark.parametrize("name", BUILT_IN)
def test_first_block_holds_64_bits(made, name):
    """Sixteen tokens are sixteen draws from 256 words, all a token alone or after a space."""
    words = made[name]
    text = words.text(16, b"key")
    assert len(text.split()) == 16
    nouns = {word for at in range(200) for word in words.text(64, b"%d" % at).split()}
    assert len(nouns) == 256
    assert set(words.tokenizer.count([*nouns, *(f" {noun}" for noun in nouns)])) == {1}


@pytest.mark.parametrize("name", NAMES)
def test_long_texts_are_exact(made, name):
    """Length does not matter, nor that a neighbour is long and has no place to cut."""
    words = made[name]
    for tokens, before, after in (
        (20_000, "", "You are a coding agent."),
        (20_000, "x" * 5000, "\u4e2d" * 5000),
        (1_000, "some text \n" * 2000, "{'key': 'value'}, " * 2000),
    ):
        text = words.text(tokens, b"long", before=before, after=after)
        whole, *alone = words.tokenizer.count([before + text + after, before, after])
        assert whole == tokens + sum(alone)


def test_text_is_lower_case_words_and_an_ending(made):
    """Nothing in it reads as data, code or a command: no digits, capitals or brackets."""
    for name in BUILT_IN:
        text = made[name].text(500, b"key", after="You are")
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyz \n")
        assert text.endswith("\n")


def test_other_processes_make_the_same_text(made):
    """A text hangs on its arguments alone: not on the process, nor on what was made before."""
    script = (
        "from traj.build.tokens import open_tokenizer; from traj.workload.words import Words;"
        "print(repr(Words(open_tokenizer()).text(40, b'key', before='x', after='You are')))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    run = [sys.executable, "-c", script]
    found = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    words = made["o200k_base"]
    for before in ("\n", "x"):
        words.text(20, b"other", before=before, after="1")
    assert found.stdout.strip() == repr(words.text(40, b"key", before="x", after="You are"))


def test_no_tokens_are_no_text(made):
    """A length of 0 gives the empty text, whatever its neighbours are."""
    assert made["o200k_base"].text(0, b"key", before="a", after="b") == ""


def test_a_length_that_no_text_has_is_one_clear_error(made):
    """Where no text fits, that is said in one line, with what to do; so for a negative length."""

    def count(texts):
        return [2 * len(text.split()) for text in texts]

    words = Words(Tokenizer("even", "0", count, lambda one, other: 0))
    assert len(words.text(6, b"key", before="a\n", after="\nb").split()) == 3
    with pytest.raises(UsageError, match="ask for another length") as raised:
        words.text(7, b"key", before="a\n", after="\nb")
    assert "\n" not in str(raised.value)
    with pytest.raises(UsageError, match="-1"):
        made["o200k_base"].text(-1, b"key")


def test_a_tokenizer_that_knows_no_words_is_refused(tmp_path):
    """Where all words are one unknown token, fresh text would be the same to an engine's cache."""
    fast = tokenizers.Tokenizer(models.WordLevel({"apple": 0, "?": 1}, unk_token="?"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path / "tokenizer.json"
    fast.save(str(path))
    with pytest.raises(UsageError, match="choose another tokenizer"):
        Words(open_tokenizer(str(path)))


def test_words_unknown_to_a_tokenizer_are_not_used(tmp_path):
    """Of a closed vocabulary the known words are drawn, never the token for unknown ones."""
    known = {"river": 0, "apple": 1, "lemon": 2, "?": 3}
    fast = tokenizers.Tokenizer(models.WordLevel(known, unk_token="?"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path / "tokenizer.json"
    fast.save(str(path))
    text = Words(open_tokenizer(str(path))).text(50, b"key")
    assert len(set(text.split())) > 1
    assert set(text.split()) <= set(known)


def test_lengths_are_rounded_up_to_blocks():
    """The smallest multiple of the block that is not below the length."""
    assert [aligned(tokens, 16) for tokens in (0, 1, 16, 17)] == [0, 16, 16, 32]
    assert aligned(7, 1) == 7
    with pytest.raises(UsageError):
        aligned(7, 0)
