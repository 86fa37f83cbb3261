from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qgen.data import (
    DATASETS,
    CalorimeterDataset,
    Dataset,
    Feature,
    MuonDataset,
    describe,
    load_calorimeter,
    load_events,
    load_muon,
    simulate_muon,
    write_events,
)

TABLE = torch.linspace(-3.0, 1e9, 14).reshape(7, 2)
LHE = """<LesHouchesEvents version="3.0">
<header>
</header>
<init>
13 {target} 1.0e+02 1.93e+02 0 0 0 0 -4 1
1.0 0.1 1.0 1
</init>
{events}</LesHouchesEvents>
"""
EVENT = """<event>
5 1 1.0 91.0 0.0078 0.118
13 -1 0 0 0 0 0.0 0.0 {beam} {beam} 0.10566 0.0 1.0
{target} -1 0 0 0 0 0.0 0.0 0.0 193.0 193.0 0.0 1.0
13 1 1 2 0 0 {mu} 0.10566 0.0 1.0
{target} 1 1 2 0 0 0.01 0.01 0.0 193.0 193.0 0.0 1.0
{carrier} 1 1 2 0 0 {v} 0.2 0.0 1.0
</event>
"""


def lhe_text(events: MuonDataset, target: int = 1000822080, carrier: int = 1023) -> str:
    text = ""
    for row in range(len(events)):
        one = {f.name: events.column(f.name)[row].item() for f in (*events.features, *events.condition_features)}
        momenta = []
        for prefix in ("", "muon_"):
            pt, phi = one[f"{prefix}pt"], one[f"{prefix}phi"]
            four = (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(one[f"{prefix}eta"]), one[f"{prefix}energy"])
            momenta.append(" ".join(f"{value:.17g}" for value in four))
        text += EVENT.format(beam=one["beam_energy"], target=target, carrier=carrier, v=momenta[0], mu=momenta[1])
    return LHE.format(target=target, events=text)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(("target", "carrier"), [(1000822080, 1023), (623, 622)])
