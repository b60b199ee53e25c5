"""What must not be seen in what is published: secrets in rows and pages, and the private split in
public pages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from traj import schema
from traj.dataset import Dataset
from traj.dataset.repositories import repository_name
from traj.errors import DatasetError
from traj.publish.plan import CARD, PRIVATE, RepositoryPlan
from traj.publish.refusals import Refusal, Release

if TYPE_CHECKING:
    import pyarrow as pa

    from traj.scrub import Detector

_NAMED = 5
# Columns that hold no text: ids and hashes, which look as if they were drawn by lot, and words of
# a list. They are what scrubbing leaves alone, too.
_NO_TEXT = re.compile(r"(^|\.)(id|sha256|name|.*_id|.*_sha256|schema_version|commit)$")
_TEXTS = ("messages.name", "files.name")  # names that are text all the same
_HEX = re.compile(r"[0-9a-f]{32,}")
_FILE_MARK = re.compile(r"[0-9a-f]{12,}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def secrets(release: Release) -> Iterator[Refusal]:
    """A new search finds no secret and nothing personal, in rows and pages."""
    from traj.scrub import open_detector

    detector = open_detector(release.rules)
    remedy = "scrub it (traj scrub), or allow it in the rules file that --rules names"
    for dataset, _ in release.going():
        found = Counter(_found(detector, texts(dataset)))
        for reason, count in sorted(found.items()):
            yield Refusal("secrets", str(dataset.path), reason, remedy, count)
    for plan in release.plans:
        for reason, count in sorted(Counter(_found(detector, _pages(plan))).items()):
            yield Refusal("secrets", plan.repo_id, reason, remedy, count)


def _found(detector: Detector, given: Iterable[tuple[str, str]]) -> Iterator[str]:
    """What is wrong with texts, given with their places: the kind of secret, never the secret."""
    from traj.scrub import Redaction, ScrubError

    check = Redaction(detector, "").check
    for place, text in given:
        try:
            check(text, place)
        except ScrubError as error:
            yield str(error).removeprefix(": ")


def card_names(release: Release) -> Iterator[Refusal]:
    """A card names splits whose files are there, and a public card not the private one."""
    remedy = "this is a fault of traj's: report it"
    for plan in release.plans:
        paths = [file.path for file in plan.files]
        missing = set(plan.names.files) - {config for config, _, _ in _splits_named(plan)}
        for config in sorted(missing):
            reason = f"the card does not name the config {config}"
            yield Refusal("card_names", plan.repo_id, reason, remedy)
        for config, split, patterns in _splits_named(plan):
            if split == PRIVATE and not plan.private:
                reason = f"the public card names the split {split!r} in config {config}"
                yield Refusal("card_names", plan.repo_id, reason, remedy)
            for pattern in patterns:
                if not any(fnmatchcase(path, pattern) for path in paths):
                    reason = f"the card names files of {config}/{split} that are not there"
                    yield Refusal("card_names", plan.repo_id, reason, remedy)


def private_shown(release: Release) -> Iterator[Refusal]:
    """No page of a public repository holds an id, a file, a canary or a repository of the private
    split."""
    if release.private is None:
        return
    remedy = "this would be public for good: nothing was sent; report it"
    hidden = _hidden(release.private)
    marks = hidden | {one[:12] for one in hidden}  # data files bear so much of their hash
    names = _private_repositories(release.private)
    for plan in release.plans:
        if plan.private:
            continue
        for file in plan.files:
            if marks.intersection(_FILE_MARK.findall(file.path)):
                reason = f"{file.path} is a file of the private split"
                yield Refusal("private_shown", plan.repo_id, reason, remedy)
        for path, said in _pages(plan):
            text = said.lower()
            tokens = {*_HEX.findall(text), *_UUID.findall(text)}
            for token in sorted(tokens & hidden)[:_NAMED]:
                reason = f"{path} holds {token}, of the private split"
                yield Refusal("private_shown", plan.repo_id, reason, remedy)
            for name in names:
                if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text):
                    reason = f"{path} names {name}, a private repository"
                    yield Refusal("private_shown", plan.repo_id, reason, remedy)


def texts(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Every distinct text of a dataset's rows within a file, with the table and column that it
    stands in."""
    for table in schema.TABLES:
        for file in dataset.files(table):
            with dataset.parquet(file) as parquet:
                for batch in parquet.iter_batches(batch_size=4096):
                    for name in batch.schema.names:
                        for path, array in _strings(f"{table}.{name}", batch.column(name)):
                            for text in array.unique().drop_null().to_pylist():
                                yield path, text


def _pages(plan: RepositoryPlan) -> Iterator[tuple[str, str]]:
    """The pages that are text; pictures are not."""
    for file in plan.pages:
        with suppress(UnicodeDecodeError):
            yield file.path, file.read().decode()


def _strings(path: str, array: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    """The columns of text within a column."""
    import pyarrow as pa

    if pa.types.is_struct(array.type):
        for number, field in enumerate(array.type):
            yield from _strings(f"{path}.{field.name}", array.flatten()[number])
    elif pa.types.is_list(array.type):
        yield from _strings(path, array.flatten())
    elif pa.types.is_string(array.type) and (path.endswith(_TEXTS) or not _NO_TEXT.search(path)):
        yield path, array


def _splits_named(plan: RepositoryPlan) -> Iterator[tuple[str, str, list[str]]]:
    """What the card's configs say: config, split, file patterns."""
    for config in front_matter(plan).get("configs") or ():
        for one in config.get("data_files") or ():
            paths = one.get("path") or []
            patterns = [paths] if isinstance(paths, str) else list(paths)
            yield str(config.get("config_name")), str(one.get("split")), patterns
    infos = front_matter(plan).get("dataset_info") or ()
    for info in [infos] if isinstance(infos, dict) else infos:
        for split in info.get("splits") or ():
            yield str(info.get("config_name")), str(split.get("name")), []


def front_matter(plan: RepositoryPlan) -> dict[str, Any]:
    """The data at the head of a card, by the Hub's own reader. Raises DatasetError where that does
    not take it."""
    from huggingface_hub import DatasetCard

    (card,) = (file for file in plan.files if file.path == CARD)
    try:
        data: Any = DatasetCard(card.read().decode()).data
        found: dict[str, Any] = data.to_dict()
    except ValueError as error:
        line = str(error).partition("\n")[0]
        raise DatasetError(f"{plan.repo_id}: the Hub would not take the card: {line}") from None
    return found


def _hidden(private: Dataset) -> frozenset[str]:
    """Ids, hashes and canaries that only the private split has."""
    heads = private.table("trajectories", ["trajectory_id", "content_sha256"])
    found = {name for column in heads.columns for name in column.to_pylist()}
    # Both splits may have the very same prompts, and files without rows are all the same.
    its = (file for file in private.manifest.files if file.rows and file.table != "prompts")
    found |= {file.sha256 for file in its}
    found |= {str(facts.get("canary")) for facts in private.manifest.splits.values()}
    found.add(str(private.manifest.canary))
    return frozenset(found - {"None"})


def _private_repositories(private: Dataset) -> list[str]:
    """`owner/name` of repositories, in lower case."""
    rows = private.table("trajectories", ["repository"]).column(0).to_pylist()
    known = {repository_name(row) for row in rows} - {None}
    return sorted({"/".join(str(name).split("/")[-2:]) for name in known})
