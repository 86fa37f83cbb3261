"""``Circuit``: a parametrised quantum circuit as plain frozen data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from circuits.gates import Angle, Gate, as_iterable, check_keys, finite_number, integer

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure
    from qiskit import QuantumCircuit
    from torch import Tensor

__all__ = ["Angle", "Circuit", "Gate"]


@dataclass(frozen=True)
class Circuit:
    """A circuit: wires, gates in order of application, and the length of its flat angle vector.

    The register starts in ``|0...0>``. Wire 0 is the most significant bit of a basis state's number. Circuits are
    equal when their data are, and can be dictionary keys.

    Args:
        n_wires: number of qubits.
        gates: the gates.
        n_angles: length of the angle vector; by default one more than the largest index in use.

    Raises:
        ValueError: a wire or an angle index out of range, or something that is not a gate.

    >>> bell = Circuit(2, [Gate("H", [0]), Gate("CNOT", [0, 1])])
    >>> bell.depth, bell.n_angles
    (2, 0)
    >>> print(Circuit(2, [Gate("RY", [0], [0]), Gate("CRZ", [0, 1], [0.5])]).draw())
    0: ──RY(a0)──●───────
    1: ──────────RZ(0.5)─
    """

    n_wires: int
    gates: tuple[Gate, ...]
    n_angles: int = 0

    def __init__(self, n_wires: int, gates: Iterable[Gate] = (), n_angles: int | None = None) -> None:
        n_wires = integer(n_wires, "n_wires", 1)
        gates = tuple(as_iterable(gates, "gates"))
        used = 0
        for number, gate in enumerate(gates):
            if not isinstance(gate, Gate):
                raise ValueError(f"gate {number} is {gate!r}; a Gate is needed")
            if max(gate.wires) >= n_wires:
                raise ValueError(f"gate {number}, {gate}: wire {max(gate.wires)} is out of range 0 to {n_wires - 1}")
            indices = [angle.index for angle in gate.angles if angle.index is not None]
            if n_angles is not None and indices and max(indices) >= n_angles:
                raise ValueError(
                    f"gate {number}, {gate}: angle index {max(indices)} is not below n_angles = {n_angles}"
                )
            used = max(used, 1 + max(indices, default=-1))
        object.__setattr__(self, "n_wires", n_wires)
        object.__setattr__(self, "gates", gates)
        object.__setattr__(self, "n_angles", used if n_angles is None else integer(n_angles, "n_angles", 0))

    @cached_property
    def _hash(self) -> int:
        return hash((self.n_wires, self.gates, self.n_angles))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return Circuit, (self.n_wires, self.gates, self.n_angles)

    def __len__(self) -> int:
        return len(self.gates)

    # what it is made of

    @property
    def depth(self) -> int:
        """Number of time steps when gates on different wires act at once."""
        level: Counter[int] = Counter()
        for gate in self.gates:
            after = 1 + max(level[wire] for wire in gate.wires)
            for wire in gate.wires:
                level[wire] = after
        return max(level.values(), default=0)

    @property
    def counts(self) -> dict[str, int]:
        """Number of gates by name."""
        return dict(Counter(gate.name for gate in self.gates))

    @property
    def n_two_qubit_gates(self) -> int:
        """Number of gates on exactly two wires."""
        return sum(len(gate.wires) == 2 for gate in self.gates)

    # circuits from circuits

    def __add__(self, other: Circuit) -> Circuit:
        """This circuit, then ``other``; the angles of ``other`` follow this circuit's in the angle vector.

        >>> block = Circuit(1, [Gate("RX", [0], [0])])
        >>> (block + block).n_angles
        2
        """
        if not isinstance(other, Circuit):
            return NotImplemented
        if other.n_wires != self.n_wires:
            raise ValueError(f"circuits of {self.n_wires} and {other.n_wires} wires cannot be joined; remap one first")
        n_angles = self.n_angles + other.n_angles
        moved = other.remap(angles=range(self.n_angles, n_angles), n_angles=n_angles)
        return Circuit(self.n_wires, self.gates + moved.gates, n_angles)

    def remap(
        self,
        *,
        wires: Sequence[int] | None = None,
        angles: Sequence[int] | None = None,
        n_wires: int | None = None,
        n_angles: int | None = None,
    ) -> Circuit:
        """The same gates on other wires or with other entries of an angle vector.

        Args:
            wires: wire ``w`` becomes ``wires[w]``; unchanged by default.
            angles: angle ``i`` becomes ``angles[i]``; two may become the same, to share it. Unchanged by default.
            n_wires: wires of the result; by default as many as are needed.
            n_angles: angles of the result; by default as many as are needed.

        Raises:
            ValueError: a list of the wrong length, or a place out of range.

        >>> Circuit(1, [Gate("RX", [0], [0])]).remap(wires=[2], angles=[4])
        ... # doctest: +NORMALIZE_WHITESPACE
        Circuit(n_wires=3, gates=(Gate(name='RX', wires=(2,), angles=(Angle(index=4, scale=1.0, offset=0.0),)),),
                n_angles=5)
        """
        wires = range(self.n_wires) if wires is None else wires
        angles = range(self.n_angles) if angles is None else angles
        if len(wires) != self.n_wires or len(angles) != self.n_angles:
            given = f"{len(wires)} wires and {len(angles)} angles"
            raise ValueError(f"remap is given {given}; {self.n_wires} and {self.n_angles} are needed")
        if len(set(wires)) != len(wires):
            raise ValueError(f"remap is given a wire twice: {list(wires)}")
        gates = [
            Gate(
                gate.name,
                [wires[wire] for wire in gate.wires],
                [a if a.index is None else Angle(angles[a.index], a.scale, a.offset) for a in gate.angles],
            )
            for gate in self.gates
        ]
        return Circuit(
            max(wires) + 1 if n_wires is None else n_wires,
            gates,
            max(angles, default=-1) + 1 if n_angles is None else n_angles,
        )

    def bind(self, angles: Sequence[float] | Tensor) -> Circuit:
        """The circuit with these values, ``(n_angles,)`` in radians, as fixed angles.

        Raises:
            ValueError: the number of values is wrong, or one is not finite.

        >>> str(Circuit(1, [Gate("RX", [0], [0])]).bind([0.25]).gates[0])
        'RX(0.25) [0]'
        """
        values = [finite_number(float(value), f"angle {i}") for i, value in enumerate(angles)]
        if len(values) != self.n_angles:
            raise ValueError(f"{len(values)} angles are given; the circuit has {self.n_angles}")
        gates = [
            Gate(
                gate.name,
                gate.wires,
                [
                    a if a.index is None else Angle(None, offset=a.scale * values[a.index] + a.offset)
                    for a in gate.angles
                ],
            )
            for gate in self.gates
        ]
        return Circuit(self.n_wires, gates)

    def inverse(self) -> Circuit:
        """The circuit that undoes this one, with the same angle vector."""
        return Circuit(self.n_wires, [gate.inverse() for gate in reversed(self.gates)], self.n_angles)

    # files

    def to_json(self) -> str:
        """The circuit as JSON text; :meth:`from_json` reads it back exactly."""
        gates = []
        for gate in self.gates:
            entry: dict[str, Any] = {"name": gate.name, "wires": list(gate.wires)}
            if gate.angles:
                entry["angles"] = [angle.to_data() for angle in gate.angles]
            gates.append(entry)
        return json.dumps({"n_wires": self.n_wires, "n_angles": self.n_angles, "gates": gates})

    @classmethod
    def from_json(cls, text: str) -> Circuit:
        """The circuit written by :meth:`to_json`.

        Raises:
            ValueError: the text is not such JSON; the line says where.

        >>> circuit = Circuit(2, [Gate("RZZ", [0, 1], [Angle(0, scale=0.5)])])
        >>> Circuit.from_json(circuit.to_json()) == circuit
        True
        """
        try:
            content = json.loads(text)
        except (json.JSONDecodeError, RecursionError, TypeError) as error:
            raise ValueError(f"circuit is not JSON: {error}") from error
        check_keys(content, "circuit", {"n_wires", "gates"}, {"n_angles"})
        if not isinstance(content["gates"], list):
            raise ValueError(f"circuit: gates is a {type(content['gates']).__name__}; a list is needed")
        gates = []
        for number, entry in enumerate(content["gates"]):
            where = f"gate {number}"
            check_keys(entry, where, {"name", "wires"}, {"angles"})
            try:
                angles = [Angle.from_data(a) for a in as_iterable(entry.get("angles", []), "angles")]
                gates.append(Gate(entry["name"], entry["wires"], angles))
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
        return cls(content["n_wires"], gates, content.get("n_angles"))

    # pictures

    def draw(self, width: int = 120) -> str:
        """The circuit as text, folded at ``width`` columns.

        Controls are ``●``, angles are ``a0``, ``a1``, ... with their scale and offset.
        """
        from circuits.drawing import draw_text

        return draw_text(self, width)

    def draw_mpl(self) -> Figure:
        """The circuit as a matplotlib figure, drawn by Qiskit.

        Raises:
            ImportError: pylatexenc is missing; it comes with the extra ``draw``.
        """
        from circuits.drawing import draw_mpl

        return draw_mpl(self)

    # elsewhere

    @classmethod
    def from_qiskit(cls, circuit: QuantumCircuit) -> Circuit:
        """See :func:`circuits.interop.from_qiskit`."""
        from circuits.interop import from_qiskit

        return from_qiskit(circuit)

    def to_qiskit(self) -> QuantumCircuit:
        """See :func:`circuits.interop.to_qiskit`."""
        from circuits.interop import to_qiskit

        return to_qiskit(self)

    @classmethod
    def from_pennylane(cls, function: Callable[..., Any], n_wires: int, n_angles: int) -> Circuit:
        """See :func:`circuits.interop.from_pennylane`."""
        from circuits.interop import from_pennylane

        return from_pennylane(function, n_wires, n_angles)

    def to_pennylane(self) -> Callable[[Any], None]:
        """See :func:`circuits.interop.to_pennylane`."""
        from circuits.interop import to_pennylane

        return to_pennylane(self)

    @classmethod
    def from_qasm(cls, text: str) -> Circuit:
        """See :func:`circuits.qasm.from_qasm`."""
        from circuits.qasm import from_qasm

        return from_qasm(text)

    def to_qasm(self, version: int = 3) -> str:
        """See :func:`circuits.qasm.to_qasm`."""
        from circuits.qasm import to_qasm

        return to_qasm(self, version)
