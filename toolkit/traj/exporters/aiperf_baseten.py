"""aiperf's `baseten_trace` (aiperf 0.13): Parquet, a row a request, its whole prompt as one text.

For a completions endpoint, so a prompt is the texts of its messages, a blank line behind each:
leading system messages, then tool definitions as JSON, then the others (reasoning, content, calls).
Who says what is lost, and with it the tokens that a chat template would add: `input_tokens` is the
sum of the texts' own, blank lines aside. The text is quadratic in a session's length by nature;
pages are larger than prompts, so that compression finds the repetition.

A session is a lane, compactions included, since each row is a whole prompt. Times are milliseconds
with all trajectories beginning at 0. Replayed with `--no-open-loop-replay` (the command here), a
session begins at its time and each next request follows the end of the one before by the recorded
pause; without it each is sent at its own time.

`total_hashes` are the prompt's whole blocks of 64 tokens, which aiperf sends along as hints for
routers; `cached_tokens_reference` is what the provider found cached.
"""

from __future__ import annotations

import shlex
from collections import Counter
from itertools import pairwise
from typing import IO, TYPE_CHECKING, Any

from traj.exporters import sessions
from traj.exporters.tally import Tally
from traj.workload.cache_simulation import Part, Prompt
from traj.workload.flat_prompts import BLANK, FlatPrompts
from traj.workload.prompt_blocks import PromptBlocks
from traj.workload.timeline import NO_CLOCK, Timeline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa
    import pyarrow.parquet as pq

    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions
    from traj.workload.play import Play

NAME = "aiperf-baseten"
SUMMARY = (
    "aiperf baseten_trace: Parquet for completions, whole prompts as text, times, cache blocks"
)
HARNESS = "aiperf 0.13"
PROOF = "replayed"
TEXT = True
WHOLE_ROWS = True  # for what the provider found cached
CARRIES = ("text", "lengths", "hashes", "delays", "output_length")
DROPS = {
    "model": "one model answers: those of a trajectory that used several are not told apart",
    "no_clock": NO_CLOCK,
    "roles": "requests whose messages become one text, without a word on who says what",
    "tools": "requests whose tool definitions become part of the text",
    "wait": "requests that wait for another lane: sessions know nothing of each other",
}
FILE = "baseten.parquet"
BLOCK = 64
GROUP_BYTES = 8 << 20  # of text, about: what is held at a time
_PART = 4096  # characters at least that a prompt is read back in
_START_BITS = 28  # of a place in the file: where in its prompt a part starts


def command(tally: Tally, options: LoadOptions) -> str:
    """Run in the export's folder, with URL, MODEL and TOKENIZER set."""
    del tally
    model = shlex.quote(options.model) if options.model else '"$MODEL"'
    length = "--extra-inputs ignore_eos:true"
    if options.output == "capped":
        length = "--no-force-min-tokens"
    return (
        f'aiperf profile --model {model} --url "$URL" --tokenizer "$TOKENIZER" '
        f"--endpoint-type completions --streaming --use-server-token-count "
        f"--input-file {FILE} --custom-dataset-type baseten_trace "
        f"--no-open-loop-replay {length}"
    )


def write(phase: Phase, out: Path) -> Tally:
    """Writes baseten.parquet and sessions.jsonl."""
    import pyarrow.parquet as pq

    tally = Tally()
    options: dict[str, Any] = {
        "compression": "zstd",
        "compression_level": 9,
        "use_dictionary": ["provided_session_id"],
        "data_page_size": GROUP_BYTES,
    }
    with (
        pq.ParquetWriter(out / FILE, _schema(), **options) as file,
        (out / sessions.FILE).open("wb") as notes,
    ):
        rows = _Rows(file)
        for play in phase:
            _write(play, rows, tally, notes)
            tally.play(play)
        rows.flush()
    return tally


