"""Tables for the terminal: results of a run, and the same on other backends."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from experiments.cost import COLUMNS, short_cost
from experiments.scores import Results, Score, measured, p_text, read_results

if TYPE_CHECKING:
    from experiments.rescored import Rescoring
    from qgen.run import Run

__all__ = ["backends_table", "results_table"]

FLOOR = "truth vs truth"
LONGEST_NAME = 24
NARROW = 10


def results_table(results: Mapping[str, Any]) -> RenderableType:
    """The table of a run: floors first, then truth through cells, then the models as configured.

    A column for each metric of whole samples: the value and, below it, its uncertainty; with several seeds the mean
    over them and the spread between them. The best of a column is bold. Then what each model costs; a quantum one in
    qubits, gates (of which on two qubits), depth and circuits run. Where the terminal is too narrow, the columns go on
    in a second table. Of many metrics those that are taken by default come first; of the others the pulls are listed
    below. At the end, what went wrong in trainings.

    Args:
        results: what stands in a run's ``results.json``.

    Raises:
        ValueError: a field is missing or impossible.
    """
    checked = read_results(results)
    lines = [Text(f"{name}: {model.trouble}", "yellow") for name, model in checked.generators.items() if model.trouble]
    further = [_pulls(checked)] if checked.further else []
    return Group(_Columns.of(checked), *further, *lines)


@dataclass(frozen=True)
class _Columns:
    """Columns under a title, in as many tables as the width asks for; the first column stands in each.

    Args:
        title: above the first table.
        headings: of the columns.
        rows: cells of each row, with the row's style; a cell may have several lines.
    """

    title: str
    headings: list[str]
    rows: list[tuple[list[Text], str]]

    @classmethod
    def of(cls, results: Results) -> _Columns:
        seeds = results.seeds
        title = results.name + (f", mean ± spread over {len(seeds)} seeds" if len(seeds) > 1 else "")
        metrics = results.headline
        costs = {name: short_cost(model.cost) for name, model in results.generators.items()}
        shown = [key for key in COLUMNS if any(key in cost for cost in costs.values())]
        headings = [
            "model",
            *(metric.replace("_", "\n") for metric in metrics),
            "para-\nmeters",
            "train\ns",
            "sample\ns",
            *(COLUMNS[key].replace(" ", "\n") for key in shown),
        ]
        none = [Text()] * (3 + len(shown))
        rows: list[tuple[list[Text], str]] = []
        for floor in results.floors:
            name = FLOOR if len(results.floors) == 1 else f"{FLOOR}\n({', '.join(floor.of)})"
            numbers = [_stacked(*floor.metrics[m]) if m in floor.metrics else Text("–") for m in metrics]
            rows.append(([Text(name), *numbers, *none], "dim"))
        for name, model in results.cells.items():
            rows.append(([Text(name), *(_number(model.metrics.get(m)) for m in metrics), *none], "italic"))
        best = {metric: results.best(metric) for metric in metrics}
        for name, model in results.generators.items():
            cells = [Text(f"{name}\n({model.flags})" if model.trouble else name)]
            cells += [_number(model.metrics.get(m), "bold" if best[m] == name else "") for m in metrics]
            cells += [
                Text(str(model.n_parameters)),
                Text(f"{model.train_seconds:.1f}"),
                Text(f"{model.sample_seconds:.2f}"),
                *(Text(costs[name].get(key, "")) for key in shown),
            ]
            rows.append((cells, ""))
        return cls(title, headings, rows)

    def _width(self, column: int) -> int:
        texts = [Text(self.headings[column]), *(cells[column] for cells, _ in self.rows)]
        widest = max(cell_len(line.plain) for text in texts for line in text.split(allow_blank=True))
        return min(widest, LONGEST_NAME) if column == 0 else widest

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As many columns a table as fit, at least one."""
        yield Text(self.title, style="bold")
        free = options.max_width - self._width(0) - 2
        tables: list[list[int]] = [[]]
        left = free
        for column in range(1, len(self.headings)):
            needed = self._width(column) + 1
            if tables[-1] and needed > left:
                tables.append([])
                left = free
            tables[-1].append(column)
            left -= needed
        for columns in tables:
            yield self._table([0, *columns])

    def _table(self, columns: list[int]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, padding=0)
        for column in columns:
            table.add_column(
                Text(self.headings[column]),
                justify="right" if column else "left",
                overflow="fold",
                no_wrap=column > 0,
                max_width=self._width(column),
            )
        for cells, style in self.rows:
            if any(cells[column].plain for column in columns[1:]):
                table.add_row(*(cells[column] for column in columns), style=style)
        return table


