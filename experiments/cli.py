"""The command ``qgen``: a thin layer over the Python API. Heavy libraries are imported inside the commands."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from experiments.studies.cli import study

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.run import Reporter

__all__ = ["app", "main"]

app = typer.Typer(
    name="qgen",
    help="Train quantum and classical generators on the same collider events and read one honest table.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data = typer.Typer(help="Simulate and inspect events.", no_args_is_help=True)
simulate = typer.Typer(help="Simulate events.", no_args_is_help=True)
app.add_typer(data, name="data")
data.add_typer(simulate, name="simulate")
app.add_typer(study, name="study")

WHAT = (
    "models",
    "ansatze",
    "datasets",
    "metrics",
    "backends",
    "experiments",
    "objectives",
    "discriminators",
    "studies",
)


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit status 2, a warning is one line.

    With the environment variable ``QGEN_TRACEBACK`` set, a mistake is the whole traceback.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _one_line
            app()
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("QGEN_TRACEBACK"):
            raise
        text = str(error)
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            text = f"{error.filename}: {error.strerror[:1].lower()}{error.strerror[1:]}"
        print(f"qgen: {' '.join(text.split())}", file=sys.stderr)
        raise SystemExit(2) from None


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    """Show a warning, in place of ``warnings.showwarning``."""
    print(f"qgen: warning: {' '.join(str(message).split())}", file=sys.stderr)


@app.command()
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
    report: Annotated[bool, typer.Option(help="Write report.html into the folder.")] = True,
) -> None:
    """Train and judge every model of an experiment; print the table and write the report."""
    from experiments.config import load_config, with_compute
    from experiments.report import write_report
    from experiments.rescored import rescorings
    from experiments.run import run_experiment
    from experiments.tables import backends_table, results_table
    from qgen.run import load_run

    experiment = load_config(source, overrides or ())
    if compute is not None:
        experiment = with_compute(experiment, compute)
    if out is None and Path(source).is_dir():
        out = Path(source)
    console = _console()
    try:
        with _progress(console) as reporter:
            folder = run_experiment(experiment, out, resume=resume, device=device, reporter=reporter)
    except KeyboardInterrupt:
        print("qgen: interrupted; the same command with --resume goes on from the last checkpoint", file=sys.stderr)
        raise typer.Exit(130) from None
    finished = load_run(folder)
    console.print(results_table(finished.results))
    if found := rescorings(finished):
        console.print(backends_table(finished, found))
    console.print(f"[bold]{folder}[/bold]: results.json, samples and trained generators")
    if report:
        console.print(f"report: {write_report([finished], folder / 'report.html')}")


@app.command()
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
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search that is in the folder.")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Search the best settings of models, each with the same budget; validation events judge, test events never."""
    from experiments.config import load_config
    from experiments.tables import tuning_table
    from experiments.tune import BEST
    from experiments.tune import tune as search

    experiment = load_config(source, overrides or ())
    console = _console()
    try:
        with _progress(console) as reporter:
            found = search(
                experiment,
                model,
                out=out,
                trials=trials,
                seconds=seconds_per_trial,
                metric=metric,
                seed=seed,
                resume=resume,
                device=device,
                reporter=reporter,
            )
    except KeyboardInterrupt:
        print("qgen: interrupted; the same command with --resume goes on with the next trial", file=sys.stderr)
        raise typer.Exit(130) from None
    console.print(tuning_table(found))
    console.print(f"[bold]{found.folder / BEST}[/bold]: the best settings; `qgen run` takes it")


