"""Labels as people write them, and what they must be: SPDX, a full commit, a forge's URL, an enum.

A label's value is one text everywhere in this package, null where it is unknown. That of
`languages` holds the main language before a bar and all of them behind it: `Rust|C; Rust`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from urllib.parse import urlsplit

from traj import schema
from traj.build.trajectory import extensions, forge
from traj.checkout import is_commit
from traj.checkout.licence import spdx
from traj.dataset.labels import LABELS, OWN, Label

BY_NAME = {label.name: label for label in LABELS}
WRITTEN = ("language", *BY_NAME)  # the names under which people give values


class BadValueError(ValueError):
    """A value that a label cannot have; the text says why, and names no place."""


def checked(name: str, text: str) -> str | None:
    """The value that a person's text means; None where it is empty or says `unknown`.

    Raises BadValueError.
    """
    return _CHECKS[name](text) if text.strip() else None


def checked_source(label: str, source: str) -> str:
    """A source that the label's column knows. Raises BadValueError."""
    known = sources(BY_NAME[label])
    if source not in known:
        listed = ", ".join(one for one in known if one not in OWN)
        raise BadValueError(f"{label} cannot be known by {source!r}: give one of {listed}")
    return source


@cache
def sources(label: Label) -> tuple[str, ...]:
    """What a label's source can be."""
    return tuple(source for source in _enum(label.source) if source != "none")


def languages_of(main: str | None, others: str | None) -> str | None:
    """The value of `languages`, from a main language and a list, each of which may be missing."""
    listed = sorted({*_listed(others or ""), *([main] if main else [])})
    if not listed:
        return None
    known = main or (listed[0] if others and len(listed) == 1 else "")
    return f"{known}|{'; '.join(listed) if others else ''}"


def completed_languages(said: str, present: str | None) -> str:
    """What was said of the languages, with what it leaves open as it is at present."""
    main, _, listed = said.partition("|")
    known_main, _, known = (present or "|").partition("|")
    if not listed:
        return f"{main}|{'; '.join(sorted({main, *_listed(known)}))}"
    if not main and known_main in _listed(listed):
        main = known_main
    return f"{main}|{listed}"


def split_languages(value: str | None) -> tuple[str | None, list[str]]:
    """Main language and all languages."""
    main, _, listed = (value or "|").partition("|")
    return main or None, _listed(listed)


def _licence(text: str) -> str:
    found = spdx(text)
    if found is None:
        remedy = "write MIT, Apache-2.0 OR MIT, or LicenseRef-Name for one that SPDX does not list"
        raise BadValueError(f"{short(text)} is no SPDX licence expression: {remedy}")
    return found


def _url(text: str) -> str:
    given = text.strip()
    known = forge(given if "://" in given or "@" in given else f"https://{given}")
    if not given.isprintable() or not all(known):
        raise BadValueError(f"{short(text)} is no repository: write https://host/owner/name")
    return str(known[0])


def _commit(text: str) -> str:
    given = text.strip().lower()
    if not is_commit(given):
        raise BadValueError(f"{short(text)} is no full commit hash of 40 or 64 hex digits")
    return given


def _task_url(text: str) -> str:
    given = text.strip()
    try:
        parts = urlsplit(given)
        sound = parts.scheme in ("http", "https") and parts.hostname and given.isprintable()
    except ValueError:
        sound = False
    if not sound or " " in given:
        raise BadValueError(f"{short(text)} is no http or https URL")
    if parts.username or parts.password:
        raise BadValueError("a task's URL with credentials in it: leave them out")
    return given


def _language(text: str) -> str:
    return ";".join(_known_language(one) for one in _listed(text))


def _main_language(text: str) -> str:
    found = _listed(text)
    if len(found) != 1:
        raise BadValueError(f"{short(text)} is not one language: `languages` takes several")
    return _known_language(found[0])


def _known_language(text: str) -> str:
    if not text.isprintable() or "|" in text:
        raise BadValueError(f"{short(text)} is no language")
    return _languages().get(text.lower(), text)


def _one_of(path: str) -> Callable[[str], str | None]:
    def check(text: str) -> str | None:
        given = re.sub(r"[\s-]+", "_", text.strip().lower())
        known = _enum(path)
        if given not in known:
            raise BadValueError(f"{path} cannot be {short(text)}: give one of {', '.join(known)}")
        return None if given == "unknown" else given

    return check


_CHECKS: dict[str, Callable[[str], str | None]] = {
    "repository.url": _url,
    "repository.commit": _commit,
    "repository.license": _licence,
    "repository.visibility": _one_of("repository.visibility"),
    "language": _main_language,
    "languages": _language,
    "use_case": _one_of("use_case"),
    "task.url": _task_url,
    "task.title": str,
    "outcome": _one_of("outcome"),
}


def _listed(text: str) -> list[str]:
    return [one.strip() for one in re.split("[;,]", text) if one.strip()]


def _enum(path: str) -> tuple[str, ...]:
    known = dict(schema.walk(schema.table("trajectories").columns))
    return known[path].enum


@cache
def _languages() -> dict[str, str]:
    """The names that recorded languages have, by their small letters."""
    return {name.lower(): name for name in extensions().values()}


def short(text: str) -> str:
    """A text as an error shows it."""
    shown = text.strip()
    return repr(shown if len(shown) <= 60 else f"{shown[:59]}…")
