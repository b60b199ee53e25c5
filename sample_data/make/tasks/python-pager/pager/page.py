# SPDX-License-Identifier: Apache-2.0
"""Cut a sequence into numbered pages. The first page has the number 1."""

from dataclasses import dataclass
from typing import Generic, Sequence, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    items: Sequence[T]
    number: int
    size: int
    total: int

    @property
    def page_count(self) -> int:
        return self.total // self.size + 1

    @property
    def has_next(self) -> bool:
        return self.number < self.page_count

    @property
    def has_previous(self) -> bool:
        return self.number > 1


def paginate(items: Sequence[T], number: int = 1, size: int = 20) -> Page[T]:
    if size < 1:
        raise ValueError("size must be at least 1")
    if number < 1:
        raise ValueError("pages are numbered from 1")
    start = (number - 1) * size
    return Page(items[start : start + size], number, size, len(items))
