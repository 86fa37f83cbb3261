r"""The gates of a continuous-variable program.

Names and conventions are PennyLane's. With :math:`z = r e^{i\phi}`, ladder operators :math:`a, b` of the modes,
photon number :math:`n = a^\dagger a` and quadratures :math:`x = \sqrt{\hbar/2}\,(a + a^\dagger)`,
:math:`p = -i\sqrt{\hbar/2}\,(a - a^\dagger)`:

==================== ============== =======================================================================
gate                 parameters     operator
==================== ============== =======================================================================
``Rotation``         phi            :math:`\exp(i \phi n)`
``Displacement``     a, phi         :math:`\exp(\alpha a^\dagger - \alpha^* a)`, :math:`\alpha = a e^{i\phi}`
``Squeezing``        r, phi         :math:`\exp(\tfrac12 (z^* a^2 - z a^{\dagger 2}))`
``QuadraticPhase``   s              :math:`\exp(i s x^2 / 2\hbar)`
``CubicPhase``       gamma          :math:`\exp(i \gamma x^3 / 3\hbar)`
``Kerr``             kappa          :math:`\exp(i \kappa n^2)`
``Beamsplitter``     theta, phi     :math:`\exp(\theta (e^{i\phi} a b^\dagger - e^{-i\phi} a^\dagger b))`
``TwoModeSqueezing`` r, phi         :math:`\exp(z a^\dagger b^\dagger - z^* a b)`
``CrossKerr``        kappa          :math:`\exp(i \kappa n_a n_b)`
``Loss``             transmissivity photons stay with this probability, in [0, 1]; a channel, not a unitary
==================== ============== =======================================================================

A magnitude may be negative, which turns the phase by pi. Only ``CubicPhase`` depends on :math:`\hbar`. The sign of
``TwoModeSqueezing`` is that of PennyLane's Heisenberg representation and of its ``default.gaussian``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral

from circuits.gates import Angle as Parameter
from circuits.gates import as_iterable, integer

__all__ = ["CV_GATES", "CVGate", "CVGateDefinition", "Parameter", "cv_gate_definition"]


@dataclass(frozen=True)
class CVGateDefinition:
    """What a gate is.

    Args:
        name: PennyLane's.
        n_modes: modes it acts on.
        parameters: names of its parameters.
        gaussian: it maps Gaussian states to Gaussian states.
        unitary: it maps pure states to pure states.
        diagonal: it only changes phases of photon-number states.
        inverse: signs by which its parameters become those of the inverse gate; none for a channel.
    """

    name: str
    n_modes: int
    parameters: tuple[str, ...]
    gaussian: bool = True
    unitary: bool = True
    diagonal: bool = False
    inverse: tuple[float, ...] = ()


CV_GATES: dict[str, CVGateDefinition] = {
    definition.name: definition
    for definition in (
        CVGateDefinition("Rotation", 1, ("phi",), diagonal=True, inverse=(-1.0,)),
        CVGateDefinition("Displacement", 1, ("a", "phi"), inverse=(-1.0, 1.0)),
        CVGateDefinition("Squeezing", 1, ("r", "phi"), inverse=(-1.0, 1.0)),
        CVGateDefinition("QuadraticPhase", 1, ("s",), inverse=(-1.0,)),
        CVGateDefinition("CubicPhase", 1, ("gamma",), gaussian=False, inverse=(-1.0,)),
        CVGateDefinition("Kerr", 1, ("kappa",), gaussian=False, diagonal=True, inverse=(-1.0,)),
        CVGateDefinition("Beamsplitter", 2, ("theta", "phi"), inverse=(-1.0, 1.0)),
        CVGateDefinition("TwoModeSqueezing", 2, ("r", "phi"), inverse=(-1.0, 1.0)),
        CVGateDefinition("CrossKerr", 2, ("kappa",), gaussian=False, diagonal=True, inverse=(-1.0,)),
        CVGateDefinition("Loss", 1, ("transmissivity",), unitary=False),
    )
}
"""Every gate a :class:`~circuits.cv.program.Program` may hold, by name."""


def cv_gate_definition(name: object) -> CVGateDefinition:
    """The definition of a gate.

    Raises:
        ValueError: no gate has this name; the nearest is suggested.

    >>> cv_gate_definition("Squeezing").parameters
    ('r', 'phi')
    """
    if not isinstance(name, str) or name not in CV_GATES:
        near = difflib.get_close_matches(str(name), CV_GATES, n=1)
        hint = f"did you mean {near[0]}; " if near else ""
        raise ValueError(f"CV gate {name!r} is unknown; {hint}allowed are {', '.join(CV_GATES)}")
    return CV_GATES[name]


@dataclass(frozen=True)
class CVGate:
    """One gate on given modes.

    Args:
        name: a name of :data:`CV_GATES`.
        modes: the modes it acts on.
        parameters: for each an index into the program's parameter vector (``int``), a fixed value (``float``), or a
            :class:`Parameter`, ``scale * parameters[index] + offset``.

    Raises:
        ValueError: an unknown name, a negative or repeated mode, a wrong number of modes or parameters, a fixed value
            that is not finite, or a fixed transmissivity outside [0, 1].

    >>> str(CVGate("Displacement", 0, (0.5, 1)))
    'Displacement(0.5, a1) [0]'
    """

    name: str
    modes: tuple[int, ...]
    parameters: tuple[Parameter, ...] = ()

    def __init__(self, name: str, modes: int | Iterable[int], parameters: Iterable[Parameter | float] = ()) -> None:
        definition = cv_gate_definition(name)
        modes = (modes,) if isinstance(modes, int | Integral) else tuple(as_iterable(modes, f"modes of {name}"))
        modes = tuple(integer(mode, f"mode of {name}", 0) for mode in modes)
        slots = tuple(Parameter.of(value) for value in as_iterable(parameters, f"parameters of {name}"))
        if len(modes) != definition.n_modes:
            raise ValueError(f"{name} is given {len(modes)} modes {modes}; it takes {definition.n_modes}")
        if len(set(modes)) != len(modes):
            raise ValueError(f"{name} is given a mode twice: {modes}")
        if len(slots) != len(definition.parameters):
            raise ValueError(
                f"{name} on modes {modes} is given {len(slots)} parameters; it takes {len(definition.parameters)}: "
                f"{', '.join(definition.parameters)}"
            )
        if name == "Loss" and slots[0].is_fixed and not 0 <= slots[0].offset <= 1:
            raise ValueError(f"transmissivity of Loss is {slots[0].offset}; a number from 0 to 1 is needed")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "modes", modes)
        object.__setattr__(self, "parameters", slots)

    @property
    def definition(self) -> CVGateDefinition:
        """What kind of gate it is."""
        return CV_GATES[self.name]

    def inverse(self) -> CVGate:
        """The gate that undoes this one.

        Raises:
            ValueError: a loss cannot be undone.
        """
        if not self.definition.unitary:
            raise ValueError(f"{self} has no inverse: lost photons do not come back")
        signs = self.definition.inverse
        return CVGate(
            self.name,
            self.modes,
            [p if sign == 1 else p.affine(sign) for p, sign in zip(self.parameters, signs, strict=True)],
        )

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.parameters))}) {list(self.modes)}"
