"""``qgen tune``: a search for models' settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.terminal import console, ended_by_signal, interruptible, progress, wrote

__all__ = ["tune"]


def tune(
    source: Annotated[
        str, typer.Argument(metavar="NAME|FILE|RUN", help="Of `qgen list experiments`, YAML, or a run's folder.")
    ],
    model: Annotated[
        list[str] | None, typer.Option(help="Only this model; may be repeated. All that train, without.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trainings of each model.")] = 20,
    seconds_per_trial: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Processor time of each training; its own steps if not given."),
    ] = None,
    metric: Annotated[
        str, typer.Option(help="By which validation events and generated ones are compared.")
    ] = "sliced_wasserstein",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Set one field; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the search; runs/NAME-tune if not given.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of proposals and trainings.")] = 0,
    prune: Annotated[
        bool, typer.Option("--prune", help="End a trial early that does worse than the median at the same step.")
    ] = False,
    farm: Annotated[
        str | None,
        typer.Option(metavar="FARM", help="Where trials run: here, processes=4, dask=4, ...; here if not given."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL",
            envvar="QGEN_STORAGE",
            help="Journal or database of the trials; journal.jsonl in the folder if not given.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the search that is in the folder, or join others at it.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    page: Annotated[
        Path | None,
        typer.Option(help="A Markdown page with the experiment's marks: the table is put there, all trials beside it."),
    ] = None,
) -> None:
    """Search the best settings of models, each with the same budget; validation events judge, test events never."""
    from experiments.config import read_config, resolve
    from experiments.tune import BEST
    from experiments.tune import tune as search
    from experiments.tuning_table import check_search, tuning_table, write_page

    raw = read_config(source, overrides or ())
    written = raw.pop("farm", "here")
    experiment = resolve(raw)
    if page is not None:
        check_search(page, experiment.name, model)
    with (
        interruptible("the same command with --resume goes on from the last checkpoint"),
        ended_by_signal(),
        progress() as reporter,
    ):
        found = search(
            experiment,
            model,
            out=out,
            trials=trials,
            seconds=seconds_per_trial,
            metric=metric,
            seed=seed,
            prune=prune,
            storage=storage,
            farm=farm or written,
            resume=resume,
            device=device,
            reporter=reporter,
        )
    console().print(tuning_table(found))
    if page is not None:
        write_page(page, found)
    wrote(found.folder / BEST, "the best settings; `qgen run` takes it")
