"""``benchmark``: every model of the lab on its data, five trainings each, and one page about all of them.

Three comparisons for each of the data sets: the models as they are tuned; of these, every quantum model beside the
classical ones of its size; and all models once more, each given the same processor time.
"""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import torch

from circuits.cv import TruncationWarning
from experiments.config import load_config, resolve, with_compute
from experiments.experiment import Experiment
from experiments.run import load_dataset, run_experiment
from experiments.trained import Reporter
from qgen.data import Dataset
from qgen.files import write_atomically
from qgen.random import new_generator
from qgen.registry import generator_class, generators
from qgen.run import CONFIG, Run, load_run

__all__ = ["EXPECTED_MINUTES", "LARGE", "PAGE", "SMALL", "benchmark", "unfit"]

LARGE = ("benchmark-8px", "benchmark-8x8", "benchmark-muon")
SMALL = ("benchmark-small",)
PAGE = "benchmark.md"

EQUAL_TIME = "-equal-time"
EXPECTED_MINUTES = {"benchmark-8px": 21, "benchmark-8x8": 16, "benchmark-muon": 18, "benchmark-small": 1}
"""Processor time of one core, trainings at equal time included: about."""


def benchmark(
    out: Path | str,
    *,
    small: bool = False,
    seconds: float | None = None,
    page: Path | str | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Run what is not there yet, and write the page and its numbers; called again, it goes on where it was.

    Args:
        out: folder of the runs, one for each data set and one more for the trainings at equal time.
        small: a quick look at two models on few events, in place of all.
        seconds: processor time of each training at equal time; 5, for the quick look 0.3.
        page: the page to write, ``benchmark.md`` in ``out`` if not given; ``benchmark.json`` is written beside it. What
            stands between its marks for text by hand is kept.
        reporter: is told of progress.

    Returns:
        The page.

    Raises:
        ValueError: a folder holds another experiment, ``seconds`` is not positive, or ``page`` is a file that is no
            page of a benchmark.
    """
    from experiments.benchmark_page import check_page, numbers, write_page

    folder = Path(out)
    path = Path(page) if page is not None else folder / PAGE
    seconds = seconds if seconds is not None else 0.3 if small else 5.0
    reporter = reporter or Reporter()
    check_page(path)
    runs: dict[str, tuple[Run, Run]] = {}
    left_out: dict[str, dict[str, str]] = {}
    experiments = {name: load_config(name) for name in (SMALL if small else LARGE)}
    timed = {name: at_equal_time(experiment, seconds) for name, experiment in experiments.items()}
    for name, experiment in experiments.items():
        runs[name] = (
            _finished(experiment, folder / name, reporter),
            _finished(timed[name], folder / f"{name}{EQUAL_TIME}", reporter),
        )
        left_out[name] = unfit(experiment)
    write_atomically(path.with_suffix(".json"), (json.dumps(numbers(runs), indent=1) + "\n").encode())
    write_page(path, runs, left_out, seconds)
    return path


def at_equal_time(experiment: Experiment, seconds: float) -> Experiment:
    """The trained models, each with the same processor time, for two seeds and the default metrics."""
    raw = experiment.plain()
    raw["models"] = {name: model for name, model in raw["models"].items() if "training" in model}
    raw |= {"name": f"{experiment.name}{EQUAL_TIME}", "seeds": experiment.seeds[:2]}
    raw["evaluation"]["metrics"] = None
    return with_compute(resolve(raw), seconds)


def _finished(experiment: Experiment, folder: Path, reporter: Reporter) -> Run:
    """The run, done, gone on with, or as it was finished before."""
    if (folder / "results.json").is_file() and load_run(folder).config == experiment.plain():
        return load_run(folder)
    return load_run(run_experiment(experiment, folder, resume=(folder / CONFIG).is_file(), reporter=reporter))


def unfit(experiment: Experiment) -> dict[str, str]:
    """The kinds that are not in an experiment, with the reason that their own class or engine gives on its events.

    A kind that could be there, and is not, has an empty reason.
    """
    dataset = load_dataset(experiment)
    there = {model.generator.kind for model in experiment.models.values()}
    return {kind: _reason(kind, dataset) for kind in generators() if kind not in there}


def _reason(kind: str, dataset: Dataset) -> str:
    try:
        generator = generator_class(kind).for_dataset(dataset, seed=0)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("error", TruncationWarning)
            generator.sample(2, dataset.train.conditions[:2], new_generator(0))
    except (ValueError, MemoryError, TruncationWarning) as error:
        return re.sub(
            r", \S+ GB are free on \S+", "", " ".join(str(error).split())
        )  # which is another machine's matter
    return ""
