"""``Program``: a continuous-variable circuit as plain frozen data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor

from circuits.cv.gates import CVGate, Parameter
from circuits.gates import as_iterable, check_keys, finite_number, integer

if TYPE_CHECKING:
    from collections.abc import Callable

    import piquasso as pq

__all__ = ["Program"]

_MOST_MODES = 10_000


@dataclass(frozen=True)
class Program:
    """Optical modes, what they start in, gates in order of application, and the length of the parameter vector.

    Programs are equal when their data are, and can be dictionary keys.

    Args:
        n_modes: number of modes.
        gates: the gates, see :mod:`circuits.cv.gates`.
        n_parameters: length of the parameter vector; by default one more than the largest index in use.
        photons: the photon number in which each mode starts, ``(n_modes,)``; by default the vacuum.

    Raises:
        ValueError: a mode or a parameter index out of range, or something that is not a gate.

    >>> program = Program(2, [CVGate("Squeezing", 0, (0, 0.0)), CVGate("Beamsplitter", (0, 1), (1, 2))])
    >>> program.n_parameters, program.is_gaussian
    (3, True)
    """

    n_modes: int
    gates: tuple[CVGate, ...]
    n_parameters: int = 0
    photons: tuple[int, ...] = ()

    def __init__(
        self,
        n_modes: int,
        gates: Iterable[CVGate] = (),
        n_parameters: int | None = None,
        photons: Iterable[int] | None = None,
    ) -> None:
        n_modes = integer(n_modes, "n_modes", 1)
        if n_modes > _MOST_MODES:
            raise ValueError(f"n_modes is {n_modes}; at most {_MOST_MODES} are allowed")
        n_parameters = None if n_parameters is None else integer(n_parameters, "n_parameters", 0)
        gates = tuple(as_iterable(gates, "gates"))
        used = 0
        for number, gate in enumerate(gates):
            if not isinstance(gate, CVGate):
                raise ValueError(f"gate {number} is {gate!r}; a CVGate is needed")
            if max(gate.modes) >= n_modes:
                raise ValueError(f"gate {number}, {gate}: mode {max(gate.modes)} is out of range 0 to {n_modes - 1}")
            indices = [slot.index for slot in gate.parameters if slot.index is not None]
            if n_parameters is not None and indices and max(indices) >= n_parameters:
                raise ValueError(
                    f"gate {number}, {gate}: parameter index {max(indices)} is not below n_parameters = {n_parameters}"
                )
            used = max(used, 1 + max(indices, default=-1))
        start = (0,) * n_modes if photons is None else tuple(as_iterable(photons, "photons"))
        start = tuple(integer(number, f"photons of mode {mode}", 0) for mode, number in enumerate(start))
        if len(start) != n_modes:
            raise ValueError(f"photons are given for {len(start)} modes; the program has {n_modes}")
        object.__setattr__(self, "n_modes", n_modes)
        object.__setattr__(self, "gates", gates)
        object.__setattr__(self, "n_parameters", used if n_parameters is None else n_parameters)
        object.__setattr__(self, "photons", start)

    @cached_property
    def _hash(self) -> int:
        return hash((self.n_modes, self.gates, self.n_parameters, self.photons))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return Program, (self.n_modes, self.gates, self.n_parameters, self.photons)

    def __len__(self) -> int:
        return len(self.gates)

    # what it is made of

    @property
    def is_gaussian(self) -> bool:
        """Whether it starts in the vacuum and every gate keeps a Gaussian state Gaussian."""
        return not any(self.photons) and all(gate.definition.gaussian for gate in self.gates)

    @property
    def is_unitary(self) -> bool:
        """Whether there is no loss."""
        return all(gate.definition.unitary for gate in self.gates)

    @property
    def counts(self) -> dict[str, int]:
        """Number of gates by name."""
        return dict(Counter(gate.name for gate in self.gates))

    # programs from programs

    def __add__(self, other: Program) -> Program:
        """This program, then ``other``, whose parameters follow this one's in the vector.

        >>> block = Program(1, [CVGate("Kerr", 0, [0])])
        >>> (block + block).n_parameters
        2
        """
        if not isinstance(other, Program):
            return NotImplemented
        if other.n_modes != self.n_modes:
            raise ValueError(f"programs of {self.n_modes} and {other.n_modes} modes cannot be joined; remap one first")
        if any(other.photons):
            raise ValueError(f"the second program starts with photons {other.photons}; only the first may")
        n_parameters = self.n_parameters + other.n_parameters
        moved = other.remap(parameters=range(self.n_parameters, n_parameters), n_parameters=n_parameters)
        return Program(self.n_modes, self.gates + moved.gates, n_parameters, self.photons)

    def remap(
        self,
        *,
        modes: Sequence[int] | None = None,
        parameters: Sequence[int] | None = None,
        n_modes: int | None = None,
        n_parameters: int | None = None,
    ) -> Program:
        """The same gates on other modes or with other entries of a parameter vector.

        Args:
            modes: mode ``m`` becomes ``modes[m]``; unchanged by default.
            parameters: parameter ``i`` becomes ``parameters[i]``; two may become the same, to share it.
            n_modes: modes of the result; by default as many as are needed.
            n_parameters: parameters of the result; by default as many as are needed.

        Raises:
            ValueError: a list of the wrong length, or a place out of range.
        """
        modes = range(self.n_modes) if modes is None else [integer(mode, "mode", 0) for mode in modes]
        parameters = range(self.n_parameters) if parameters is None else parameters
        if len(modes) != self.n_modes or len(parameters) != self.n_parameters:
            given = f"{len(modes)} modes and {len(parameters)} parameters"
            raise ValueError(f"remap is given {given}; {self.n_modes} and {self.n_parameters} are needed")
        if len(set(modes)) != len(modes):
            raise ValueError(f"remap is given a mode twice: {list(modes)}")
        gates = [
            CVGate(
                gate.name,
                [modes[mode] for mode in gate.modes],
                [p if p.index is None else Parameter(parameters[p.index], p.scale, p.offset) for p in gate.parameters],
            )
            for gate in self.gates
        ]
        moved = Program(
            max(modes) + 1 if n_modes is None else n_modes,
            gates,
            max(parameters, default=-1) + 1 if n_parameters is None else n_parameters,
        )
        if max(modes) >= moved.n_modes:
            raise ValueError(f"remap is given mode {max(modes)}; it is out of range 0 to {moved.n_modes - 1}")
        photons = [0] * moved.n_modes
        for mode, number in zip(modes, self.photons, strict=True):
            photons[mode] = number
        return Program(moved.n_modes, gates, moved.n_parameters, photons)

    def bind(self, parameters: Sequence[float] | Tensor) -> Program:
        """The program with these values, ``(n_parameters,)``, as fixed parameters.

        Raises:
            ValueError: the number of values is wrong, or one is not finite.

        >>> str(Program(1, [CVGate("Kerr", 0, [0])]).bind([0.25]).gates[0])
        'Kerr(0.25) [0]'
        """
        given = enumerate(as_iterable(_plain(parameters), "parameters"))
        values = [finite_number(_plain(value), f"parameter {i}") for i, value in given]
        if len(values) != self.n_parameters:
            raise ValueError(f"{len(values)} parameters are given; the program has {self.n_parameters}")
        gates = [
            CVGate(
                gate.name,
                gate.modes,
                [p.offset if p.index is None else p.scale * values[p.index] + p.offset for p in gate.parameters],
            )
            for gate in self.gates
        ]
        return Program(self.n_modes, gates, 0, self.photons)

    def inverse(self) -> Program:
        """The gates that undo these, on the vacuum, with the same parameter vector.

        Raises:
            ValueError: there is loss, or the program starts with photons.
        """
        if any(self.photons):
            raise ValueError(f"a program that starts with photons {self.photons} has no inverse")
        return Program(self.n_modes, [gate.inverse() for gate in reversed(self.gates)], self.n_parameters)

    # files

    def to_json(self) -> str:
        """The program as JSON text; :meth:`from_json` reads it back exactly."""
        gates = [
            {"name": gate.name, "modes": list(gate.modes), "parameters": [slot.to_data() for slot in gate.parameters]}
            for gate in self.gates
        ]
        content = {"n_modes": self.n_modes, "n_parameters": self.n_parameters, "photons": list(self.photons)}
        return json.dumps({**content, "gates": gates})

    @classmethod
    def from_json(cls, text: str) -> Program:
        """The program written by :meth:`to_json`.

        Raises:
            ValueError: the text is not such JSON; the line says where.

        >>> program = Program(2, [CVGate("Beamsplitter", [0, 1], [Parameter(0, scale=0.5), 0.0])])
        >>> Program.from_json(program.to_json()) == program
        True
        """
        try:
            content = json.loads(text)
        except (json.JSONDecodeError, RecursionError, TypeError) as error:
            raise ValueError(f"program is not JSON: {error}") from error
        check_keys(content, "program", {"n_modes", "gates"}, {"n_parameters", "photons"})
        if not isinstance(content["gates"], list):
            raise ValueError(f"program: gates is a {type(content['gates']).__name__}; a list is needed")
        gates = []
        for number, entry in enumerate(content["gates"]):
            where = f"gate {number}"
            check_keys(entry, where, {"name", "modes"}, {"parameters"})
            try:
                slots = [
                    Parameter.from_data(p, "parameter") for p in as_iterable(entry.get("parameters", []), "parameters")
                ]
                gates.append(CVGate(entry["name"], entry["modes"], slots))
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
        return cls(content["n_modes"], gates, content.get("n_parameters"), content.get("photons"))

    # pictures

    def draw(self, width: int = 120) -> str:
        """The program as text, folded at ``width`` columns; see :func:`circuits.cv.drawing.draw_text`."""
        from circuits.cv.drawing import draw_text

        return draw_text(self, width)

    # elsewhere

    @classmethod
    def from_pennylane(cls, function: Callable[..., Any], n_modes: int, n_parameters: int) -> Program:
        """See :func:`circuits.cv.pennylane.from_pennylane`."""
        from circuits.cv.pennylane import from_pennylane

        return from_pennylane(function, n_modes, n_parameters)

    def to_pennylane(self) -> Callable[[Any], None]:
        """See :func:`circuits.cv.pennylane.to_pennylane`."""
        from circuits.cv.pennylane import to_pennylane

        return to_pennylane(self)

    @classmethod
    def from_blackbird(cls, text: str, hbar: float = 2.0) -> Program:
        """See :func:`circuits.cv.blackbird.from_blackbird`."""
        from circuits.cv.blackbird import from_blackbird

        return from_blackbird(text, hbar)

    def to_blackbird(self, name: str = "program") -> str:
        """See :func:`circuits.cv.blackbird.to_blackbird`."""
        from circuits.cv.blackbird import to_blackbird

        return to_blackbird(self, name)

    @classmethod
    def from_piquasso(cls, program: pq.Program, n_modes: int | None = None) -> Program:
        """See :func:`circuits.cv.piquasso.from_piquasso`."""
        from circuits.cv.piquasso import from_piquasso

        return from_piquasso(program, n_modes)

    def to_piquasso(self, parameters: Sequence[float] | Tensor = ()) -> pq.Program:
        """See :func:`circuits.cv.piquasso.to_piquasso`."""
        from circuits.cv.piquasso import to_piquasso

        return to_piquasso(self, parameters)


def _plain(value: Any) -> Any:
    """Tensors and arrays as numbers or lists of them, all else as it is."""
    return value.tolist() if hasattr(value, "tolist") else value
