"""Why 12 qubits learned less than 9: a Born machine on muonic force carriers, one choice changed at a time.

Three features of the force carrier in 16 quantile cells each make 12 qubits. Every machine is trained on the same
5,000 events by the exact likelihood and compared with 2,500 others: by total variation on 8x8x8 cells, on which 9 and
12 qubits can be compared, on all 16x16x16 cells, and by the likelihood of the test events, so that the fourth bit of
each feature counts as well.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from circuits import Circuit, Gate
from qgen.data import Dataset, Discretiser, muon_events
from qgen.models import BornMachine
from qgen.random import new_generator
from qgen.training import MMD, NLL, Objective, fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

__all__ = ["CHOICES", "CONDITIONAL", "QUICK", "Choice", "born_gap", "born_gap_figure", "born_gap_table"]

BITS = 4
COARSE_BITS = 3
TRAIN, TEST = 5000, 2500
MEASURES = ("tv_coarse", "tv_fine", "nll")
BEST: dict[str, Any] = {
    "ansatz": "cascade",
    "layers": 2,
    "order": "snake",
    "start": "plus",
    "initial_range": 0.01,
}
PLAIN: dict[str, Any] = {"layers": 15}


@dataclass(frozen=True)
class Choice:
    """A machine of the study.

    Args:
        name: for the table.
        options: of ``BornMachine.for_dataset``, besides quantile cells.
        bits: of each feature.
        objective: ``nll`` or ``mmd``.
        same_significance: entangle the bits of one significance across features, and in the next layer those of one
            feature, instead of neighbours on a ring; for interleaved bits.
        longer: factor on the number of steps.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    bits: int = BITS
    objective: Literal["nll", "mmd"] = "nll"
    same_significance: bool = False
    longer: int = 1


CHOICES = (
    Choice("9 qubits, plain", {"layers": 23}, bits=COARSE_BITS),
    Choice("plain", PLAIN),
    Choice("plain, small angles", {**PLAIN, "initial_range": 0.01}),
    Choice("plain, plus start", {**PLAIN, "start": "plus", "initial_range": 0.01}),
    Choice("plain, plus start, 1536 parameters", {"layers": 63, "start": "plus", "initial_range": 0.01}),
    Choice("plain, plus start, Gray", {**PLAIN, "start": "plus", "initial_range": 0.01, "code": "gray"}),
    Choice("plain, plus start, snake", {**PLAIN, "start": "plus", "initial_range": 0.01, "order": "snake"}),
    Choice(
        "same significance, plus start",
        {**PLAIN, "start": "plus", "initial_range": 0.01, "order": "interleaved"},
        same_significance=True,
    ),
    Choice("cascade", BEST),
    Choice("cascade, trained longer", BEST, longer=3),
    Choice("cascade, pairs only", {**BEST, "degree": 1, "layers": 4}),
    Choice("cascade, one layer", {**BEST, "layers": 1}),
    Choice("cascade, interleaved", {**BEST, "order": "interleaved"}),
    Choice("cascade, by feature", {**BEST, "order": "by-feature"}),
    Choice("cascade, Gray", {**BEST, "code": "gray"}),
    Choice("cascade, zero start", {**BEST, "start": "zero"}),
    Choice("cascade, wide angles", {**BEST, "initial_range": math.pi}),
    Choice("cascade, MMD", BEST, objective="mmd"),
)
"""The machines compared; the plain one is RY, RZ and a ring of CNOTs."""

CONDITIONAL = (Choice("plain", PLAIN), Choice("plain, plus start", CHOICES[3].options), Choice("cascade", BEST))
"""The machines compared under a condition."""

QUICK = (CHOICES[0], CHOICES[1], CHOICES[8])
"""Enough of them for a look at the output."""


