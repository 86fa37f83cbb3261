"""One run as a page of Markdown: what was run, and the table, for a repository or a note."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from experiments.config import config_names, load_config, resolve
from experiments.cost import COLUMNS, short_cost
from experiments.markdown_table import markdown_table, without_html
from experiments.report.strings import string_tables
from experiments.report.summary import Cell, headline_rows
from experiments.scores import Results, read_results
from qgen.files import write_atomically
from qgen.run import CONFIG, Run

__all__ = ["FOOTNOTE", "PRICE", "further_table", "headline_table", "markdown", "write_markdown"]

FOOTNOTE = (
    "Value ± uncertainty (finite samples and, for several trainings, the spread between them); in brackets the "
    "distance from truth against truth in standard deviations, and of a test its p-value. The model nearest to a "
    "perfect one is in bold."
)
PRICE = (
    " Gates are those of the circuit as it is written, on two qubits in brackets; circuits run are those of one "
    "training, each set of angles by itself."
)


def markdown(run: Run) -> str:
    """The page: description, command, data, machine, the table of models and metrics, remarks on trainings.

    Args:
        run: a finished run.

    Raises:
        FileNotFoundError: the run has no results yet.
        ValueError: its files are damaged.
    """
    results = read_results(run.results, str(run.folder / "results.json"))
    config, seeds = run.config, results.seeds
    minutes = sum(model.train_seconds for model in results.generators.values()) * len(seeds) / 60
    facts = run.environment
    lines = [
        f"# {without_html(results.name)}",
        "",
        without_html(str(config.get("description", "")).strip()),
        "",
        "```sh",
        _command(run),
        "```",
        "",
        f"{len(seeds)} training{'s' * (len(seeds) > 1)} of every model (seed{'s' * (len(seeds) > 1)} "
        f"{', '.join(map(str, seeds))}), none left out; training took {minutes:.1f} minutes in all on "
        f"{facts.get('device', 'an unknown device')} with {config.get('threads', 'an unknown number of')} "
        f"thread{'s' * (config.get('threads') != 1)}.",
        f"Data: {without_html(_data(config['dataset'], facts.get('data')))}.",
        "",
    ]
    lines += [*headline_table(results), "", FOOTNOTE + (PRICE if _prices(results) else ""), ""]
    if results.further:
        lines += ["<details><summary>All other metrics</summary>", "", *further_table(results), "", "</details>", ""]
    for table in string_tables(run, results):
        lines += [f"{table.title}:", "", *markdown_table(table.header, table.rows), ""]
    troubles = {name: model.trouble for name, model in results.generators.items() if model.trouble}
    remarks = [f"- **{without_html(name)}**: {without_html(trouble)}" for name, trouble in troubles.items()]
    if remarks:
        lines += ["What its trainings remarked:", "", *remarks, ""]
    return "\n".join(lines)


def _command(run: Run) -> str:
    """What does the run again: by its name if the lab ships this very experiment, else by its own configuration."""
    name = run.config["name"]
    if name in config_names():
        with suppress(ValueError):  # a configuration that is not allowed any more is not the lab's
            there, shipped = (
                one.model_copy(update={"description": ""}) for one in (resolve(run.config), load_config(name))
            )
            if there == shipped:
                return f"qgen run {name}"
    return shlex.join(["qgen", "run", str(run.folder / CONFIG), "--out", f"{run.folder}-again"])


def write_markdown(runs: Sequence[Run], path: Path) -> Path:
    """Write the pages of several runs, one below the other, to one file.

    Raises:
        FileNotFoundError: a run has no results yet.
        ValueError: a run's files are damaged, or a folder for ``path`` that does not exist.
    """
    if not path.parent.is_dir():
        raise ValueError(f"{path}: the folder {path.parent} does not exist")
    write_atomically(path, "\n".join(markdown(run) for run in runs).encode())
    return path


def _data(dataset: dict[str, Any], data: dict[str, Any] | None) -> str:
    options = ", ".join(f"{key} {value}" for key, value in dataset.items() if key != "kind" and value is not None)
    known = isinstance(data, dict) and {"events", "sha256"} <= set(data)
    events = f"; {data['events']} events, SHA-256 {str(data['sha256'])[:12]}" if data and known else ""
    return f"`{dataset['kind']}` ({options}){events}"


def headline_table(results: Results) -> list[str]:
    """The lines of the table of models: parameters, times, prices of circuits and headline metrics."""
    metrics, shown = results.headline, _prices(results)
    header = ["model", "parameters", "training [s]", *(COLUMNS[key] for key in shown), *metrics]
    rows = []
    for row in headline_rows(results, metrics):
        price = ["", "", *("" for _ in shown)]
        if row.scores is not None and row.role == "model":
            price = [str(row.scores.n_parameters), f"{row.scores.train_seconds:.1f}"]
            price += [short_cost(row.scores.cost).get(key, "") for key in shown]
        rows.append([row.name, *price, *(_number(row.cells[metric]) for metric in metrics)])
    return markdown_table(header, rows)


def _prices(results: Results) -> list[str]:
    """What is told of the price of circuits, nothing where no model has any."""
    return [key for key in COLUMNS if any(key in short_cost(model.cost) for model in results.generators.values())]


def further_table(results: Results) -> list[str]:
    """The lines of a table of the metrics that are not in the first one: a row for each, a column for each model."""
    rows = headline_rows(results, results.further)
    lines = [[metric, *(_number(row.cells[metric]) for row in rows)] for metric in results.further]
    return markdown_table(["metric", *(row.name for row in rows)], lines)


def _number(cell: Cell) -> str:
    if cell.number is None:
        return "–"
    text = f"**{cell.number}**" if cell.best else str(cell.number)
    return f"{text} ({cell.pull})" if cell.pull else text
