"""The card's YAML: what the Hub, `datasets` and search know a dataset by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traj import schema
from traj.errors import MissingExtraError, UsageError
from traj.publish.card import licences
from traj.publish.card.markup import plain
from traj.publish.card.names import DEFAULT, REPOSITORY, SPLIT, VERSION, Names

if TYPE_CHECKING:
    from traj.dataset import DataFile, Dataset
    from traj.publish.card.frames import Frames

_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B")
_TAGS = ("agent-traces", "coding-agents", "inference-benchmark", "prefix-caching", "traj")


def front_matter(dataset: Dataset, frames: Frames, names: Names) -> str:
    """The YAML between the card's first two rules, as huggingface_hub and datasets write it.

    Raises MissingExtraError without those, UsageError for a split that they would not take.
    """
    try:
        from datasets import DatasetInfo, Features
        from datasets.info import DatasetInfosDict
        from datasets.utils.metadata import MetadataConfigs
        from huggingface_hub import DatasetCardData
    except ImportError:
        raise MissingExtraError("a dataset card", "hub") from None
    _check(names)
    held = licences.of(frames)
    data = DatasetCardData(
        pretty_name=pretty_name(dataset, names),
        license=licences.hub_id(held),
        language=["code"],  # people's own languages are not in the record
        task_categories=["text-generation"],
        size_categories=[_size(len(frames.tables[DEFAULT]))],
        tags=[*_TAGS, *(["format:agent-traces"] if names.traces else [])],
    )
    if data.license == licences.OTHER:
        data["license_name"] = "by-repository"
        data["license_link"] = f"https://huggingface.co/datasets/{names.repo_id}#licences"
    MetadataConfigs({config: _files(names, config) for config in names.files}).to_dataset_card_data(
        data
    )
    DatasetInfosDict(
        {
            config: DatasetInfo(
                features=Features.from_arrow_schema(schema.arrow(config)),
                **_counts(dataset, names, config),
            )
            for config in names.files
            if config in schema.TABLES
        }
    ).to_dataset_card_data(data)
    return str(data.to_yaml(line_break="\n")).rstrip("\n")


def pretty_name(dataset: Dataset, names: Names) -> str:
    return plain(dataset.manifest.name or names.name)


def examples(dataset: Dataset, names: Names, config: str, split: str) -> int:
    """How many rows a config's split has."""
    return sum(file.rows for file in data_files(dataset, names, config, split))


def data_files(dataset: Dataset, names: Names, config: str, split: str) -> list[DataFile]:
    """The dataset's files that are published as a config's split.

    They are told by their paths; where those were changed, by the split, or by being all there is.
    """
    known = dataset.files(config)
    paths = set(names.files[config][split])
    by_path = [file for file in known if file.path in paths]
    if len(by_path) == len(paths):
        return by_path
    if len(names.files[config]) == 1:
        return known
    return dataset.files(config, split)


def _check(names: Names) -> None:
    # Both stand in links, queries and commands of the card.
    for name, form in ((names.repo_id, REPOSITORY), (names.version, VERSION)):
        if not form.fullmatch(name):
            raise UsageError(f"{name!r}: not a name that a repository or a tag can have")
    for splits in names.files.values():
        for split in splits:
            if not SPLIT.fullmatch(split):
                raise UsageError(
                    f"{split!r}: not a name for a split on the Hub: letters, digits, _"
                )


def _files(names: Names, config: str) -> dict[str, Any]:
    files = []
    for split in names.files[config]:
        paths = names.patterns(config, split)
        files.append({"split": split, "path": paths[0] if len(paths) == 1 else paths})
    return {"data_files": files} | ({"default": True} if config == DEFAULT else {})


def _counts(dataset: Dataset, names: Names, config: str) -> dict[str, Any]:
    """Rows, checked by `datasets` at every load, and sizes, by which it plans."""
    from datasets import SplitDict, SplitInfo

    splits, held, travels = SplitDict(), 0, 0
    for split in names.files[config]:
        files = data_files(dataset, names, config, split)
        size = sum(_unpacked(dataset, file) for file in files)
        splits.add(SplitInfo(split, num_bytes=size, num_examples=sum(file.rows for file in files)))
        held += size
        travels += sum(file.bytes for file in files)
    return {"splits": splits, "dataset_size": held, "download_size": travels}


def _unpacked(dataset: Dataset, file: DataFile) -> int:
    """Bytes of the file's columns before compression, by its footer."""
    with dataset.parquet(file) as parquet:
        groups = range(parquet.metadata.num_row_groups)
        return sum(parquet.metadata.row_group(group).total_byte_size for group in groups)


def _size(rows: int) -> str:
    return next((name for power, name in enumerate(_SIZES, 3) if rows < 10**power), "1B<n<10B")
