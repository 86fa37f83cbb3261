"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

__all__ = ["markdown_table"]


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    r"""The lines of a table.

    Args:
        headings: of the columns.
        rows: a cell for each column; a bar in a cell stays one.
        left: the columns of words, by their places; the others hold numbers and are flush right.

    >>> print("\n".join(markdown_table(["model", "size"], [["a|b", "3"]])))
    | model | size |
    | --- | ---: |
    | a\|b | 3 |
    """
    rules = ["---" if place in left else "---:" for place in range(len(headings))]
    return [_line(headings), _line(rules), *map(_line, rows)]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
