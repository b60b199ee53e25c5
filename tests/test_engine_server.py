"""The simulated engine behind HTTP, as real clients of the APIs meet it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import msgspec
import pytest

from traj.build.tokens import open_tokenizer
from traj.engine.faults import Faults
from traj.engine.options import ServerOptions
from traj.engine.parameters import PS_PER_US, Parameters, open_parameters
from traj.engine.prompts import Piece, Prompts
from traj.engine.realtime import Live
from traj.engine.request import Request
from traj.engine.serving import in_thread
from traj.errors import UsageError

openai = pytest.importorskip("openai", reason="the clients' side: pip install openai")

QUICK = msgspec.structs.replace(
    open_parameters("demo"), step_us=300, sequence_us=0, prefill_us=0.1, arrive_us=0, reply_us=0
)
LONG = "A river runs through the garden. " * 40
COUNT = open_tokenizer().count


CLIENTS: list[openai.OpenAI] = []


def client(url: str, **options: object) -> openai.OpenAI:
    options = {"timeout": 20, "max_retries": 0} | options
    CLIENTS.append(openai.OpenAI(base_url=f"{url}/v1", api_key="none", **options))
    return CLIENTS[-1]


@pytest.fixture(autouse=True)
def _farewell() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with in_thread(QUICK, ServerOptions(answer_tokens=30)) as found:
        yield found


def served(parameters: Parameters = QUICK, **options: object):
    return in_thread(parameters, ServerOptions(**options))


def metrics(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line[0] != "#"
    }


def metric(url: str, name: str) -> float:
    return sum(value for key, value in metrics(url).items() if key.split("{")[0] == name)


def eventually(true) -> None:
    """What another thread is about to do."""
    for _ in range(500):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it never came to be")


def said(events: list) -> str:
    return "".join(one.choices[0].delta.content or "" for one in events if one.choices)


def test_a_stream_has_a_token_an_event_and_usage_at_its_end(url):
    """OpenAI's client, forced length: tokens as counted, usage once, the reason told."""
    stream = client(url).chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": LONG}],
        max_tokens=17,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    events = list(stream)
    texts = [one for one in events if one.choices and one.choices[0].delta.content]
    assert len(texts) == 17
    assert COUNT([said(events)]) == [17]
    assert [one.usage for one in events[:-1]] == [None] * (len(events) - 1)
    usage = events[-1].usage
    assert usage.completion_tokens == 17
    assert usage.prompt_tokens == COUNT([LONG])[0] + 3 + 2
    assert events[-2].choices[0].finish_reason == "length"


def test_usage_in_a_stream_is_only_sent_when_asked_for(url):
    """As OpenAI has it."""
    events = list(
        client(url).chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
    )
    assert {one.usage for one in events} == {None}
    assert events[-1].choices[0].finish_reason == "stop"
    assert COUNT([said(events)]) == [30]


@pytest.mark.parametrize(
    ("options", "tokens", "reason"),
    [
        ({}, 30, "stop"),
        ({"max_tokens": 12}, 12, "length"),
        ({"max_completion_tokens": 13, "max_tokens": 99}, 13, "length"),
        ({"max_tokens": 50}, 30, "stop"),
        ({"max_tokens": 50, "extra_body": {"ignore_eos": True}}, 50, "length"),
        ({"max_tokens": 50, "extra_body": {"min_tokens": 41}}, 41, "stop"),
        ({"max_tokens": 50, "extra_body": {"min_tokens": 50}}, 50, "length"),
    ],
)
def test_answers_are_as_long_as_asked_for(url, options, tokens, reason):
    """Capped, forced, or ended by itself."""
    asked = [{"role": "user", "content": "Hi"}]
    answer = client(url).chat.completions.create(model="demo", messages=asked, **options)
    assert answer.usage.completion_tokens == tokens
    assert answer.choices[0].finish_reason == reason
    assert COUNT([answer.choices[0].message.content]) == [tokens]