def born_gap(
    *,
    seeds: int = 3,
    steps: int = 1000,
    learning_rate: float = 0.03,
    choices: Sequence[Choice] = CHOICES,
    conditional: Sequence[Choice] = CONDITIONAL,
    progress: Callable[[str], object] = lambda text: None,
) -> dict[str, Any]:
    """Train every choice from several seeds and measure it, and so the conditional machines.

    Args:
        seeds: trainings of each choice.
        steps: of each training, on all events at once.
        learning_rate: of Adam, brought to zero by a cosine.
        choices: machines of x, pT and eta at 100 GeV.
        conditional: machines of energy, pT and eta under beam energies of 50, 100 and 200 GeV.
        progress: told what is being trained.

    Returns:
        ``settings``, and by ``joint`` and ``conditional`` a list of rows: name, parameters, two-qubit gates, and for
        each measure the values of all seeds. Rows without a model come first.
    """
    results: dict[str, Any] = {"settings": {"seeds": seeds, "steps": steps, "learning_rate": learning_rate}}
    for part, some, energies, features in (
        ("joint", choices, (100.0,), ("x", "pt", "eta")),
        ("conditional", conditional, (50.0, 100.0, 200.0), ("energy", "pt", "eta")),
    ):
        if not some:
            continue
        # 60 % of a dataset are for training; judged with events of simulations of their own
        data, test, other = (
            muon_events(n=n, beam_energies=energies, features=features, seed=seed)  # type: ignore[arg-type]
            for n, seed in ((round(TRAIN / 0.6), 0), (TEST, 1), (TEST, 2))
        )
        if len(energies) == 1:
            data = Dataset(data.samples, data.features)
        judge = _Judge(data, test, other)
        rows = judge.references()
        for choice in some:
            progress(f"{part}: {choice.name}")
            found = []
            for seed in range(seeds):
                machine = _machine(choice, data, seed)
                objective: Objective = NLL() if choice.objective == "nll" else MMD()
                fit(
                    machine,
                    data,
                    objective,
                    steps=choice.longer * steps,
                    batch_size=None,
                    learning_rate=learning_rate,
                    schedule="cosine",
                    validate_every=50,
                    seed=seed,
                )
                found.append(judge.measure(machine))
            rows.append(
                {
                    "name": choice.name,
                    "parameters": machine.n_parameters,
                    "cnots": _cnots(machine.circuit),
                    **{measure: [one[measure] for one in found] for measure in MEASURES},
                }
            )
        results[part] = rows
    return results


def _machine(choice: Choice, data: Dataset, seed: int) -> BornMachine:
    machine = BornMachine.for_dataset(
        data, seed=seed, bits=choice.bits, edges="quantile", tails=0.0, **dict(choice.options)
    )
    if not choice.same_significance:
        return machine
    return BornMachine(
        _same_significance(data.n_features, choice.bits, choice.options["layers"] + 1),
        machine.discretiser,
        seed=seed,
        initial_range=choice.options["initial_range"],
        transform=data.transform,
    )


def _same_significance(n_features: int, bits: int, n_layers: int) -> Circuit:
    n = n_features * bits
    across = [
        (k * n_features + f, k * n_features + (f + 1) % n_features) for k in range(bits) for f in range(n_features)
    ]
    along = [(wire, wire + n_features) for wire in range(n - n_features)]
    gates = [Gate("H", wire) for wire in range(n)]
    angle = 0
    for layer in range(n_layers):
        for wire in range(n):
            gates += [Gate("RY", wire, [angle]), Gate("RZ", wire, [angle + 1])]
            angle += 2
        gates += [Gate("CNOT", pair) for pair in (along if layer % 2 else across)]
    return Circuit(n, gates, angle)


def _cnots(circuit: Circuit) -> int:
    """CNOTs where each rotation about several Z is a chain of them there and back."""
    return sum(2 * (len(gate.wires) - 1) if gate.name == "MultiRZ" else len(gate.wires) - 1 for gate in circuit.gates)


