"""What all tests share."""

from __future__ import annotations

import pytest
import torch

from qgen import registry
from qgen_toys import Affine


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small problems are slower on many threads than on one."""
    torch.set_num_threads(1)


@pytest.fixture
def affine(monkeypatch: pytest.MonkeyPatch) -> str:
    """A toy known as a kind of generator for the time of one test."""
    monkeypatch.setitem(registry._registered, "affine", Affine)
    return "affine"
