"""Pages written by hand that hold tables written by commands, each between two marks."""

from __future__ import annotations

from pathlib import Path

from qgen.files import write_atomically

__all__ = ["marks", "put", "split"]


def marks(name: str) -> tuple[str, str]:
    """The lines between which a command puts what goes by this name.

    >>> marks("sensitivity")
    ('<!-- sensitivity: begin -->', '<!-- sensitivity: end -->')
    """
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def split(page: Path, name: str) -> tuple[str, str]:
    """What stands in a page up to the first mark and from the second on.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: a mark is missing, stands there twice, or the second stands first.
    """
    text = page.read_bytes().decode()  # line ends stay as they are
    begin, end = marks(name)
    for mark in (begin, end):
        if text.count(mark) != 1:
            raise ValueError(f"{page}: {mark!r} stands there {text.count(mark)} times; once is needed")
    if text.index(end) < text.index(begin):
        raise ValueError(f"{page}: {end!r} stands before {begin!r}")
    return text[: text.index(begin) + len(begin)], text[text.index(end) :]


def put(page: Path, name: str, markdown: str) -> None:
    """Put text between the marks of a page in place of what is there.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: as :func:`split`.
    """
    before, after = split(page, name)
    write_atomically(page, "\n\n".join([before, markdown.strip(), after]).encode())