def test_lhe_events_are_read(tmp_path: Path, target: int, carrier: int, zipped: bool) -> None:
    events = simulate_muon(20, [50.0, 100.0])
    content = lhe_text(events, target, carrier).encode()
    path = tmp_path / ("events.lhe.gz" if zipped else "events.lhe")
    path.write_bytes(gzip.compress(content) if zipped else content)
    for found in (load_muon(path), load_muon(path, carrier=carrier), load_events(path)):
        assert isinstance(found, MuonDataset)
        torch.testing.assert_close(found.samples, events.samples, rtol=1e-12, atol=1e-12)
        assert torch.equal(found.conditions, events.conditions)
    assert describe(path)["layout"] == "LHE"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("13 -1 0 0", "11 -1 0 0"), r"event 1: incoming particles are 11, 1000822080; expected a muon"),
        (("1023 1 1 2", "13 1 1 2"), r"event 1: outgoing particles are 13, 1000822080, 13; expected one muon and one"),
        (
            ("1000822080 -1 0 0 0 0 0.0 0.0 0.0", "1000822080 -1 0 0 0 0 0.0 0.0 -50.0"),
            r"event 1: not in the lab frame",
        ),
        (("<init>", "<other>"), r"truncated or damaged"),
        (("LesHouchesEvents", "SomethingElse"), r"truncated or damaged"),
    ],
)
def test_faulty_lhe(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "events.lhe"
    path.write_text(lhe_text(simulate_muon(3)).replace(*change))
    with pytest.raises(ValueError, match=message) as caught:
        load_muon(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_lhe_asks_for_a_carrier_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "events.lhe"
    path.write_text(lhe_text(simulate_muon(3)))
    with pytest.raises(ValueError, match=r"event 1: .* expected one muon and one particle 55"):
        load_muon(path, carrier=55)
    path.write_text(LHE.format(target=1000822080, events=""))
    with pytest.raises(ValueError, match="the file holds no events"):
        load_muon(path)


@given(kept=st.floats(0, 1, exclude_max=True))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_truncated_lhe(tmp_path: Path, kept: float) -> None:
    text = lhe_text(simulate_muon(3)).rstrip()
    path = tmp_path / "events.lhe"
    path.write_text(text[: int(kept * len(text))])
    with pytest.raises(ValueError, match="truncated or damaged|empty|columns E0_GeV") as caught:
        load_muon(path)
    assert "\n" not in str(caught.value)


def test_missing_pylhe_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "events.lhe"
    path.write_text(lhe_text(simulate_muon(1)))
    monkeypatch.setitem(sys.modules, "pylhe", None)
    with pytest.raises(ImportError, match=r"pip install 'qgen-hep\[hep\]'"):
        load_muon(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda: load_calorimeter(max_events=20),
        lambda: simulate_muon(20).select("energy", "pt", "eta"),
        lambda: Dataset(TABLE, (Feature("a", "GeV", "$a$"), Feature("b")), seed=3, provenance={"by": "hand"}),
        lambda: Dataset(TABLE[:, :1], (Feature("a"),), TABLE[:, 1:], (Feature("c", "rad"),)),
    ],
    ids=["calorimeter", "muon", "plain", "conditional"],
)
def test_written_events_are_read_back_equal(tmp_path: Path, make: Callable[[], Dataset]) -> None:
    events = make()
    path = tmp_path / "events.h5"
    write_events(path, events)
    back = load_events(path, seed=events.seed)
    assert type(back) is type(events)
    assert torch.equal(back.samples, events.samples)
    assert torch.equal(back.conditions, events.conditions)
    assert back.features == events.features
    assert back.condition_features == events.condition_features
    assert torch.equal(back.train.samples, events.train.samples)
    assert {**back.provenance, **events.provenance} == back.provenance or isinstance(events, CalorimeterDataset)
    write_events(tmp_path / "again.h5", back)
    assert torch.equal(load_events(tmp_path / "again.h5").samples, events.samples)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.h5", "events.h5"]


def test_nothing_is_left_of_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = simulate_muon(5)
    write_events(tmp_path / "events.h5", events)
    before = (tmp_path / "events.h5").read_bytes()

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(h5py.File, "create_dataset", full)
    with pytest.raises(OSError, match="No space left"):
        write_events(tmp_path / "events.h5", simulate_muon(9))
    assert (tmp_path / "events.h5").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["events.h5"]


def test_description_of_muon_events(tmp_path: Path) -> None:
    events = simulate_muon(50)
    write_events(tmp_path / "events.h5", events)
    facts = describe(tmp_path / "events.h5")
    assert facts["layout"] == "table"
    assert facts["events"] == 50
    assert facts["beam_energy"] == "100 to 100 GeV"
    assert facts["x"] == f"{events.column('x').min():.6g} to {events.column('x').max():.6g}"
    assert facts["provenance"]["mediator"] == "vector"
    assert facts["problems"] == "none"


def test_description_of_showers(tmp_path: Path) -> None:
    data = load_calorimeter(max_events=30)
    write_events(tmp_path / "showers.h5", data)
    facts = describe(tmp_path / "showers.h5")
    assert facts["layout"] == "CaloChallenge"
    assert facts["cells"] == "8 (layer)"
    total = data.samples.sum(1)
    assert facts["energy of a shower"] == f"{total.min():.6g} to {total.max():.6g} MeV"


def test_registered_builders_give_datasets() -> None:
    assert {"calorimeter", "muon"} < set(DATASETS)
    for name in set(DATASETS) - {"ttbar"}:  # which needs a file
        assert isinstance(DATASETS[name](seed=1), Dataset)


def test_import_is_light() -> None:
    code = (
        "import sys, qgen.data; "
        "print([m for m in ('h5py', 'pylhe', 'scipy', 'sklearn', 'matplotlib', 'pennylane', 'qiskit', 'zuko') "
        "if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
