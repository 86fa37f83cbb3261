r"""Pairs of top quarks at the LHC, as learned by the style-based qGAN (2110.06933).

From the first three particles of an event, the two incoming partons and the top quark, the published code takes

.. math:: s = 2 p_1 \cdot p_2, \qquad t = -2 p_1 \cdot p_3, \qquad y = \tfrac12 \ln \frac{x_1}{x_2},

with :math:`x_i` the share of its beam's energy that a parton carries. For massless partons ``s`` is the square of the
pair's mass and ``y`` the pair's rapidity; ``t`` lacks the :math:`m_t^2` of the Mandelstam variable
:math:`(p_1 - p_3)^2`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
from annotated_types import Gt

from qgen.data.dataset import Dataset, Feature
from qgen.data.lhe import EventError, check_is_file, read_lhe
from qgen.random import derive_seed, new_generator

if TYPE_CHECKING:
    from pylhe import LHEEvent, LHEInit, LHEParticle

__all__ = ["load_ttbar"]

FEATURES = (Feature("s", "GeV^2", "$s$"), Feature("t", "GeV^2", "$t$"), Feature("y", "", "$y$"))
TOP = 6


def load_ttbar(path: str | Path, *, n: Annotated[int, Gt(0)] | None = None, seed: int = 0) -> Dataset:
    """Pairs of top quarks from an LHE file, gzipped or not: ``s`` and ``t`` in GeV^2 and the rapidity ``y``.

    Args:
        path: the file; each event begins with two incoming partons and a top quark or antiquark.
        n: number of events, all of the file by default. Fewer than the file has are drawn from it by ``seed``.
        seed: fixes the choice of events and the splits.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: pylhe is not installed (extra ``hep``).
        ValueError: the file is empty, truncated or of another format, or an event is of another kind (it is named).
    """
    if n is not None and (not isinstance(n, int) or n < 1):
        raise ValueError(f"n is {n!r}; a whole number of at least 1 event is needed")
    path = Path(path)
    check_is_file(path)
    invariants = read_lhe(path, 3, _invariants)
    if len(invariants) == 0:
        raise ValueError(f"{path}: the file holds no events")
    if n is not None and n < len(invariants):
        order = torch.randperm(len(invariants), generator=new_generator(derive_seed(seed, "events")))
        invariants = invariants[order[:n].sort().values.numpy()]
    provenance = {"file": path.name, "layout": "LHE", "process": "top pairs"}
    return Dataset(torch.from_numpy(invariants), FEATURES, seed=seed, provenance=provenance)


def _invariants(event: LHEEvent, init: LHEInit) -> list[float]:
    first = event.particles[:3]
    found = ", ".join(str(int(p.id)) for p in first) or "none"
    if len(first) < 3 or [p.status for p in first[:2]] != [-1, -1] or abs(first[2].id) != TOP:
        raise EventError(f"its first particles are {found}; expected two incoming partons and a top quark ({TOP})")
    one, two, top = first
    beams = init.initInfo.energyA, init.initInfo.energyB
    if not (min(beams) > 0 and one.e > 0 and two.e > 0):
        raise EventError(f"beams of {beams[0]:g} and {beams[1]:g} GeV, partons of {one.e:g} and {two.e:g} GeV")
    rapidity = 0.5 * math.log(one.e / beams[0] / (two.e / beams[1]))
    return [2 * _product(one, two), -2 * _product(one, top), rapidity]


def _product(p: LHEParticle, q: LHEParticle) -> float:
    """The invariant product of two momenta, GeV^2."""
    one, two = ([float(x) for x in (a.e, a.px, a.py, a.pz)] for a in (p, q))
    return one[0] * two[0] - sum(a * b for a, b in zip(one[1:], two[1:], strict=True))