def test_a_conversation_finds_its_own_prompts_and_answers():
    """Cached are whole blocks of what was sent and answered, and never the last token."""
    with served(answer_tokens=40) as url:
        create = client(url).chat.completions.create
        messages = [{"role": "system", "content": LONG}, {"role": "user", "content": "One."}]
        first = create(model="demo", messages=messages)
        again = create(model="demo", messages=messages)
        assert first.usage.prompt_tokens_details.cached_tokens == 0
        whole = (again.usage.prompt_tokens - 1) // 16 * 16
        assert again.usage.prompt_tokens_details.cached_tokens == whole
        assert again.choices[0].message.content == first.choices[0].message.content
        messages.append({"role": "assistant", "content": first.choices[0].message.content})
        third = create(model="demo", messages=[*messages, {"role": "user", "content": "Two."}])
        # Of the answer's last token nothing was computed.
        known = (first.usage.prompt_tokens + 40 - 1) // 16 * 16
        assert third.usage.prompt_tokens_details.cached_tokens == known
        other = create(model="demo", messages=[{"role": "user", "content": "One."}])
        assert other.usage.prompt_tokens_details.cached_tokens == 0
        found = metric(url, "vllm:prefix_cache_hits_total")
        assert found == whole + known


def test_tools_and_calls_are_part_of_the_prompt(url):
    """A tool, a call and its result each make it longer by their tokens."""
    create = client(url).chat.completions.create
    function = {"name": "read_file", "parameters": {"type": "object", "properties": {}}}
    tool = {"type": "function", "function": function}
    call = {"id": "1", "type": "function", "function": {"name": "read_file", "arguments": "{}"}}
    user = {"role": "user", "content": "Hi"}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "river"}]}
    lengths = [
        create(model="demo", messages=messages, **more).usage.prompt_tokens
        for messages, more in (
            ([user], {}),
            ([user], {"tools": [tool]}),
            ([user, called], {}),
            ([user, called, result], {}),
        )
    ]
    as_sent = COUNT([json.dumps(value, separators=(",", ":")) for value in (tool, [call])])
    assert lengths[1] - lengths[0] == as_sent[0] + 3
    assert lengths[2] - lengths[0] == as_sent[1] + 3
    assert lengths[3] - lengths[2] == 1 + 3


def test_completions_take_text_and_tokens(url):
    """One prompt of either kind; several are refused."""
    create = client(url).completions.create
    answer = create(model="demo", prompt=LONG)
    assert answer.usage.prompt_tokens == COUNT([LONG])[0]
    assert COUNT([answer.choices[0].text]) == [16]
    assert create(model="demo", prompt=[5, 6, 7]).usage.prompt_tokens == 3
    assert create(model="demo", prompt=[[5, 6, 7]]).usage.prompt_tokens == 3
    events = list(create(model="demo", prompt="Hi", stream=True, max_tokens=5))
    assert COUNT(["".join(one.choices[0].text for one in events)]) == [5]
    for prompt in (["a", "b"], [], [-1]):
        with pytest.raises(openai.BadRequestError):
            create(model="demo", prompt=prompt)


