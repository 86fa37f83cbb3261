"""YAML as users write it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qgen.plain import read_yaml, read_yaml_file


def test_words_are_no_booleans() -> None:
    assert read_yaml("{on: 1, n: no, y: yes, t: true, f: False}", "x") == {
        "on": 1,
        "n": "no",
        "y": "yes",
        "t": True,
        "f": False,
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", r"line 1, column 5: "),
        ("a: 1\nb: {c: 1, d: 2, c: 3}", r"line 2, column 17: key 'c' is given twice"),
        ("a: &b {c: 1}\nd: {<<: *b, <<: *b}", r"line 2, column 13: key '<<' is given twice"),
        ("a: &b {c: 1}\nd: {<<: *b, e: 1, e: 2}", r"line 2, column 19: key 'e' is given twice"),
        ("a: {<<: 1}", r"expected a mapping or list of mappings for merging"),
        ("a: !!python/object/apply:os.system ['true']", r"could not determine a constructor"),
        ("a: !!int ''", ""),
        ("a: !!bool maybe", "maybe"),
        ("a: !!timestamp tomorrow", ""),
        ("a: 2020-99-99", "month"),
        ("&a {b: [*a]}", "a value holds itself"),
        ("[" * 3000, ""),
        ("a: \x00", "special characters"),
    ],
)
def test_what_is_no_plain_data_is_refused_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"^here: not valid YAML \(.*{reason}.*\)$"):
        read_yaml(text, "here")


def test_a_value_may_stand_in_two_places() -> None:
    assert read_yaml("{a: &x {c: 1}, b: *x}", "here") == {"a": {"c": 1}, "b": {"c": 1}}


def test_a_mapping_may_be_merged_into_others_and_changed_there() -> None:
    text = "{deep: {in: {here: &a {x: 1, y: 2}, there: &b {<<: *a, y: 3}}}, c: {<<: *b, z: 4}, d: {y: 5, <<: [*a, *b]}}"
    found = read_yaml(text, "here")
    assert found["deep"]["in"] == {"here": {"x": 1, "y": 2}, "there": {"x": 1, "y": 3}}
    assert found["c"] == {"x": 1, "y": 3, "z": 4}
    assert found["d"] == {"x": 1, "y": 5}


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(ValueError, match=r"bad\.yaml: not a text file \(invalid start byte at byte 0\)$"):
        read_yaml_file(path)


def outcome(text: str) -> str:
    try:
        return type(read_yaml(text, "fuzz")).__name__
    except ValueError as error:
        return str(error)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text("{}[]&*!: a1-\n\"'<,?", max_size=30))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    assert "\n" not in outcome(text)
