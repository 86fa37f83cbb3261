"""The table of ``qgen tune``, for the terminal and for a page."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from experiments.markdown_table import markdown_table
from experiments.scores import measured
from experiments.tune import Trial, Tuned, best_of

__all__ = ["tuning_markdown", "tuning_table"]


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
    trials = max(map(len, tuned.trials.values()))
    return "\n".join(
        [
            f"`{tuned.name}`: {trials} trials of each model, {each} each, judged by `{tuned.metric}` on validation "
            f"events (training events in their place: {_floor(tuned)}). The first trial is the configuration as it "
            "stands.",
            "",
            *markdown_table(headings, _rows(tuned), left=(0, len(headings) - 1)),
        ]
    )


def _headings(tuned: Tuned) -> list[str]:
    scores = [f"{which}\n{tuned.metric}" for which in ("first", "best")]
    return ["model", "trials", "failed", "processor s", "size", *scores, "best parameters"]


def _rows(tuned: Tuned) -> list[list[str]]:
    rows = []
    for name, trials in tuned.trials.items():
        best = best_of(trials)
        settings = {} if best is None else {path.split(".")[-1]: value for path, value in best.parameters.items()}
        rows.append(
            [
                name,
                str(len(trials)),
                str(sum(trial.score is None for trial in trials)),
                f"{sum(trial.cpu_seconds for trial in trials):.0f}",
                "–" if best is None else str(best.n_parameters),
                _score(trials[0]),
                _score(best),
                ", ".join(
                    f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
                    for key, value in settings.items()
                ),
            ]
        )
    return rows


def _score(trial: Trial | None) -> str:
    if trial is None or trial.score is None:
        return "failed"
    return str(measured(trial.score, trial.uncertainty or 0.0, digits=1))


def _floor(tuned: Tuned) -> str:
    return str(measured(tuned.floor.value, tuned.floor.uncertainty, digits=1))
