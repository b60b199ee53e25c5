"""Checks that no text lies in both splits, to the letter or nearly so.

Compared are *telling* messages: of at least TELLING words, system prompts aside, boilerplate aside.
Boilerplate is what three repositories or more hold (agents' standing instructions, templates);
sessions whose repository is unknown count as of one repository, since copies of one session must
not make each other boilerplate. A message's text is its content and the arguments of its calls,
without ids, which differ where the same file is read twice.

What a person or a model wrote is an error in both splits. What was only read, the result of a tool
or a message that the agent put before the model (it begins with a tag, as `<system-reminder>`), is
a finding: repositories do share licence texts, and agents' reminders. It becomes an error where
what lies in both splits is a quarter of all telling text of a trajectory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.validation.report import Check, Fault, UnavailableError, faults
from traj.validation.splits import both_sides

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from traj.validation.tables import Tables

TELLING = 50  # words
REPOSITORIES = 3
SHARE = 0.25  # of a trajectory's telling words
NEAR = 0.7  # Jaccard similarity of the sets of three successive words: one word in twenty changed
_SHINGLE = 3  # words
_BANDS, _BAND = 32, 4  # a pair of similarity 0.7 meets in a band with probability 0.9998
_HASHES = _BANDS * _BAND
_LONGEST = 1_000_000  # characters of a message that are compared word by word
_PER_BAND = 8  # public messages that a private one is compared with, of those in one band
_TAG = r"^\s*<[a-z][a-z0-9_-]*>"
_MESSAGE = ("trajectory_id", "message")


def split_content(tables: Tables) -> Iterator[Fault]:
    """No telling message, and no trajectory of such length, lies word for word in both splits."""
    import polars as pl

    rows = _of_both(tables)
    shared = rows.filter(_in_both("text"))
    yield from _told(rows, shared, "lies in public too")
    heads = tables.frame("trajectories", ["trajectory_id", "content_sha256"])
    heads = heads.join(both_sides(tables), on="trajectory_id", maintain_order="left")
    heads = heads.join(rows, on="trajectory_id", how="semi", maintain_order="left")
    same = heads.filter(_in_both("content_sha256"), pl.col("split") == "private")
    yield from faults("trajectories", same, "the whole trajectory lies in public too")


def split_near_duplicates(tables: Tables) -> Iterator[Fault]:
    """No telling message lies nearly word for word in both splits (MinHash, similarity 0.7)."""
    import polars as pl

    rows = _of_both(tables)
    exact = rows.filter(_in_both("text"))
    pairs = _near(rows)
    own = pairs.select("text", repository="repository", of="private")
    other = pairs.select("text", repository="repository_public", of="private")
    known = pl.concat([own, other]).group_by("of").agg(_repositories())
    telling = known.filter(pl.col("repositories") < REPOSITORIES)["of"]
    near = rows.filter(pl.col("split") == "private", pl.col("text").is_in(telling.implode()))
    yield from _told(rows, near, "lies nearly so in public too", also=exact)


def texts(tables: Tables) -> pl.DataFrame:
    """The telling messages: trajectory_id, message, role, read (not written by person or model),
    words, text (a hash of it), digest (its MinHash; empty where rensa is not installed)."""
    import polars as pl

    arguments = pl.col("tool_calls").list.eval(pl.element().struct.field("arguments"))
    whole = pl.concat_str(
        pl.col("content"), arguments.list.join("\n"), separator="\n", ignore_nulls=True
    )
    parts = []
    columns = [*_MESSAGE, "role", "content", "tool_calls"]
    for batch in tables.batches("messages", columns):
        found = (
            batch.filter(pl.col("role") != "system")
            .with_columns(whole=whole)
            .with_columns(shingled=pl.col("whole").str.slice(0, _LONGEST).str.extract_all(r"\w+"))
            .with_columns(words=pl.col("shingled").list.len())
            .filter(pl.col("words") >= TELLING)
        )
        by_agent = (pl.col("role") == "user") & pl.col("whole").str.contains(_TAG)
        read = (pl.col("role") == "tool") | by_agent
        text = pl.col("whole").hash()
        found = found.with_columns(read=read, text=text, digest=_digests(found))
        parts.append(found.select(*_MESSAGE, "role", "read", "words", "text", "digest"))
    return pl.concat(parts) if parts else _no_texts()


def _no_texts() -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(
        schema=[
            ("trajectory_id", pl.String),
            ("message", pl.Int32),
            ("role", pl.String),
            ("read", pl.Boolean),
            ("words", pl.UInt32),
            ("text", pl.UInt64),
            ("digest", pl.Array(pl.UInt32, _HASHES)),
        ]
    )


def _of_both(tables: Tables) -> pl.DataFrame:
    """The telling messages of both splits, with split and repository."""
    tables.need_text()
    found = both_sides(tables)
    return tables.once(texts).join(found, on="trajectory_id", maintain_order="left")


def _repositories() -> pl.Expr:
    import polars as pl

    return pl.col("repository").n_unique().alias("repositories")


def _in_both(name: str) -> pl.Expr:
    """What has the same value in both splits, in too few repositories to be boilerplate."""
    import polars as pl

    splits = pl.col("split").n_unique().over(name)
    repositories = pl.col("repository").n_unique().over(name)
    return (splits > 1) & (repositories < REPOSITORIES)


def _told(
    rows: pl.DataFrame, shared: pl.DataFrame, where: str, also: pl.DataFrame | None = None
) -> Iterator[Fault]:
    import polars as pl

    shared = shared.filter(pl.col("split") == "private")
    written = shared.filter(~pl.col("read"))
    remedy = "name the repositories in a families file"
    what = f"what was written {where}: {remedy}"
    yield from faults("messages", written, what, show=["role", "words"])
    read = shared.filter("read")
    what = f"what was read {where}"
    yield from faults("messages", read, what, show=["role", "words"], severity="finding")
    both = shared if also is None else pl.concat([shared, also]).unique(_MESSAGE)
    own = rows.group_by("trajectory_id").agg(pl.col("words").sum().alias("all"))
    share = both.group_by("trajectory_id").agg(pl.col("words").sum()).join(own, on="trajectory_id")
    much = share.filter(
        pl.col("words") >= SHARE * pl.col("all"),
        pl.col("trajectory_id").is_in(shared["trajectory_id"].implode()),
    ).sort("trajectory_id")
    what = f"a quarter of the trajectory or more {where}: {remedy}"
    yield from faults("trajectories", much, what, show=["words", "all"])


def _near(rows: pl.DataFrame) -> pl.DataFrame:
    """Pairs of nearly equal texts: `private` and text (hashes), repository, repository_public."""
    import polars as pl

    if not rows.is_empty() and rows["digest"].null_count():
        raise UnavailableError('rensa is not installed: pip install "traj-toolkit[release]"')
    rows = rows.unique(["text", "split", "repository"], maintain_order=True)
    private = rows.filter(pl.col("split") == "private")
    public = rows.filter(pl.col("split") == "public").with_row_index("of")
    bands = (
        _bands(public.select("of", "digest"))
        .group_by("band", "key")
        .agg(pl.col("doc").head(_PER_BAND))
    )
    private = private.with_row_index("of")
    met = (
        _bands(private.select("of", "digest"))
        .join(bands.explode("doc"), on=["band", "key"], suffix="_public")
        .select(of="doc", other="doc_public")
        .unique()
    )
    pairs = met.join(private, on="of").join(
        public.rename({"of": "other"}), on="other", suffix="_public"
    )
    alike = (pl.col("digest") == pl.col("digest_public")).mean().alias("alike")
    scores = (
        pairs.select("of", "other", "digest", "digest_public")
        .explode("digest", "digest_public")
        .group_by("of", "other")
        .agg(alike)
        .filter(pl.col("alike") >= NEAR)
    )
    pairs = pairs.join(scores, on=["of", "other"]).filter(pl.col("text") != pl.col("text_public"))
    return pairs.select("text", "repository", "repository_public", private=pl.col("text"))


def _bands(digests: pl.DataFrame) -> pl.DataFrame:
    """Where a digest may meet others: doc, band, key."""
    import polars as pl

    place = pl.int_range(pl.len(), dtype=pl.UInt32).over("of")
    long = digests.explode("digest").with_columns(place=place)
    weight = (pl.col("place") % _BAND).cast(pl.UInt64) * 2 + 1
    mixed = pl.col("digest").cast(pl.UInt64) * 0x9E3779B97F4A7C15 * weight
    return (
        long.with_columns(band=pl.col("place") // _BAND, mixed=mixed)
        .group_by(pl.col("of").alias("doc"), "band")
        .agg(key=pl.col("mixed").hash().sum())
    )


def _digests(found: pl.DataFrame) -> pl.Series:
    """The MinHash of each row's `shingled`."""
    import polars as pl

    kind = pl.Array(pl.UInt32, _HASHES)
    try:
        from rensa import RMinHash
    except ImportError:
        return pl.Series([None] * found.height, dtype=kind)
    words = found.select("shingled").with_row_index("doc").explode("shingled")
    mixed = pl.lit(0, pl.UInt64)
    for place in range(_SHINGLE):
        mixed = (mixed * 0x100000001B3) ^ pl.col("shingled").hash().shift(-place)
    whole = pl.col("doc") == pl.col("doc").shift(1 - _SHINGLE)
    shingles = words.select("doc", mixed=mixed).filter(whole)
    counts = shingles.group_by("doc", maintain_order=True).len()["len"]
    offsets = pl.concat([pl.Series([0], dtype=pl.UInt64), counts.cast(pl.UInt64).cum_sum()])
    hashes = memoryview(shingles["mixed"].rechunk().to_arrow().buffers()[1]).cast("Q")
    rows = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets.to_list(), _HASHES, 1)
    return pl.Series(rows.to_rows(), dtype=kind)


CHECKS = (
    Check(split_content, scope="dataset"),
    Check(split_near_duplicates, scope="dataset"),
)
