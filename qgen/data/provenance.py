"""Where events come from, as JSON text in a file's attribute."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["provenance_from_json", "provenance_to_json"]


def provenance_to_json(provenance: Mapping[str, Any]) -> str:
    """The provenance of a dataset as JSON text."""
    return json.dumps(dict(provenance))


def provenance_from_json(text: Any, path: str | Path) -> dict[str, Any]:
    """The provenance that a file states; nothing if the attribute is missing (``None``).

    Raises:
        ValueError: the attribute is not the JSON text of an object.
    """
    if text is None:
        return {}
    try:
        content = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: attribute provenance is not JSON text") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: attribute provenance is not a JSON object")
    return content
