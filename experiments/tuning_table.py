"""The table of ``qgen tune``, for the terminal and for a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from experiments.markdown_table import markdown_table
from experiments.marked_page import put, split
from experiments.scores import measured
from experiments.tune import Trial, Tuned, best_of
from qgen.files import write_atomically
from qgen.run import read_json

__all__ = ["check_search", "tuning_markdown", "tuning_table", "write_page"]

PRUNING = " A trial whose score was worse than the median of the others at the same step was pruned: ended there."


def tuning_table(tuned: Tuned) -> Table:
    """Each model's first trial, which is its configuration as it stands, and its best one; below, the floor."""
    caption = f"validation events against training events: {_floor(tuned)}; parameters: {tuned.folder}/*/trials.jsonl"
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption)
    headings = _headings(tuned)
    for i, heading in enumerate(headings):
        drawn.add_column(heading, justify="right" if 0 < i < len(headings) - 1 else "left", overflow="fold")
    for row in _rows(tuned):
        drawn.add_row(*map(Text, row))
    return drawn


def tuning_markdown(tuned: Tuned) -> str:
    """The same as Markdown, with the budget of each model and the floor.

    Args:
        tuned: a finished search.
    """
    each = "their own steps" if tuned.seconds is None else f"{tuned.seconds:g} s of processor time"
    headings = [heading.replace("\n", ", ") for heading in _headings(tuned)]
    trials = " or ".join(map(str, sorted({len(of_model) for of_model in tuned.trials.values()})))
    return "\n".join(
        [
            f"`{tuned.name}`: {trials} trials of each model, {each} each, judged by `{tuned.metric}` on validation "
            f"events (training events in their place: {_floor(tuned)}). The first trial is the configuration as it "
            f"stands.{PRUNING if tuned.prune else ''}",
            "",
            *markdown_table(headings, _rows(tuned), left=(0, len(headings) - 1)),
        ]
    )


def check_search(page: Path, name: str, models: Sequence[str] | None) -> None:
    """See that the page can take the search of an experiment, before it begins.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: a mark is missing, the JSON file is damaged, or only some models are to be searched.
    """
    if models:
        raise ValueError(f"{page}: a page takes the search of all models; found --model {models[0]!r}")
    split(page, name)
    _searches(page)


def _searches(page: Path) -> tuple[Path, dict[str, Any]]:
    """The JSON file beside a page, and the searches that are in it."""
    path = page.with_suffix(".json")
    if path == page:
        raise ValueError(f"{page}: the trials go there; a page in Markdown is needed")
    found = read_json(path) if path.is_file() else {}
    if not isinstance(found, dict):
        raise ValueError(f"{path}: found a {type(found).__name__}; a mapping of experiments is expected")
    return path, found


def write_page(page: Path, tuned: Tuned) -> None:
    """Put the table between the marks of the experiment's name, and all trials into a JSON file beside the page.

    Args:
        page: Markdown with the marks of :func:`experiments.marked_page.marks`; searches of other experiments stay.
        tuned: a finished search.

    Raises:
        FileNotFoundError: there is no such page.
        ValueError: a mark is missing, or the JSON file is damaged.
    """
    path, searches = _searches(page)
    put(page, tuned.name, tuning_markdown(tuned))
    searches[tuned.name] = {
        "seconds": tuned.seconds,
        "metric": tuned.metric,
        "prune": tuned.prune,
        "floor": {"value": tuned.floor.value, "uncertainty": tuned.floor.uncertainty},
        "trials": {name: [asdict(trial) for trial in trials] for name, trials in tuned.trials.items()},
    }
    write_atomically(path, (json.dumps(searches, indent=1) + "\n").encode())


def _headings(tuned: Tuned) -> list[str]:
    scores = [f"{which}\n{tuned.metric}" for which in ("first", "best")]
    pruned = ["pruned"] if tuned.prune else []
    return ["model", "trials", "failed", *pruned, "processor s", "size", *scores, "best parameters"]


def _rows(tuned: Tuned) -> list[list[str]]:
    rows = []
    for name, trials in tuned.trials.items():
        best = best_of(trials)
        rows.append(
            [
                name,
                str(len(trials)),
                str(sum(trial.failed for trial in trials)),
                *([str(sum(trial.pruned for trial in trials))] if tuned.prune else []),
                f"{sum(trial.cpu_seconds for trial in trials):.0f}",
                "–" if best is None else str(best.n_parameters),
                _score(trials[0]),
                _score(best),
                _settings(best),
            ]
        )
    return rows


def _settings(best: Trial | None) -> str:
    if best is None:
        return ""
    if not best.parameters:
        return "as configured"
    named = {path.split(".")[-1]: value for path, value in best.parameters.items()}
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in named.items()
    )


def _score(trial: Trial | None) -> str:
    if trial is None or trial.score is None:
        return "pruned" if trial is not None and trial.pruned else "failed"
    return str(measured(trial.score, trial.uncertainty or 0.0, digits=1))


def _floor(tuned: Tuned) -> str:
    return str(measured(tuned.floor.value, tuned.floor.uncertainty, digits=1))
