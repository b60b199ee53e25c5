"""How a command prints its result: as text for people, as JSON for machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def show(value: Any, as_text: Callable[[Any], str], as_json: bool) -> None:
    """Prints a result, as JSON or by the given renderer."""
    if as_json:
        import orjson

        plain = [_plain(item) for item in value] if isinstance(value, list) else _plain(value)
        print(orjson.dumps(plain, option=orjson.OPT_INDENT_2, default=str).decode())
    else:
        print(as_text(value))


def _plain(value: Any) -> Any:
    return value.to_dict() if hasattr(value, "to_dict") else value