def test_responses_whole_and_streamed(url):
    """The same text either way, with usage."""
    responses = client(url).responses
    whole = responses.create(model="demo", instructions=LONG, input="Hi")
    assert whole.status == "completed"
    assert COUNT([whole.output_text]) == [whole.usage.output_tokens] == [30]
    with responses.stream(model="demo", instructions=LONG, input="Hi") as stream:
        deltas = [one.delta for one in stream if one.type == "response.output_text.delta"]
        streamed = stream.get_final_response()
    assert "".join(deltas) == streamed.output_text == whole.output_text
    cached = streamed.usage.input_tokens_details.cached_tokens
    assert cached == (whole.usage.input_tokens - 1) // 16 * 16
    short = responses.create(
        model="demo", input=[{"role": "user", "content": "Hi"}], max_output_tokens=4
    )
    assert (short.status, short.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_messages_whole_and_streamed(url):
    """Anthropic's client: what was cached is not among the input tokens."""
    anthropic = pytest.importorskip("anthropic", reason="pip install anthropic")
    CLIENTS.append(anthropic.Anthropic(base_url=url, api_key="none", max_retries=0))
    messages = CLIENTS[-1].messages
    asked = {
        "model": "demo",
        "system": f"The garden. {LONG}",
        "messages": [{"role": "user", "content": "Hi"}],
    }
    whole = messages.create(max_tokens=9, **asked)
    assert (whole.stop_reason, whole.usage.output_tokens) == ("max_tokens", 9)
    with messages.stream(max_tokens=99, **asked) as stream:
        streamed = stream.get_final_message()
    assert (streamed.stop_reason, streamed.usage.output_tokens) == ("end_turn", 30)
    assert COUNT([streamed.content[0].text]) == [30]
    cached = streamed.usage.cache_read_input_tokens
    assert cached == (whole.usage.input_tokens - 1) // 16 * 16
    assert streamed.usage.input_tokens + cached == whole.usage.input_tokens
    with pytest.raises(anthropic.NotFoundError):
        messages.create(max_tokens=9, **(asked | {"model": "other"}))


def test_what_is_wrong_with_a_request_is_told(url):
    """The status and a line, as clients expect them."""
    create = client(url).chat.completions.create
    user = [{"role": "user", "content": "Hi"}]
    with pytest.raises(openai.NotFoundError, match="`other` does not exist"):
        create(model="other", messages=user)
    with pytest.raises(openai.BadRequestError, match="messages: there are none"):
        create(model="demo", messages=[])
    with pytest.raises(openai.BadRequestError, match="max_tokens must be at least 1"):
        create(model="demo", messages=user, max_tokens=0)
    with pytest.raises(openai.BadRequestError, match="one answer"):
        create(model="demo", messages=user, n=2)
    with pytest.raises(openai.BadRequestError, match="more than the context of 200000"):
        create(model="demo", messages=[{"role": "user", "content": "a b " * 110_000}])
    request = urllib.request.Request(f"{url}/v1/chat/completions", b"\xff{")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 400
    assert b"Traceback" not in caught.value.read()
    caught.value.close()


def test_models_and_health(url):
    """What clients ask before they begin."""
    (model,) = client(url).models.list().data
    assert model.id == "demo"
    assert model.max_model_len == QUICK.max_context
    with urllib.request.urlopen(f"{url}/health") as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("error", openai.InternalServerError),
        ("overload", openai.InternalServerError),
        ("hang", openai.APITimeoutError),
        ("truncate", openai.APIConnectionError),
    ],
)
def test_faults_are_what_a_client_would_meet(fault, expected):
    """Each as an error of its own, and the engine has nothing left to do."""
    with served(faults=Faults.of([fault])) as url:
        with pytest.raises(expected):
            client(url, timeout=1).chat.completions.create(
                model="demo", messages=[{"role": "user", "content": "Hi"}]
            )
        eventually(lambda: metric(url, "vllm:num_requests_running") == 0)
        assert metrics(url)[f'traj:faults_total{{fault="{fault}",model_name="demo"}}'] == 1


def test_a_truncated_stream_ends_in_the_midst():
    """Half of the tokens came, then neither an end nor usage."""
    with served(faults=Faults.of(["truncate"])) as url:
        stream = client(url).chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": "Hi"}],
            max_tokens=20,
            stream=True,
        )
        texts = (event.choices[0].delta.content for event in stream)
        assert sum(bool(next(texts)) for _ in range(1 + 10)) == 10
        with pytest.raises(openai.APIConnectionError):
            next(texts)
        assert metric(url, "vllm:request_success_total") == 1


def test_an_answer_without_usage():
    """Streamed with the option, or whole."""
    with served(faults=Faults.of(["no-usage"])) as url:
        create = client(url).chat.completions.create
        user = [{"role": "user", "content": "Hi"}]
        assert create(model="demo", messages=user).usage is None
        options = {"include_usage": True}
        events = list(create(model="demo", messages=user, stream=True, stream_options=options))
        assert {one.usage for one in events} == {None}


def test_faults_befall_the_same_requests_with_the_same_seed():
    """Their share of the requests, by order."""

    def outcomes(seed: int) -> list[bool]:
        with served(faults=Faults.of(["error:0.3"]), seed=seed, answer_tokens=1) as url:
            create = client(url).chat.completions.create
            found = []
            for _ in range(30):
                try:
                    create(model="demo", messages=[{"role": "user", "content": "Hi"}])
                    found.append(True)
                except openai.InternalServerError:
                    found.append(False)
            return found

    assert outcomes(1) == outcomes(1) != outcomes(2)
    assert 15 < sum(outcomes(1)) < 29


@pytest.mark.parametrize(
    "wanted", [["nothing"], ["error:x"], ["error:2"], ["error:0.6", "hang:0.6"]]
)
def test_impossible_faults_are_refused(wanted):
    """Before anything is served."""
    with pytest.raises(UsageError):
        Faults.of(wanted)


def test_who_leaves_is_forgotten():
    """A client that goes away in the midst of a stream frees its place in the batch."""
    slow = msgspec.structs.replace(QUICK, step_us=20_000)
    with served(slow) as url:
        stream = client(url).chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": "Hi"}],
            max_tokens=10_000,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        next(iter(stream))
        assert metric(url, "vllm:num_requests_running") == 1
        stream.close()
        eventually(lambda: metric(url, "vllm:num_requests_running") == 0)
        assert (
            metrics(url)['vllm:request_success_total{finished_reason="abort",model_name="demo"}']
            == 1
        )