@app.command()
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
    console = _console()
    minutes = sum(EXPECTED_MINUTES[name] for name in (SMALL if small else LARGE))
    console.print(f"about {minutes} minute{'s' * (minutes > 1)} of one core; what is there already is not done again")
    try:
        with _progress(console) as reporter:
            written = run_benchmark(out, small=small, seconds=seconds, page=page, reporter=reporter)
    except KeyboardInterrupt:
        print("qgen: interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        raise typer.Exit(130) from None
    console.print(f"[bold]{written}[/bold]: the page; {written.with_suffix('.json')}: its numbers")


@app.command()
def evaluate(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]", help="Folder of a finished run, to score its models elsewhere."),
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="File of true events.")] = None,
    generated: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]FILE...", help="File of generated events; several may follow each other."),
    ] = None,
    reference: Annotated[Path | None, typer.Option(help="Files: further true events, for the floor.")] = None,
    training: Annotated[Path | None, typer.Option(help="Files: what the generators learned from.")] = None,
    binning: Annotated[Path | None, typer.Option(help="Files: XML of the CaloChallenge, where voxels are.")] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the table as JSON.")] = None,
    report: Annotated[Path | None, typer.Option(help="Files: also write a page with table and pictures.")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Files: only this metric or group of metrics; may be repeated.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="METRIC.NAME=VALUE", help="Files: of a metric; may be repeated.")
    ] = None,
    bins: Annotated[
        list[str] | None,
        typer.Option(metavar="CONDITION=N|EDGES", help="Files: also judge in bins of a condition; may be repeated."),
    ] = None,
    bootstrap: Annotated[
        int | None, typer.Option(min=2, help="Files: bootstrap draws of each uncertainty, 20 if not given.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Files: of the random numbers, 0 if not given.")] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND|YAML|FILE", help="RUN: where its models are to run; may be repeated."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="RUN: only this model; may be repeated. All that run circuits, without.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="RUN: label of each backend; made from its configuration, without.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="RUN: score anew what was scored already.")] = False,
    device: Annotated[str | None, typer.Option(help="RUN: cpu or cuda; cpu if not given.")] = None,
) -> None:
    """Score any files of events against any other, or the models of a run on other backends; nothing is trained.

    `qgen evaluate --truth FILE --generated FILE [FILE...]` or `qgen evaluate RUN --backend statevector --backend
    '{kind: qiskit, device: fake_manila, shots: 4096}'`. The scores of a run are kept in its folder, and
    `qgen evaluate RUN` shows them.
    """
    from qgen.files import check_place

    files = {
        "--truth": truth,
        "--generated": generated,
        "--reference": reference,
        "--training": training,
        "--binning": binning,
        "--report": report,
        "--metric": metric,
        "--option": option,
        "--bins": bins,
        "--bootstrap": bootstrap,
        "--seed": seed,
    }
    runs = {"--backend": backend, "--model": model, "--name": name, "--force": force or None, "--device": device}
    names = sources or []
    of_run = bool(names) and (truth is None or generated is None or any(Path(one).is_dir() for one in names))
    given = [key for key, value in (files if of_run else runs).items() if value is not None]
    if given:
        what = "files of events" if of_run else "the folder of a run"
        raise ValueError(f"{given[0]} goes with {what}: give either RUN or --truth and --generated")
    for path in (out, report):
        if path is not None:
            check_place(path)
    if of_run:
        if len(names) > 1:
            raise ValueError(f"{names[1]!r}: one RUN at a time is scored, {names[0]!r} is another")
        _evaluate_run(Path(names[0]), backend or [], model, name, force=force, device=device or "cpu", out=out)
        return
    if truth is None or generated is None:
        missing = "--truth" if truth is None else "--generated"
        raise ValueError(f"{missing} is missing; give --truth and --generated, or the folder of a run")
    _evaluate_files(
        truth,
        [*generated, *names],
        out,
        report,
        reference=reference,
        training=training,
        binning=binning,
        metrics=metric,
        options=option or [],
        bins=bins or [],
        n_bootstrap=20 if bootstrap is None else bootstrap,
        seed=seed or 0,
    )