class _Judge:
    """Distributions on the fine cells, at each beam energy, of test events, of as many others and of machines."""

    def __init__(self, data: Dataset, test: Dataset, other: Dataset) -> None:
        self.data = data
        train = data.train
        self.cells = Discretiser.fit(data.transform(train.samples, train.conditions), BITS)
        self.train, self.test, self.other = (self._histograms(events) for events in (train, test, other))
        self.conditions = data.condition_transform(data.conditions.unique(dim=0)) if data.n_conditions else None

    def _histograms(self, events: Dataset) -> Tensor:
        """``(energies, fine cells)``; each row sums to 1."""
        index = self.cells.cell_index(self.data.transform(events.samples, events.conditions))
        if not self.data.n_conditions:
            return (torch.bincount(index, minlength=self.cells.n_cells) / len(index)).double()[None]
        rows = [index[events.conditions[:, 0] == energy] for energy in events.conditions.unique()]
        return torch.stack([torch.bincount(row, minlength=self.cells.n_cells) / len(row) for row in rows]).double()

    def _coarse(self, fine: Tensor) -> Tensor:
        grid, side = 2**COARSE_BITS, 2 ** (BITS - COARSE_BITS)
        return fine.reshape(len(fine), grid, side, grid, side, grid, side).sum((2, 4, 6)).flatten(1)

    def _spread(self, coarse: Tensor) -> Tensor:
        """A distribution on the coarse cells as one on the fine ones, uniform within the coarse."""
        grid, side = 2**COARSE_BITS, 2 ** (BITS - COARSE_BITS)
        cube = coarse.reshape(len(coarse), grid, 1, grid, 1, grid, 1) / side**3
        return cube.expand(-1, grid, side, grid, side, grid, side).flatten(1)

    def distances(self, p: Tensor) -> dict[str, float]:
        """Total variation from the test events on coarse and on fine cells, mean over the beam energies."""
        return {
            "tv_coarse": (self._coarse(p) - self._coarse(self.test)).abs().sum(1).mean().item() / 2,
            "tv_fine": (p - self.test).abs().sum(1).mean().item() / 2,
        }

    @torch.no_grad()
    def measure(self, machine: BornMachine) -> dict[str, float]:
        """Distances, and the negative log likelihood of the test events in nats, per event, on the fine cells."""
        p = machine.probabilities(self.conditions, new_generator(0))
        if p.shape[1] != self.cells.n_cells:
            p = self._spread(p)
        tiny = torch.finfo(p.dtype).tiny
        return {**self.distances(p), "nll": -(self.test * p.clamp_min(tiny).log()).sum(1).mean().item()}

    def references(self) -> list[dict[str, Any]]:
        """Rows of true events and of what is made from them."""
        cube = self.train.reshape(-1, *[2**BITS] * 3)
        sides = [cube.sum(tuple(d for d in (1, 2, 3) if d != axis)) for axis in (1, 2, 3)]
        known = {
            "other true events": self.other,
            "training events": self.train,
            "training events, fourth bits uniform": self._spread(self._coarse(self.train)),
            "independent marginals": torch.einsum("ea,eb,ec->eabc", *sides).flatten(1),
        }
        return [
            {
                "name": name,
                "parameters": None,
                "cnots": None,
                "nll": [],
                **{k: [v] for k, v in self.distances(p).items()},
            }
            for name, p in known.items()
        ]


def born_gap_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Mean and standard deviation over the seeds.

    Args:
        rows: of :func:`born_gap`.
        title: of the table.
    """
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column("model")
    for heading in ("parameters", "CNOTs", "TV, 8x8x8", "TV, 16x16x16", "NLL, test [nat]"):
        table.add_column(heading, justify="right")
    for row in rows:
        counts = ("" if row[name] is None else str(row[name]) for name in ("parameters", "cnots"))
        table.add_row(row["name"], *counts, *(_spread_of(row[measure]) for measure in MEASURES))
    return table


def _spread_of(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def born_gap_figure(results: Mapping[str, Any]) -> Figure:
    """Total variation of every joint machine, each seed a point, with the references as lines."""
    from matplotlib.figure import Figure

    rows = [row for row in results["joint"] if row["parameters"] is not None][::-1]
    truth = next(row for row in results["joint"] if row["name"] == "other true events")
    figure = Figure(figsize=(9, 0.32 * len(rows) + 1.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, measure, cells in zip(axes, MEASURES, ("8x8x8", "16x16x16"), strict=False):
        for height, row in enumerate(rows):
            ax.plot(row[measure], [height] * len(row[measure]), "o", color="#3f90da", alpha=0.7)
        ax.axvline(truth[measure][0], color="#4d4d4d", linestyle="--", label="two truth samples")
        ax.set_xlabel(f"total variation, {cells} cells")
        ax.set_xlim(left=0)
        ax.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(rows)), [f"{row['name']} ({row['parameters']})" for row in rows])
    axes[0].legend(fontsize="small")
    return figure