def test_a_stream_can_say_several_tokens_at_once():
    """The first comes alone; the text is the same."""
    with served(stream_interval=8) as url, served() as other:
        found = []
        for one in (url, other):
            stream = client(one).chat.completions.create(
                model="demo",
                messages=[{"role": "user", "content": "Hi"}],
                max_tokens=33,
                stream=True,
            )
            found.append([event for event in stream if event.choices[0].delta.content])
    assert len(found[0]) <= 1 + 4
    assert said(found[0]) == said(found[1])


def test_a_prompt_costs_what_it_adds():
    """A longer prompt's layout begins with the shorter one's, and nothing is encoded twice."""
    encoded: list[str] = []

    def encode(text: str) -> list[int]:
        encoded.append(text)
        return [ord(letter) for letter in text]

    prompts = Prompts(encode, 4)
    pieces = [Piece("system", ("abcdefg",)), Piece("user", ("hij",)), Piece("assistant", ("k",))]
    short, long = prompts.lay(pieces[:2]), prompts.lay(pieces)
    assert encoded == ["abcdefg", "hij", "k"]
    assert short.tokens == 10 + 6 + 2
    # What opens the answer is how the answer's own message begins.
    shared = short.tokens // 4
    assert long.blocks[:shared] == short.blocks[:shared]
    assert list(short.blocks) + list(prompts.following(short, [ord("k"), 0, 0])) != long.blocks
    alone = Prompts(encode, 4).lay(pieces)
    assert (alone.blocks, alone.tokens) == (long.blocks, long.tokens)
    assert not set(prompts.tokens([1] * 4 + [2] * 4).blocks) & set(
        prompts.tokens([3] * 4 + [2] * 4).blocks
    )
    other = prompts.lay([Piece("system", ("abcdefg",)), Piece("user", ("hix",))])
    assert other.blocks[:3] == short.blocks[:3]
    assert not set(other.blocks[3:]) & set(short.blocks)


def test_a_late_process_lets_requests_in_by_the_times_at_which_they_came():
    """The step that begins at 300 µs does not know who came at 500, though it is 500 by then."""
    us, clock = PS_PER_US, [0]

    class Frozen(Live):
        def now_ps(self) -> int:
            return clock[0]

    live = Frozen(QUICK)
    first = live.submit(Request(9, 9), "first", 0, None)
    live._advance(0, 0)
    clock[0] = 500 * us
    second = live.submit(Request(9, 9), "second", 450 * us, None)
    live._advance(0, clock[0])
    engine = live.fleet.engines[0]
    assert list(engine.running) == [first.progress]
    assert 600 * us <= engine.ends_ps < 610 * us
    clock[0] = 900 * us
    live._advance(0, clock[0])
    assert list(engine.running) == [first.progress, second.progress]
    assert second.progress.arrived_ps == 500 * us
    assert live.late_s == pytest.approx(300e-6, rel=0.1)


def test_the_command_says_where_it_is_and_ends_when_told():
    """One line with the URL; interrupted or terminated, it ends with 0 and says nothing more."""
    for number in (signal.SIGINT, signal.SIGTERM):
        command = [sys.executable, "-m", "traj", "simulate-engine", "demo", "--port", "0"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            line = process.stdout.readline()
            url = line.split()[-1]
            assert url.startswith("http://127.0.0.1:")
            assert "a model, not a measurement" in line
            with urllib.request.urlopen(f"{url}/models") as answer:
                assert answer.status == 200
            os.kill(process.pid, number)
            rest, errors = process.communicate(timeout=20)
            assert (process.returncode, rest, errors) == (0, "", "")


def test_the_command_says_what_is_wrong_in_a_line():
    """Unknown engines, faults and addresses end with 2."""
    for words in (["nope"], ["--fault", "nope"], ["--port", "70000"], ["--host", "192.0.2.1"]):
        done = subprocess.run(
            [sys.executable, "-m", "traj", "simulate-engine", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.startswith("traj: ")
        assert len(done.stderr.splitlines()) == 1


def test_the_engines_are_listed():
    """For people and for machines."""
    command = [sys.executable, "-m", "traj", "simulate-engine", "--list"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "h100-8b" in shown
    assert "a model, not a measurement" in shown
    found = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True).stdout)
    assert {one["name"]: one["kv_blocks"] for one in found}["h100-8b"] == 24_800
