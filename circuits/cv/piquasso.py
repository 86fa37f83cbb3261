r"""Programs of optical modes to and from piquasso.

Its gates mean the same as ours, with these differences: ``Kerr`` and ``CrossKerr`` call their strength xi; ``Loss``
has the transmission of the amplitude, :math:`t`, where ours has that of photons, :math:`t^2`; ``Attenuator`` has
:math:`\theta = \arccos t`; ``QuadraticPhase`` drops a global phase. The factor 1/2 in the documented formula of
``Squeezing2`` and the sign in that of ``ControlledZ`` are not those of what it runs, which is followed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from torch import Tensor

from circuits.cv.expansions import controlled_phase, controlled_shift, mach_zehnder
from circuits.cv.gates import CVGate, Parameter
from circuits.cv.meshes import interferometer
from circuits.cv.program import Program
from circuits.gates import integer

if TYPE_CHECKING:
    import piquasso as pq

__all__ = ["from_piquasso", "to_piquasso"]

_TO_PIQUASSO = {
    "Rotation": "Phaseshifter",
    "Displacement": "Displacement",
    "Squeezing": "Squeezing",
    "QuadraticPhase": "QuadraticPhase",
    "CubicPhase": "CubicPhase",
    "Kerr": "Kerr",
    "Beamsplitter": "Beamsplitter",
    "TwoModeSqueezing": "Squeezing2",
    "CrossKerr": "CrossKerr",
}
_FROM_PIQUASSO = {theirs: ours for ours, theirs in _TO_PIQUASSO.items()}

_Modes = Sequence[int]
_EXPANDED: dict[str, Callable[..., list[CVGate]]] = {
    "PositionDisplacement": lambda modes, x: [CVGate("Displacement", modes, (x, 0.0))],
    "MomentumDisplacement": lambda modes, p: [CVGate("Displacement", modes, (p, math.pi / 2))],
    "Fourier": lambda modes: [CVGate("Rotation", modes, (math.pi / 2,))],
    "Beamsplitter5050": lambda modes: [CVGate("Beamsplitter", modes, (math.pi / 4, 0.0))],
    "MachZehnder": lambda modes, inside, outside: mach_zehnder(Parameter.of(inside), Parameter.of(outside), modes),
    "ControlledX": lambda modes, s: controlled_shift(s, modes),
    "ControlledZ": lambda modes, s: controlled_phase(s, modes),
    "Loss": lambda modes, t: [CVGate("Loss", modes, (t**2,))],
}


def to_piquasso(program: Program, parameters: Sequence[float] | Tensor = ()) -> pq.Program:
    """The program for piquasso, with its preparation.

    Loss becomes ``Attenuator``, which its Gaussian and Fock simulators run.

    Args:
        program: the program.
        parameters: values of its parameter vector, ``(n_parameters,)``; piquasso has no free parameters.

    Raises:
        ImportError: piquasso is not installed.
        ValueError: the number of values is wrong, or one is not finite.

    >>> program = Program(1, [CVGate("Squeezing", 0, (0, 0.0))])
    >>> to_piquasso(program, [0.3]).instructions
    [Vacuum(modes=(0,)), Squeezing(r=0.3, phi=0.0, modes=(0,))]
    """
    pq = _piquasso()
    start = pq.NumberState(program.photons) if any(program.photons) else pq.Vacuum()
    instructions = [start.on_modes(*range(program.n_modes))]
    for gate in program.bind(parameters).gates:
        values = [slot.offset for slot in gate.parameters]
        if gate.name == "Loss":
            made = pq.Attenuator(math.acos(math.sqrt(values[0])))
        else:
            made = getattr(pq, _TO_PIQUASSO[gate.name])(*values)
        instructions.append(made.on_modes(*gate.modes))
    return pq.Program(instructions)


def from_piquasso(program: pq.Program, n_modes: int | None = None) -> Program:
    """A program from piquasso's, all of its values fixed.

    Args:
        program: preparations (``Vacuum``, ``NumberState``), then gates; measurements at the end are dropped.
        n_modes: number of modes; by default as many as its instructions name.

    Raises:
        ValueError: an instruction that a program cannot express; the line gives its number.

    >>> import piquasso as pq
    >>> print(from_piquasso(pq.Program([pq.Vacuum(), pq.Loss(0.5).on_modes(1)])).gates[0])
    Loss(0.25) [1]
    """
    reader = _Reader(_size(program) if n_modes is None else integer(n_modes, "n_modes", 1))
    for number, instruction in enumerate(program.instructions):
        try:
            reader.read(instruction)
        except ValueError as error:
            raise ValueError(f"instruction {number}, {type(instruction).__name__}: {error}") from error
    return Program(reader.n_modes, reader.gates, photons=reader.photons)


def _piquasso() -> ModuleType:
    try:
        import piquasso
    except ImportError:
        raise ImportError(
            "programs are written for piquasso only where it is installed: pip install piquasso"
        ) from None
    return piquasso


def _size(program: pq.Program) -> int:
    """How many modes the instructions name; those without modes act on as many as their value has."""
    sizes = [1]
    for instruction in program.instructions:
        whole = instruction.params.get("occupation_numbers", instruction.params.get("matrix", ()))
        sizes.append(max(instruction.modes) + 1 if instruction.modes else len(whole))
    return max(sizes)


class _Reader:
    """What has been read of a program."""

    def __init__(self, n_modes: int) -> None:
        self.n_modes = n_modes
        self.gates: list[CVGate] = []
        self.photons = [0] * n_modes
        self.used: set[int] = set()
        self.measured: set[int] = set()

    def read(self, instruction: Any) -> None:
        """One instruction."""
        name, values = type(instruction).__name__, instruction.params
        modes = tuple(instruction.modes) or tuple(range(self.n_modes))
        if max(modes) >= self.n_modes:
            raise ValueError(f"mode {max(modes)} is out of range 0 to {self.n_modes - 1}")
        if self.measured & set(modes):
            raise ValueError("it follows a measurement of the same mode; measure last")
        if name in ("Vacuum", "NumberState"):
            self._prepare(modes, values)
            return
        if isinstance(instruction, _piquasso().Measurement) and "PostSelect" not in name:
            self.measured |= set(modes)
        elif name == "Interferometer":
            self.gates += interferometer(values["matrix"], modes)
        elif name == "Attenuator":
            if values["mean_thermal_excitation"]:
                raise ValueError("a thermal environment cannot be expressed; mean_thermal_excitation must be 0")
            self.gates.append(CVGate("Loss", modes, (math.cos(_number("theta", values["theta"])) ** 2,)))
        elif name in _FROM_PIQUASSO:
            slots = [_number(key, value) for key, value in values.items()]
            self.gates.append(CVGate(_FROM_PIQUASSO[name], modes, slots))
        elif name in _EXPANDED:
            self.gates += _EXPANDED[name](modes, *(_number(key, value) for key, value in values.items()))
        else:
            raise ValueError("a program of optical modes cannot express it")
        self.used |= set(modes)

    def _prepare(self, modes: _Modes, values: dict[str, Any]) -> None:
        if self.used & set(modes):
            raise ValueError("it prepares a mode a second time or after a gate")
        occupations = values.get("occupation_numbers", (0,) * len(modes))
        if values.get("coefficient", 1.0) != 1:
            raise ValueError(
                f"coefficient is {values['coefficient']}; a program starts in one state, with coefficient 1"
            )
        if len(occupations) != len(modes):
            raise ValueError(f"{len(occupations)} photon numbers are given for {len(modes)} modes")
        for mode, number in zip(modes, occupations, strict=True):
            self.photons[mode] = int(number)
            if number:
                self.used.add(mode)


def _number(key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{key} is {' '.join(str(value).split())}; a real number is needed") from None
