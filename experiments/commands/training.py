"""``qgen run`` and ``benchmark``: the commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.terminal import aside, console, interruptible, progress, wrote

__all__ = ["benchmark", "run"]


def run(
    source: Annotated[
        str,
        typer.Argument(metavar="NAME|FILE|RUN", help="Of `qgen list experiments`, YAML, or a run's folder."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="a.b=c", help="Set one field; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME if not given.")] = None,
    compute: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Processor time of every training, in place of its number of steps."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is in the folder.")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="tensorboard|mlflow", help="Also show the run there; may be repeated."),
    ] = None,
    report: Annotated[bool, typer.Option(help="Write report.html into the folder.")] = True,
) -> None:
    """Train and judge every model of an experiment; print the table and write the report."""
    from experiments.config import load_config, with_compute
    from experiments.ranks import help_with_trainings
    from experiments.report import write_report
    from experiments.rescored import rescorings
    from experiments.run import run_experiment
    from experiments.tables import backends_table, results_table
    from qgen.run import load_run
    from qgen.training.parallel import joined

    with joined(device) as ranks:
        if ranks is not None and ranks.rank:
            help_with_trainings(ranks)
            return
        experiment = load_config(source, overrides or ())
        if compute is not None:
            experiment = with_compute(experiment, compute)
        if out is None and Path(source).is_dir():
            out = Path(source)
        with interruptible("the same command with --resume goes on from the last checkpoint"), progress() as reporter:
            folder = run_experiment(
                experiment, out, resume=resume, device=device, reporter=reporter, track=track or (), ranks=ranks
            )
        if ranks is not None:
            ranks.send(None)
    finished = load_run(folder)
    results = console()
    results.print(results_table(finished.results))
    if found := rescorings(finished):
        results.print(backends_table(finished, found))
    wrote(folder, "results.json, samples and trained generators")
    if report:
        wrote(write_report([finished], folder / "report.html"), "the report")


def benchmark(
    out: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/benchmark"),
    small: Annotated[bool, typer.Option("--small", help="A quick look: few models and events.")] = False,
    seconds: Annotated[
        float | None, typer.Option(help="Processor time of each training at equal time; 5 if not given.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="The page to write, with its numbers beside it; in the folder if not given.")
    ] = None,
) -> None:
    """Train and judge every model on all its data and write one page; the same command goes on where it was."""
    from experiments.benchmark import EXPECTED_MINUTES, LARGE, SMALL
    from experiments.benchmark import benchmark as run_benchmark
    from qgen.files import check_place

    if page is not None:
        check_place(page)
    minutes = sum(EXPECTED_MINUTES[name] for name in (SMALL if small else LARGE))
    aside().print(f"about {minutes} minute{'s' * (minutes > 1)} of one core; what is there already is not done again")
    with interruptible("the same command goes on from the last checkpoint"), progress() as reporter:
        written = run_benchmark(out, small=small, seconds=seconds, page=page, reporter=reporter)
    typer.echo(f"{written}: the page; {written.with_suffix('.json')}: its numbers")
