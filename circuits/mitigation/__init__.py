"""Error mitigation: wrappers of a backend that are backends themselves.

They go around each other in this order: twirling makes the noise stochastic, readout mitigation undoes the errors of
the measurement, and what zero-noise extrapolation sees are those of the gates.

>>> from circuits import Circuit, Gate
>>> from circuits.backends import Sampled, Statevector
>>> import torch
>>> device = Sampled(Statevector(), 1000, torch.Generator().manual_seed(0))
>>> mitigated = ZeroNoiseExtrapolation(ReadoutMitigation(PauliTwirling(device, twirls=4)))
>>> bell = Circuit(2, [Gate("H", 0), Gate("CNOT", [0, 1])])
>>> mitigated.expval(bell, torch.zeros(0), ["ZZ"]).round(decimals=9)
tensor([1.], dtype=torch.float64)
"""

from circuits.mitigation.extrapolation import ZeroNoiseExtrapolation
from circuits.mitigation.folding import fold
from circuits.mitigation.measure import Estimate
from circuits.mitigation.readout import ReadoutMitigation
from circuits.mitigation.twirling import PauliTwirling

__all__ = ["Estimate", "PauliTwirling", "ReadoutMitigation", "ZeroNoiseExtrapolation", "fold"]
