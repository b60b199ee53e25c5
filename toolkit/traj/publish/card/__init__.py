"""The dataset card: README.md, its pictures and croissant.json, made from the data.

pages         all files, as bytes by their place in the repository
names         what the dataset is called, where its files lie
frames        the columns that figures are made of; figures are SQL over them
figures       key figures        provenance  how recorded, what is missing
licences      by repository      usage       loading, replaying, columns
set_apart     the private split's commitment, the canary
front_matter  YAML               plots, bars pictures, and what they show in numbers
croissant     the same for machines, as ML Commons wants it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.publish.card.names import Names

if TYPE_CHECKING:
    from traj.dataset import Dataset

__all__ = ["Names", "pages"]


def pages(dataset: Dataset, names: Names) -> dict[str, bytes]:
    """The card of a dataset that holds what is to be public and nothing else: README.md,
    plots/*.png, croissant.json. The same dataset and names give the same bytes.

    Raises MissingExtraError without the extra, UsageError for names that the Hub would not take,
    DatasetError for a dataset that cannot be read.
    """
    from traj.publish.card.croissant import croissant
    from traj.publish.card.frames import Frames
    from traj.publish.card.plots import plots
    from traj.publish.card.readme import readme

    frames = Frames.of(dataset)
    pictures = plots(frames)
    return {
        "README.md": readme(dataset, frames, names, pictures),
        **{picture.path: picture.png for picture in pictures},
        "croissant.json": croissant(dataset, frames, names),
    }
