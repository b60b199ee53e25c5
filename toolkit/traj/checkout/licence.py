"""The licence that a repository states: by the licence's own text, by its package manifests.

Nothing is guessed: texts that no known licence resembles, several texts without anything that says
which applies, and manifests that contradict the texts or each other give no licence, and a reason.
The text of a GNU licence does not say whether later versions may be chosen too: it counts as
`only`, the least that is granted, unless a manifest says more.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from traj.errors import MissingExtraError

_SCORE = 0.9  # how much a text must resemble the licence's
_TEXT = re.compile(r"(?i)^(licen[cs]e|copying|unlicense)([-._].*)?$")
_CODE = re.compile(r"(?i)\.(py|js|ts|rs|go|c|h|java|rb|sh|toml|json|ya?ml)$")
_WORD = re.compile(r"[A-Za-z0-9.+-]+")


@dataclass(frozen=True, slots=True)
class Licence:
    """An SPDX expression and how it is known (`text`, `manifest`), or the reason why not."""

    expression: str | None
    source: str = ""
    reason: str = ""


def is_telling(name: str) -> bool:
    """Whether a file in a repository's root may say what its licence is."""
    return name in _MANIFESTS or bool(_TEXT.match(name) and not _CODE.search(name))


def licence_of(root: Mapping[str, str]) -> Licence:
    """The licence of a repository, from the texts of the telling files of its root.

    Raises MissingExtraError without the extra.
    """
    texts = {name: text for name, text in sorted(root.items()) if name not in _MANIFESTS}
    known = {name: _identify(text) for name, text in texts.items()}
    strange = [name for name, found in known.items() if found is None]
    said: dict[str, str] = {}
    for name in sorted(set(root) & set(_MANIFESTS)):
        stated = _stated(name, root[name])
        if stated is not None:
            said[name] = stated
    if strange:
        return Licence(None, reason=f"{strange[0]} is the text of no licence that is known")
    if len(set(said.values())) > 1:
        return Licence(None, reason=f"{' and '.join(said)} name different licences")
    ids = sorted({one for one in known.values() if one})
    if not said:
        return _by_text(ids, list(texts))
    (expression,) = set(said.values())
    named = {_family(word) for word in _WORD.findall(expression)}
    if not {_family(one) for one in ids} <= named:
        return Licence(None, reason=f"{next(iter(said))} and {next(iter(texts))} contradict")
    whole = {_family(one) for one in ids} == named - {"AND", "OR", "WITH"}
    return Licence(expression, "text" if whole else "manifest")


def spdx(text: str) -> str | None:
    """An SPDX expression in its canonical form; None for what is none. Raises MissingExtraError
    without the extra."""
    try:
        from packaging.licenses import (
            InvalidLicenseExpression,
            canonicalize_license_expression,
        )
    except ImportError:
        raise MissingExtraError("labelling licences", "label") from None
    try:
        return str(canonicalize_license_expression(text.strip()))
    except InvalidLicenseExpression:
        return None


def _by_text(ids: list[str], names: list[str]) -> Licence:
    if len(ids) > 1:
        return Licence(None, reason=f"{' and '.join(names)}: nothing says which applies")
    if not ids:
        return Licence(None, reason="no licence in its root")
    return Licence(spdx(ids[0]), "text")


def _identify(text: str) -> str | None:
    try:
        import askalono
    except ImportError:
        raise MissingExtraError("finding a checkout's licence", "label") from None
    found = askalono.identify(text)
    return str(found.name) if found.score >= _SCORE else None


def _family(licence: str) -> str:
    """GNU licences with and without later versions have one text."""
    return licence.removesuffix("+").removesuffix("-only").removesuffix("-or-later")


def _stated(name: str, text: str) -> str | None:
    """What a manifest says, where that is an SPDX expression."""
    try:
        stated = _MANIFESTS[name](text)
    except (ValueError, RecursionError):  # of both tomllib and json: the manifest is damaged
        return None
    if isinstance(stated, list) and stated and all(isinstance(one, str) for one in stated):
        stated = " OR ".join(stated)
    if not isinstance(stated, str):
        return None
    return spdx(stated.replace("/", " OR "))  # as Cargo wrote it before SPDX


def _pyproject(text: str) -> Any:
    data = tomllib.loads(text)
    return _at(data, "project", "license") or _at(data, "tool", "poetry", "license")


def _cargo(text: str) -> Any:
    data = tomllib.loads(text)
    own = _at(data, "package", "license")
    return own if isinstance(own, str) else _at(data, "workspace", "package", "license")


def _json(text: str) -> Any:
    return _at(json.loads(text), "license")


def _at(data: Any, *path: str) -> Any:
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    return data


_MANIFESTS: dict[str, Callable[[str], Any]] = {
    "pyproject.toml": _pyproject,
    "Cargo.toml": _cargo,
    "package.json": _json,
    "composer.json": _json,
}