def _evaluate_files(truth: Path, generated: list[str], out: Path | None, report: Path | None, **settings: Any) -> None:
    import json

    from rich.text import Text

    from experiments.evaluation import judge_files
    from experiments.metric_table import metric_table
    from qgen.files import write_atomically

    console = _console()
    try:
        with _steps(console) as progress:
            judged = judge_files(truth, generated, progress=progress, **settings)
    except KeyboardInterrupt:
        print("qgen: interrupted; nothing was written", file=sys.stderr)
        raise typer.Exit(130) from None
    if out is not None:
        scores = judged.table.to_dict()
        content = scores if len(scores) > 1 else next(iter(scores.values()))
        write_atomically(out, (json.dumps(content, indent=1) + "\n").encode())
    console.print(metric_table(judged.table))
    reasons = (*judged.left_out.values(), *map(str, judged.table.refused))
    for line in (*(f"not judged: {reason}" for reason in reasons), *judged.outside):
        console.print(Text(line))
    if report is not None:
        from experiments.report.evaluation import write_evaluation

        console.print(f"report: {write_evaluation(judged, report)}")


def _evaluate_run(
    folder: Path,
    backends: list[str],
    models: list[str] | None,
    names: list[str] | None,
    *,
    force: bool,
    device: str,
    out: Path | None,
) -> None:
    """Score the models of a run on backends; the exit status is 2 if one of them failed."""
    import json

    from experiments.rescore import backend_of_text, rescore
    from experiments.rescored import label_of, rescorings
    from experiments.tables import backends_table
    from qgen.files import write_atomically
    from qgen.run import load_run

    run = load_run(folder)
    configs = [backend_of_text(text) for text in backends]
    if not configs and (models or force):
        raise ValueError(f"{'--model' if models else '--force'} goes with --backend; none is given")
    if names is not None and len(names) != len(configs):
        raise ValueError(f"--name is given {len(names)} times, --backend {len(configs)} times; each backend needs one")
    labels = names or [label_of(config) for config in configs]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"two backends are named {label}; give each a name of its own with --name")
    console = _console()
    failures: dict[str, str] = {}
    if configs:
        try:
            with _progress(console) as reporter:
                failures = rescore(
                    run,
                    dict(zip(labels, configs, strict=True)),
                    models,
                    force=force,
                    device=device,
                    reporter=reporter,
                ).failures
        except KeyboardInterrupt:
            print("qgen: interrupted; the same command goes on with what is missing", file=sys.stderr)
            raise typer.Exit(130) from None
    found = rescorings(run)
    if not found and not failures:
        raise ValueError(f"{folder}: its models were not scored on other backends yet; name one with --backend")
    if found:
        console.print(backends_table(run, found))
        console.print(f"[bold]{folder / 'backends'}[/bold]: results and samples; `qgen report {folder}` draws them")
    if out is not None:
        scores = {label: one.model_dump(mode="json") for label, one in found.items()}
        write_atomically(out, (json.dumps(scores, indent=1) + "\n").encode())
    for label, reason in failures.items():
        print(f"qgen: {label}: {reason}", file=sys.stderr)
    if failures:
        raise typer.Exit(2)


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    model: Annotated[str, typer.Option(help="Name of a model in the run.")],
    out: Annotated[Path, typer.Option(help="File to write (HDF5).")],
    n: Annotated[int, typer.Option("-n", min=1, help="Number of events.")] = 1000,
    condition: Annotated[
        list[float] | None, typer.Option(help="The same condition for all events, a value for each column.")
    ] = None,
    model_seed: Annotated[
        int | None, typer.Option(help="Which of the run's trainings; the first if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    backend: Annotated[
        str | None,
        typer.Option(metavar="KIND|YAML|FILE", help="Where its circuits run; the run's backend if not given."),
    ] = None,
) -> None:
    """Draw events from a trained model; without --condition, under the conditions of randomly chosen test events."""
    from experiments.rescore import backend_of_text
    from qgen.data import write_events
    from qgen.files import check_place
    from qgen.run import load_run

    check_place(out)
    where = None if backend is None else backend_of_text(backend)
    events = load_run(folder).sample(
        model, n, condition=condition, model_seed=model_seed, seed=seed, device=device, backend=where
    )
    write_events(out, events)
    typer.echo(f"{out}: {n} events of {model}")


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The page; report.html in the first run's folder if not given. NAME.md: tables in Markdown."),
    ] = None,
) -> None:
    """Write one self-contained HTML page about one run or several."""
    from experiments.report import write_markdown, write_report
    from qgen.run import load_run

    if out is not None and out.suffix not in (".html", ".htm", ".md"):
        raise ValueError(f"--out {out}: the page is HTML or Markdown; expected a name that ends in .html or .md")
    write = write_markdown if out is not None and out.suffix == ".md" else write_report
    path = write([load_run(folder) for folder in folders], out or folders[0] / "report.html")
    typer.echo(str(path))


