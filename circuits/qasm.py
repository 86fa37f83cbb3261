"""Circuits to and from OpenQASM 2 and 3."""

from __future__ import annotations

import contextlib
import io
import re
from typing import TYPE_CHECKING

from circuits.circuit import Angle, Circuit
from circuits.gate_table import GATES
from circuits.interop import expand_gates, from_qiskit_named

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

__all__ = ["from_qasm", "to_qasm"]

_QASM_NAMES = {name: name.lower() for name in GATES} | {"CNOT": "cx"}
_QASM_NAMES_2 = _QASM_NAMES | {"PhaseShift": "u1", "ControlledPhaseShift": "cu1"}
_QASM_NAMES_3 = _QASM_NAMES | {"PhaseShift": "p", "ControlledPhaseShift": "cp"}
_QASM_LACKING_3 = ("Rot", "MultiRZ", "SXdg", "ECR", "RXX", "RYY", "RZZ")
_QASM_LACKING_2 = (*_QASM_LACKING_3, "SX", "SWAP", "CRX", "CRY")


def to_qasm(circuit: Circuit, version: int = 3) -> str:
    """The circuit as OpenQASM text without measurements.

    Only gates of ``stdgates.inc`` (3) or of the original ``qelib1.inc`` (2) are used; others are expanded.

    Args:
        circuit: the circuit.
        version: 3, where angle ``i`` is the input ``angles_i``; or 2, which has no free angles.

    Raises:
        ValueError: another version, or free angles in OpenQASM 2.

    >>> from circuits import Gate
    >>> print(to_qasm(Circuit(2, [Gate("CRX", [0, 1], [Angle(0, offset=0.5)])])))
    OPENQASM 3.0;
    include "stdgates.inc";
    input float[64] angles_0;
    qubit[2] q;
    crx(angles_0 + 0.5) q[0], q[1];
    """
    if version not in (2, 3):
        raise ValueError(f"OpenQASM version is {version!r}; allowed: 2, 3")
    if version == 2 and circuit.n_angles:
        raise ValueError(f"OpenQASM 2 has no free angles, the circuit has {circuit.n_angles}; bind(angles) them first")
    names, lacking = (_QASM_NAMES_3, _QASM_LACKING_3) if version == 3 else (_QASM_NAMES_2, _QASM_LACKING_2)
    if version == 3:
        lines = ["OPENQASM 3.0;", 'include "stdgates.inc";']
        lines += [f"input float[64] angles_{index};" for index in range(circuit.n_angles)]
        lines += [f"qubit[{circuit.n_wires}] q;"]
    else:
        lines = ["OPENQASM 2.0;", 'include "qelib1.inc";', f"qreg q[{circuit.n_wires}];"]
    for gate in circuit.gates:
        for name, wires, angles in expand_gates(gate, lacking):
            inside = f"({', '.join(map(_qasm_angle, angles))})" if angles else ""
            lines.append(f"{names[name]}{inside} {', '.join(f'q[{wire}]' for wire in wires)};")
    return "\n".join(lines)


def _qasm_number(value: float) -> str:
    mantissa, *exponent = repr(value).split("e")
    return "e".join([mantissa if "." in mantissa else f"{mantissa}.0", *exponent])


def _qasm_angle(angle: Angle) -> str:
    if angle.index is None:
        return _qasm_number(angle.offset)
    text = f"angles_{angle.index}"
    if angle.scale != 1:
        text = f"{_qasm_number(angle.scale)} * {text}"
    return text if angle.offset == 0 else f"{text} + {_qasm_number(angle.offset)}"


def from_qasm(text: str) -> Circuit:
    """A circuit from OpenQASM 2 or 3.

    Qubits are numbered in the order of their declaration; angle ``i`` is the ``i``-th ``input`` of an OpenQASM 3
    program. Gates of the program's own are expanded.

    Raises:
        ValueError: no version line, text that does not parse, or what ``from_qiskit`` refuses.

    >>> from_qasm('OPENQASM 3.0; input float w; qubit[1] q; U(w / 2, 0, 0) q[0];').gates[0].angles[0]
    Angle(index=0, scale=0.5, offset=0.0)
    """
    bare = re.sub(r"//[^\n]*|/\*.*?\*/", " ", text, flags=re.DOTALL)
    header = re.match(r"\s*OPENQASM\s+([0-9]+)(\.[0-9]+)?\s*;", bare)
    if header is None or header[1] not in ("2", "3"):
        raise ValueError("OpenQASM: the text must begin with 'OPENQASM 2.0;' or 'OPENQASM 3.0;'")
    if header[1] == "2":
        return from_qiskit_named(_parse_qasm2(text), [])
    names = re.findall(r"\binput\s+(?:float|angle)\s*(?:\[[^\]]*\])?\s+(\w+)\s*;", bare)
    return from_qiskit_named(_parse_qasm3(text), names)


def _parse_qasm2(text: str) -> QuantumCircuit:
    from qiskit import qasm2

    try:
        return qasm2.loads(text, custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS)
    except qasm2.QASM2ParseError as error:
        raise ValueError(f"OpenQASM 2: {_one_line(error)}") from error


def _parse_qasm3(text: str) -> QuantumCircuit:
    from qiskit import qasm3

    complaints = io.StringIO()  # the parser prints characters it does not know, and goes on without them
    try:
        with contextlib.redirect_stderr(complaints):
            circuit = qasm3.loads(text)
    except Exception as error:  # the importer lets errors of many kinds through
        reason = complaints.getvalue().splitlines() or [str(error)]
        raise ValueError(f"OpenQASM 3: {_one_line(reason[0])}") from error
    if complaints.getvalue():
        raise ValueError(f"OpenQASM 3: {_one_line(complaints.getvalue().splitlines()[0])}")
    return circuit


def _one_line(reason: object) -> str:
    return " ".join(str(reason).strip("\"' ").split()) or "the text does not parse"
