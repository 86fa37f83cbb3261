"""Tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

__all__ = ["markdown_table", "without_html"]


def without_html(text: str) -> str:
    r"""Someone's words as Markdown that shows them: no tag in them is one. What stands between backticks is left.

    >>> without_html("a <b>, `c <d>`")
    'a \\<b>, `c <d>`'
    """
    parts = re.split(r"(`[^`\n]*`)", text)
    return "".join(part if place % 2 else part.replace("<", r"\<") for place, part in enumerate(parts))


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    r"""The lines of a table.

    Args:
        headings: of the columns.
        rows: a cell for each column; a bar in a cell stays one, and a tag is none.
        left: the columns of words, by their places; the others hold numbers and are flush right.

    >>> print("\n".join(markdown_table(["model", "size"], [["a|b", "3"]])))
    | model | size |
    | --- | ---: |
    | a\|b | 3 |
    """
    rules = ["---" if place in left else "---:" for place in range(len(headings))]
    return [_line(headings), _line(rules), *map(_line, rows)]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(without_html(cell).replace("|", "\\|") for cell in cells) + " |"