def _pulls(results: Results) -> _Columns:
    """The pulls of the further metrics, a row each; the best model's is bold."""
    models = results.generators
    rows = []
    for metric in results.further:
        best = results.best(metric)
        cells = [
            Text(_pull(model.metrics.get(metric)), "bold" if name == best else "") for name, model in models.items()
        ]
        rows.append(([Text(metric), *cells], ""))
    headings = ["metric", *("\n".join(textwrap.wrap(name.replace("_", " "), NARROW)) for name in models)]
    return _Columns("further metrics: pull, (value - floor) / uncertainty; p of a test", headings, rows)


def _pull(score: Score | None) -> str:
    if score is None or score.pull is None:
        return "–"
    return f"{score.pull:+.1f}" if score.p_value is None else f"{score.pull:+.1f}\np {p_text(score.p_value)}"


def _number(score: Score | None, style: str = "") -> Text:
    if score is None:
        return Text("–")
    return _stacked(score.value, score.uncertainty if score.spread is None else score.spread, style)


def _with_floor(score: Score | None) -> Text:
    """A distance, and below it its floor if a perfect backend has one."""
    if score is None or not score.floor_uncertainty:
        return _number(score)
    floor = measured(score.floor, score.floor_uncertainty, digits=1).parts()[0]
    return _number(score).append(f"\n({floor})", "dim")


def _stacked(value: float, uncertainty: float, style: str = "") -> Text:
    first, second = measured(value, uncertainty, digits=1).parts()
    return Text.assemble((first, style), f"\n±{second}")


def backends_table(run: Run, rescored: Mapping[str, Rescoring]) -> RenderableType:
    """The models of a run on several backends: floor first, then each model as it was trained and on every other one.

    A column for each metric of whole samples, as in :func:`results_table`, then the distances between the backend's
    distribution and the exact one, where they are known; where it has shots, what a perfect one with as many would
    score stands below. At the end, what could not be scored.

    Args:
        run: a finished run.
        rescored: what :func:`experiments.rescored.rescorings` found, or some of it.
    """
    from experiments.rescored import side_by_side

    results = read_results(run.results)
    models = side_by_side(run, results, rescored)
    metrics = results.headline
    distances = list(dict.fromkeys(name for rows in models.values() for row in rows for name in row.distances))
    headings = ["model\non backend", *(name.replace("_", "\n") for name in metrics)]
    headings += [*(name.replace(" ", "\n") for name in distances), "sample\ns"]
    lines: list[tuple[list[Text], str]] = []
    for floor in results.floors:
        numbers = [_stacked(*floor.metrics[m]) if m in floor.metrics else Text("–") for m in metrics]
        lines.append(([Text(FLOOR), *numbers, *(Text() for _ in distances), Text()], "dim"))
    trouble = []
    for name, rows in models.items():
        for row in rows:
            where = f"{row.label} (the run)" if row.facts is None else row.label
            cells = [Text("\n").join([Text(name, "bold"), *map(Text, textwrap.wrap(where, LONGEST_NAME))])]
            cells += [_number(row.scores.metrics.get(metric)) for metric in metrics]
            cells += [_with_floor(row.distances.get(distance)) for distance in distances]
            lines.append(([*cells, Text(f"{row.scores.sample_seconds:.2f}")], ""))
            if row.scores.trouble:
                trouble.append(Text(f"{name} on {where}: {row.scores.trouble}", "yellow"))
    title = f"{results.name} on other backends"
    return Group(_Columns(title, headings, lines), *trouble)