@app.command("list")
def list_(what: Annotated[str, typer.Argument(metavar="|".join(WHAT))]) -> None:
    """List what there is."""
    from experiments.catalogue import catalogue

    if what not in WHAT:
        from qgen.text import unknown

        raise ValueError(unknown("list", what, WHAT))
    _console().print(catalogue(what))


@app.command()
def doctor(
    network: Annotated[bool, typer.Option("--network", help="Also run one small job on IBM Quantum.")] = False,
) -> None:
    """Say what is installed, which backends answer and how far they reach; exit status 1 if the lab is broken."""
    from experiments.doctor import answers, diagnosis

    console = _console()
    with console.status("asking the backends"):
        found = list(answers(network))
    console.print(diagnosis(found))
    if any(answer.serious for answer in found):
        raise typer.Exit(1)


@data.command()
def describe(file: Annotated[Path, typer.Argument(help="A file of events.")]) -> None:
    """Say what a file of events holds: layout, number of events, ranges, problems (then the exit status is 1)."""
    from qgen.data import describe as describe_file

    facts = describe_file(file)
    for key, value in facts.items():
        typer.echo(f"{key}: {value}")
    if facts["problems"] != "none":
        raise typer.Exit(1)


@simulate.command()
def muon(
    out: Annotated[Path, typer.Option(help="File to write (HDF5).")],
    n: Annotated[int, typer.Option("-n", min=1, help="Number of events.")] = 10_000,
    beam_energy: Annotated[
        list[float] | None, typer.Option(help="GeV; repeated, the events are spread over all.")
    ] = None,
    mediator_mass: Annotated[float, typer.Option(help="GeV.")] = 0.2,
    target: Annotated[str, typer.Option(help="Symbol of the target's element.")] = "Pb",
    mediator: Annotated[Literal["vector", "scalar"], typer.Option(help="Spin of the force carrier.")] = "vector",
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Simulate muons that radiate a force carrier on a fixed target (improved Weizsaecker-Williams)."""
    from qgen.data import simulate_muon, write_events

    events = simulate_muon(
        n=n,
        beam_energy=beam_energy or 100.0,
        mediator_mass=mediator_mass,
        target=target,
        mediator=mediator,
        seed=seed,
    )
    write_events(out, events)
    typer.echo(f"{out}: {n} events")


def _console() -> Console:
    """Where tables go: as wide as the terminal, and wide enough for one table in a file or a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140)


@contextmanager
def _progress(console: Any) -> Iterator[Reporter]:
    """A live line on a terminal; elsewhere one line for each stage."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from experiments.run import Reporter

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def stage(model: str, seed: int, steps: int) -> None:
            for task in progress.task_ids:
                progress.update(
                    task, total=progress.tasks[task].completed or 1, completed=progress.tasks[task].completed or 1
                )
            progress.add_task(f"{model}, seed {seed}", total=steps or None, loss="")
            if not console.is_terminal:
                console.print(f"{model}, seed {seed}" + (f": {steps} steps" if steps else ""))

        def record(numbers: dict[str, float]) -> None:
            progress.update(progress.task_ids[-1], completed=numbers["step"], loss=f"loss {numbers['loss']:.4g}")

        yield Reporter(stage, record, lambda line: console.print(f"[yellow]{line}[/yellow]"))


@contextmanager
def _steps(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A live line with what is done and how much; elsewhere than on a terminal a line for each tenth."""
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<40}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def tell(what: str, done: int, of: int) -> None:
            progress.update(task, description=escape(what), completed=done, total=of)
            if not console.is_terminal and what and done % max(1, of // 10) == 0:
                typer.echo(f"{done}/{of} {what}")

        yield tell


if __name__ == "__main__":
    main()
