"""What can go wrong, as a user meets it.

TrajError                 one line: what, where, remedy
├── UsageError            the call is wrong: unknown option, missing or foreign input (exit 2)
│   └── MissingExtraError an optional dependency is not installed
├── ScrubError            a secret cannot be removed, or an engine gave up (traj.scrub.found)
├── SourceError           a session log could not be read as the format that it claims to be
└── DatasetError          a dataset is missing, unfinished, damaged, or newer than this version
"""

from __future__ import annotations


class TrajError(Exception):
    """Base of all errors that this package raises on purpose; its text is meant for a person."""

    exit_code = 1


class UsageError(TrajError):
    """The call cannot be carried out as given."""

    exit_code = 2


class MissingExtraError(UsageError):
    """An optional dependency is needed; the text names the extra that brings it."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f'{feature} needs an extra: pip install "traj-toolkit[{extra}]"')


class SourceError(TrajError):
    """A session log cannot be read; the text names the file."""


class DatasetError(TrajError):
    """A dataset cannot be read or written; the text names the folder or file."""

    exit_code = 2
