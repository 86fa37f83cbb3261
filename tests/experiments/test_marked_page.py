from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.marked_page import marks, put, split

BEGIN, END = marks("table")


@settings(deadline=None, max_examples=40)
@given(before=st.text(), after=st.text(), old=st.text(), new=st.text())
def test_only_what_stands_between_the_marks_changes(
    tmp_path_factory: pytest.TempPathFactory, before: str, after: str, old: str, new: str
) -> None:
    page = tmp_path_factory.mktemp("page") / "page.md"
    page.write_bytes(f"{before}{BEGIN}{old}{END}{after}".encode())
    put(page, "table", new)
    assert page.read_bytes().decode() == f"{before}{BEGIN}\n\n{new.strip()}\n\n{END}{after}"


def test_other_marks_are_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    other = "\n".join(marks("other"))
    page.write_text(f"{other}\n{BEGIN}\n{END}\n")
    put(page, "table", "new")
    assert page.read_text() == f"{other}\n{BEGIN}\n\nnew\n\n{END}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "'<!-- table: begin -->' stands there 0 times; once is needed"),
        (BEGIN, "'<!-- table: end -->' stands there 0 times; once is needed"),
        (BEGIN + END + END, "'<!-- table: end -->' stands there 2 times; once is needed"),
        (END + BEGIN, "'<!-- table: end -->' stands before '<!-- table: begin -->'"),
    ],
)
def test_a_page_without_its_marks_is_refused_and_kept(tmp_path: Path, text: str, message: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match=f"^{page}: {message}$"):
        put(page, "table", "new")
    assert page.read_text() == text


def test_a_page_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        split(tmp_path / "page.md", "table")
