"""The circuit of a trained model as it is measured, for whoever has a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from circuits import Circuit
from circuits.commuting import side_by_side
from qgen.models.on_backend import OnBackend

if TYPE_CHECKING:
    from qgen.generator import DiscreteGenerator as _Base
else:
    _Base = object

__all__ = ["Deployed", "MeasuredOnce"]


@dataclass(frozen=True)
class Deployed:
    """A circuit without free angles, and where an event is in it.

    Args:
        circuit: what runs.
        data_wires: for each bit of an event its wire; others are not looked at.
    """

    circuit: Circuit
    data_wires: tuple[int, ...]


class MeasuredOnce(OnBackend, _Base):
    """A mixin for a model whose event is one measurement of one circuit, its discretiser's bits on the first wires.

    A subclass implements :meth:`measured`.
    """

    def measured(self, condition: Tensor | None = None) -> tuple[Circuit, Tensor]:
        """The circuit, and its angles ``(m, n_angles)`` in radians; ``m`` is 1 where no condition acts.

        Args:
            condition: ``(m, n_conditions)`` in the condition transform's space.
        """
        raise NotImplementedError

    @torch.no_grad()
    def deployed(self, condition: Tensor | None = None) -> Deployed:
        """The circuit under a condition, its weights bound and its commuting gates side by side.

        Args:
            condition: ``(n_conditions,)`` in physical units, for a model with conditions.

        Raises:
            ValueError: the condition is missing, superfluous, of another shape or impossible.
        """
        checked = self._check_condition(condition, 1)
        inner = self._model_condition(checked)
        self._warn_beyond_training(checked)
        circuit, angles = self.measured(inner)
        return Deployed(side_by_side(circuit.bind(angles[0].tolist())), tuple(range(self.discretiser.n_bits)))
