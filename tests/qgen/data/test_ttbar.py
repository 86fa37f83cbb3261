"""Top pairs from small LHE files, against kinematics worked out from the pair's own variables."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qgen.data import DATASETS, load_ttbar

TOP_MASS, BEAM = 173.0, 6500.0


def momenta(mass: float, rapidity: float, cosine: float, azimuth: float = 0.3) -> list[tuple[int, int, list[float]]]:
    """Two gluons and two top quarks: a pair of this mass and rapidity, the top at this angle in its frame."""
    gluons = [0.5 * mass * math.exp(rapidity), 0.5 * mass * math.exp(-rapidity)]
    energy = 0.5 * mass
    momentum = math.sqrt(energy**2 - TOP_MASS**2)
    sine = math.sqrt(1 - cosine**2)
    px, py, pz = momentum * sine * math.cos(azimuth), momentum * sine * math.sin(azimuth), momentum * cosine
    tops = []
    for sign in (1, -1):
        e, z = energy, sign * pz
        boosted = [
            sign * px,
            sign * py,
            z * math.cosh(rapidity) + e * math.sinh(rapidity),
            e * math.cosh(rapidity) + z * math.sinh(rapidity),
        ]
        tops.append((6 * sign, 1, boosted))
    return [(21, -1, [0.0, 0.0, gluons[0], gluons[0]]), (21, -1, [0.0, 0.0, -gluons[1], gluons[1]]), *tops]


def lhe(events: list[list[tuple[int, int, list[float]]]], beam: float = BEAM) -> str:
    lines = ['<LesHouchesEvents version="3.0">', "<init>", f"2212 2212 {beam} {beam} 0 0 247000 247000 -4 1"]
    lines += ["500.0 1.0 500.0 1", "</init>"]
    for event in events:
        lines += ["<event>", f"{len(event)} 1 1.0 173.0 0.0078 0.118"]
        for number, status, p in event:
            mothers = "0 0" if status == -1 else "1 2"
            lines.append(f"{number} {status} {mothers} 501 502 {' '.join(f'{x:.10e}' for x in p)} 0.0 0.0 9.0")
        lines.append("</event>")
    return "\n".join([*lines, "</LesHouchesEvents>", ""])


@given(
    st.lists(st.tuples(st.floats(350, 3000), st.floats(-2, 2), st.floats(-0.99, 0.99)), min_size=1, max_size=4),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_invariants_are_those_of_the_pair(tmp_path_factory, pairs, gzipped: bool) -> None:
    path = tmp_path_factory.mktemp("lhe") / "events.lhe"
    text = lhe([momenta(*pair) for pair in pairs]).encode()
    path.write_bytes(gzip.compress(text) if gzipped else text)
    events = load_ttbar(path)
    assert [f.name for f in events.features] == ["s", "t", "y"]
    for row, (mass, rapidity, cosine) in zip(events.samples.tolist(), pairs, strict=True):
        momentum = math.sqrt(mass**2 / 4 - TOP_MASS**2)
        assert row[0] == pytest.approx(mass**2, rel=1e-7)
        assert row[1] == pytest.approx(-mass * (mass / 2 - momentum * cosine), rel=1e-7)
        assert row[2] == pytest.approx(rapidity, abs=1e-7)


def test_number_of_events(tmp_path: Path) -> None:
    path = tmp_path / "events.lhe"
    path.write_text(lhe([momenta(400.0 + i, 0.0, 0.1) for i in range(30)]))
    everything = load_ttbar(path).column("s").sqrt()
    some = load_ttbar(path, n=10, seed=1).column("s").sqrt()
    assert len(everything) == 30
    assert len(some) == 10
    assert torch.isin(some, everything).all()
    assert torch.equal(some, some.sort().values)
    assert not torch.equal(some, load_ttbar(path, n=10, seed=2).column("s").sqrt())
    assert DATASETS["ttbar"] is load_ttbar


good = momenta(500.0, 0.5, 0.2)
FAULTY = {
    "empty": ("", "the file is empty"),
    "no events": (lhe([]), "holds no events"),
    "another process": (
        lhe([good, [*good[:2], (24, 1, good[2][2]), good[3]]]),
        "event 2: its first particles are 21, 21",
    ),
    "too few particles": (lhe([good[:2]]), "event 1: its first particles are 21, 21; expected two incoming"),
    "no beams": (lhe([good], beam=0.0), "event 1: beams of 0 and 0 GeV"),
    "not finite": (lhe([[(21, -1, [0.0, 0.0, math.inf, math.inf]), *good[1:]]]), "event 1: a momentum is not finite"),
    "truncated": (lhe([good, good])[:-250], "the LHE file is truncated or damaged after event 1"),
    "a table": ("s,t,y\n1,2,3\n", "the LHE file is truncated or damaged after event 0"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_faults_are_one_line_that_names_the_event(tmp_path: Path, fault: str) -> None:
    text, message = FAULTY[fault]
    path = tmp_path / "events.lhe"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_ttbar(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_misuse(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_ttbar(tmp_path / "nothing.lhe")
    with pytest.raises(ValueError, match="n is 0; a whole number"):
        load_ttbar(tmp_path / "nothing.lhe", n=0)
