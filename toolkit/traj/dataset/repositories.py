"""What a repository is called, so that two spellings of one are one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def repository_name(repository: Mapping[str, Any] | None) -> str | None:
    """`host/owner/name` of a row's `repository`, in lower case; None where it is not known.

    Forges do not tell capitals from small letters in these names, and redirect between them.
    """
    if repository is None:
        return None
    known = [repository.get(part) for part in ("host", "owner", "name")]
    if known[0] and known[2]:
        return plain_name("/".join(part for part in known if part))
    url = repository.get("url")
    return plain_name(url) if url else None


def plain_name(text: str) -> str:
    """The same of a URL or of what a person wrote: `git@github.com:Owner/Name.git`,
    `https://github.com/owner/name/` and `github.com/owner/name` are one."""
    # Logs are not to be trusted: a line break in a name would be another name in a list of them.
    name = "".join(c for c in text.strip() if c.isprintable())
    name = name.partition("?")[0].partition("#")[0]
    _, separator, rest = name.partition("://")
    if separator:
        name = rest
    head, slash, path = name.partition("/")
    head = head.rpartition("@")[2]
    if not separator and ":" in head:  # git@host:owner/name
        head = head.replace(":", "/", 1)
    elif ":" in head:
        head = head.partition(":")[0]  # a port
    name = f"{head}{slash}{path}".rstrip("/").removesuffix(".git")
    return name.lower()
