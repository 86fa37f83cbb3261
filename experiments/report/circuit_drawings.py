"""The circuits of quantum models: their price in gates, and a drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from circuits import Circuit
from experiments.report.style import Picture, picture
from qgen.generator import Generator
from qgen.models.on_backend import OnBackend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CircuitOf", "circuits_of"]

MOST_GATES_DRAWN = 300
MOST_GATES_AS_TEXT = 1000


@dataclass(frozen=True)
class CircuitOf:
    """A circuit of a model.

    Args:
        model: the model's name.
        role: which of the model's circuits it is, empty if it has only one.
        circuit: the circuit.
        n_parameters: trainable parameters of the model.
        drawing: by Qiskit, or None.
        text: the circuit as text where there is no drawing, or None.
        note: why there is no drawing, empty if there is one.
    """

    model: str
    role: str
    circuit: Circuit
    n_parameters: int
    drawing: Picture | None
    text: str | None
    note: str

    @property
    def gates(self) -> str:
        """How many gates of each name."""
        return ", ".join(f"{count} {name}" for name, count in sorted(self.circuit.counts.items()))


def circuits_of(model: str, generator: Generator) -> list[CircuitOf]:
    """The public circuits of a trained model, none for a classical one."""
    found = generator.circuits if isinstance(generator, OnBackend) else {}
    return [
        _of(model, name if len(found) > 1 else "", circuit, generator.n_parameters) for name, circuit in found.items()
    ]


def _of(model: str, role: str, circuit: Circuit, n_parameters: int) -> CircuitOf:
    drawing, text, note = None, None, ""
    if len(circuit) > MOST_GATES_AS_TEXT:
        note = f"{len(circuit)} gates are too many for a drawing."
    elif len(circuit) > MOST_GATES_DRAWN:
        note = f"{len(circuit)} gates are too many for a drawing by Qiskit; the circuit is shown as text."
        text = circuit.draw()
    else:
        try:
            figure = circuit.draw_mpl()
        except ImportError as error:
            note = f"Shown as text: {error}"
            text = circuit.draw()
        else:
            drawing = _picture(figure, model)
    return CircuitOf(model, role, circuit, n_parameters, drawing, text, note)


def _picture(figure: Figure, model: str) -> Picture:
    """The drawing, its margins cut away, with as many points as fill the page's width."""
    shown = min(1200, round(figure.get_figwidth() * 80))
    return picture(figure, f"Circuit of {model}", dpi=min(120, 1800 / figure.get_figwidth()), width=shown, tight=True)
