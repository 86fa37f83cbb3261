"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# numba starts its threads once; the benchmarks ask for one, and with another number before them it refuses
os.environ["NUMBA_NUM_THREADS"] = "1"

import h5py
import numpy as np
import pytest
import sklearn.ensemble
import torch
from hypothesis import settings

from qgen import registry
from qgen.data import showers
from qgen.data.calorimeter import SAMPLE
from qgen_toys import Affine

# the same examples in every run; `HYPOTHESIS_PROFILE=default` looks for new ones
settings.register_profile("repeatable", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# done by processes that tests fork, at the cost of a second, not when tests are looked for
collect_ignore = ["sweeps_ready.py"]

# a shell starts what runs in its background deaf to Ctrl-C, and what tests interrupt would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)

# torch gives some warnings once in a process: every test that earns one is to see it, not the first alone
torch.set_warn_always(True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--device cuda`` runs the backends' contract on a GPU."""
    parser.addoption("--device", default="cpu", help="where backends that can choose run: cpu or cuda")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small problems are slower on many threads than on one."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def unzipped_once() -> Iterator[None]:
    """The showers of the package are unzipped once in a process: every test that loads them would take the time."""
    kept: list[tuple[int, np.ndarray]] = []

    def read_rows(cells: h5py.Dataset, path: Path) -> Iterator[tuple[int, np.ndarray]]:
        if path != SAMPLE:
            return read(cells, path)
        kept.extend(() if kept else read(cells, path))
        return iter(kept)

    read = showers.read_rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(showers, "read_rows", read_rows)
        yield


@pytest.fixture
def affine(monkeypatch: pytest.MonkeyPatch) -> str:
    """A toy known as a kind of generator for the time of one test."""
    monkeypatch.setitem(registry._registered, "affine", Affine)
    return "affine"


@pytest.fixture(scope="module")
def few_trees() -> Iterator[None]:
    """The classifier's area has 2 trees instead of 50, for tests that ask whether it is there, not what it is."""
    trees = sklearn.ensemble.HistGradientBoostingClassifier
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.ensemble, trees.__name__, lambda **options: trees(**{**options, "max_iter": 2}))
        yield