def prompts(out: Path, phase: int) -> Iterator[Prompt]:
    """A phase's requests in the order of the file."""
    import pyarrow.parquet as pq

    plays = sessions.plays(out)
    counts: Counter[str] = Counter()  # prompts by play
    last: dict[str, tuple[int, str]] = {}  # by session of the play: its last prompt
    row = -1
    with pq.ParquetFile(out / FILE) as file:
        for batch in file.iter_batches(16, columns=["provided_session_id", "prompt"]):
            for session, text in zip(*(column.to_pylist() for column in batch), strict=True):
                row += 1
                play = plays[session]
                if not counts[play]:
                    last = {}
                after, before = last.get(session, (None, ""))
                if not text.startswith(before):
                    after, before = None, ""
                last[session] = counts[play], text
                counts[play] += 1
                starts = [len(before), *_ends(text, len(before))]
                places = (row << _START_BITS | start for start in starts)
                parts = [
                    Part((text[start:end],), place)
                    for (start, end), place in zip(pairwise(starts), places, strict=False)
                ]
                yield Prompt(phase, play, parts, after)


def read(out: Path, place: int) -> Sequence[str]:
    """The text of a part again."""
    import pyarrow.parquet as pq

    row, start = place >> _START_BITS, place & ((1 << _START_BITS) - 1)
    with pq.ParquetFile(out / FILE) as file:
        group = 0
        while row >= (rows := file.metadata.row_group(group).num_rows):
            row, group = row - rows, group + 1
        text = file.read_row_group(group, columns=["prompt"])["prompt"][row].as_py()
    return (text[start : next(_ends(text, start))],)


def _ends(text: str, start: int) -> Iterator[int]:
    """Where the parts end that a text is read back in, from one part's start: behind blank lines,
    in the same places wherever texts are the same so far.
    """
    while start < len(text):
        blank = text.find(BLANK, start + _PART)
        start = len(text) if blank < 0 else blank + len(BLANK)
        yield start


class _Rows:
    """Rows on their way to the file, a row group's worth at a time."""

    def __init__(self, file: pq.ParquetWriter) -> None:
        self._file = file
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        self._bytes += len(row["prompt"]) + 8 * len(row["total_hashes"])
        if self._bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._file.write_table(pa.Table.from_pylist(self._rows, schema=self._file.schema))
        self._rows, self._bytes = [], 0


def _write(play: Play, rows: _Rows, tally: Tally, notes: IO[bytes]) -> None:
    timeline = Timeline(play)
    lanes = timeline.lanes()
    texts = FlatPrompts(play)
    cached = play.rows.turns.column("cached_tokens").to_pylist()
    for prompt in PromptBlocks(play, BLOCK):
        turn = prompt.turn
        start, end = timeline.start_us[turn], timeline.end_us[turn]
        rows.add(
            {
                "timestamp_start_unix_ms": round(start / 1000),
                "prompt": texts.text(turn),
                "input_tokens": prompt.tokens,
                "output_tokens": play.output_tokens(turn),
                "provided_session_id": _session(play, play.turns["lane"][turn]),
                "duration_e2e_ms": round(end / 1000) - round(start / 1000),
                "cached_tokens_reference": cached[turn],
                "total_hashes": prompt.ids,
                "block_size": BLOCK,
            }
        )
    for lane, turns in lanes.items():
        sessions.note(notes, _session(play, lane), play, turns)
    tally.sessions += len(lanes)
    tally.messages += texts.messages
    tally.lose("roles", len(play.sent))
    tally.lose("tools", texts.with_tools)
    tally.lose("no_clock", timeline.unclocked)
    tally.lose("wait", timeline.waits_elsewhere(lanes.values()))
    tally.lose("model", len({play.turns["model"][turn] for turn in play.sent}) > 1)


def _session(play: Play, lane: int) -> str:
    return f"{play.name}.l{lane}"


def _schema() -> pa.Schema:
    import pyarrow as pa

    required = {"timestamp_start_unix_ms": pa.int64(), "prompt": pa.large_string()}
    required |= {"input_tokens": pa.int64(), "output_tokens": pa.int64()}
    fields = [pa.field(name, kind, nullable=False) for name, kind in required.items()]
    fields += [pa.field("provided_session_id", pa.string(), nullable=False)]
    fields += [pa.field("duration_e2e_ms", pa.int64()), pa.field("block_size", pa.int64())]
    fields += [pa.field("cached_tokens_reference", pa.int64())]
    return pa.schema([*fields, pa.field("total_hashes", pa.list_(pa.int64()))])
