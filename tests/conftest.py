"""What all tests share."""

from __future__ import annotations

import pytest
import torch

from qgen.registry import register
from qgen_toys import Affine

register("affine", Affine)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small problems are slower on many threads than on one."""
    torch.set_num_threads(1)
