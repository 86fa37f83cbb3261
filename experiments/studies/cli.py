"""``qgen study``: the commands of the studies; each imports what it needs when it is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType

__all__ = ["study"]

study = typer.Typer(no_args_is_help=True, help="Questions asked of many circuits, trainings or conditions at once.")


@study.callback()
def _study() -> None:
    """Questions asked of many circuits, trainings or conditions at once."""


@study.command()
def trainability(
    config: Annotated[
        str | None, typer.Argument(metavar="NAME|FILE", help="An experiment, to look at one of its models instead.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="With an experiment: the model's name there.")] = None,
    qubits: Annotated[str, typer.Option(help="Numbers of qubits.")] = "2,4,6,8,10",
    layers: Annotated[str, typer.Option(help="Numbers of entangling layers.")] = "1,2,4,8,16",
    losses: Annotated[
        str, typer.Option(help="Of global, local, nll, mmd, mmd-narrow, mmd-wide.")
    ] = "global,local,nll,mmd,mmd-narrow,mmd-wide",
    initialisations: Annotated[
        str, typer.Option(help="Of uniform, small-angle, identity, zeros.")
    ] = "uniform,small-angle,identity",
    ansatz: Annotated[str, typer.Option(help="Of `qgen list ansatze`.")] = "hardware_efficient",
    samples: Annotated[int, typer.Option(min=2, help="Draws of the initial angles.")] = 200,
    data: Annotated[str, typer.Option(help="muon or calorimeter: what nll and mmd compare with.")] = "muon",
    start: Annotated[str, typer.Option(help="State before the circuit: plus (all cells alike) or zero.")] = "plus",
    pairs: Annotated[int, typer.Option(help="Of states for expressibility; 0 to leave it out.")] = 2000,
    seeds: Annotated[int, typer.Option(min=2, help="With an experiment: initial states.")] = 10,
    events: Annotated[int, typer.Option(min=2, help="With an experiment: events of the batch.")] = 256,
    shots: Annotated[int, typer.Option(min=2, help="With an experiment: shots of each circuit.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of results.json and the figure.")] = Path("studies/trainability"),
) -> None:
    """How large gradients are where training starts: against qubits, depth, loss and initialisation, or of a model.

    `qgen study trainability --qubits 2,4,6 --layers 1,4` or `qgen study trainability quickstart-muon --model
    "born machine"`.
    """
    import json

    from experiments.terminal import aside, console
    from qgen.files import write_atomically

    if config is not None:
        from experiments.config import load_config
        from experiments.studies.model_gradients import model_gradients, model_table
        from qgen.text import listed

        experiment = load_config(config)
        if model is None:
            raise ValueError(f"--model is missing; models of {config} are {listed(experiment.models)}")
        out.mkdir(parents=True, exist_ok=True)
        found = model_gradients(experiment, model, seeds=seeds, events=events, shots=shots)
        console().print(model_table(found))
        write_atomically(out / "results.json", (json.dumps(found, indent=1) + "\n").encode())
        return
    if model is not None:
        raise ValueError("--model goes with an experiment; none is given")
    from experiments.studies.trainability import Settings
    from experiments.studies.trainability import trainability as gradients_of_all
    from experiments.studies.trainability_view import trainability_figure, trainability_table

    settings = Settings(
        qubits=_numbers("qubits", qubits),
        layers=_numbers("layers", layers),
        losses=_words(losses),
        initialisations=_words(initialisations),
        ansatz=ansatz,
        samples=samples,
        data=data,
        start=start,
        pairs=pairs,
        seed=seed,
    )
    out.mkdir(parents=True, exist_ok=True)
    with aside().status("") as status:
        results = gradients_of_all(settings, status.update)
    console().print(trainability_table(results))
    write_atomically(out / "results.json", (json.dumps(results, indent=1) + "\n").encode())
    trainability_figure(results).savefig(out / "trainability.png", dpi=120)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in _words(text))
    except ValueError:
        raise ValueError(f"--{option}: found {text!r}; integers with commas between them are needed") from None


@study.command("angle-noise")
def angle_noise(
    out: Annotated[Path, typer.Option(help="Folder of the results; a study that was cut off goes on from there.")],
    seeds: Annotated[int, typer.Option(min=1, help="Models for each strength.")] = 5,
    strength: Annotated[list[float] | None, typer.Option(help="Strength of the noise, once for each.")] = None,
    pixels: Annotated[int, typer.Option(min=2, help="Pixels of the longitudinal profile, and qubits.")] = 8,
    layers: Annotated[int, typer.Option(min=1, help="Layers of the circuit.")] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 200,
    batch_size: Annotated[int, typer.Option(min=2, help="Events of a step.")] = 64,
    events: Annotated[int, typer.Option(min=20, help="Events that judge.")] = 1000,
) -> None:
    """The angle generator trained exactly and run with noise, and trained with noise, from 0 to 10 %."""
    from experiments.studies.angle_noise import STRENGTHS, AngleNoise, report

    settings = AngleNoise(
        strengths=STRENGTHS if strength is None else strength,
        seeds=range(seeds),
        pixels=pixels,
        layers=layers,
        steps=steps,
        batch_size=batch_size,
        events=events,
    )
    report(settings, out, lambda line: typer.echo(line, err=True))


@study.command()
def conditions(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run with one condition.")],
    at: Annotated[list[float] | None, typer.Option(help="An energy besides the trained ones; may be repeated.")] = None,
    n: Annotated[int, typer.Option("-n", "--n", min=20, help="Events in a sample.")] = 2500,
    truth: Annotated[
        Path | None, typer.Option(help="File of true events; without one, muon events are simulated.")
    ] = None,
    window: Annotated[
        float, typer.Option(min=0, help="With --truth: share of an energy within which events count.")
    ] = 0.02,
    metric: Annotated[list[str] | None, typer.Option(help="Only this metric; may be repeated.")] = None,
    bootstrap: Annotated[int, typer.Option(min=2, help="Bootstrap draws of each uncertainty.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers.")] = 0,
    show: Annotated[
        list[float] | None, typer.Option(help="Also draw marginals and correlations at this energy; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; RUN/studies/conditions if not given.")
    ] = None,
) -> None:
    """Ask the models of a run at, between and beyond the energies they were trained at."""
    from experiments.studies.conditions import HEADLINE, study_conditions
    from experiments.studies.conditions_view import conditions_figure, conditions_tables, corner
    from experiments.terminal import aside, console, wrote
    from qgen.run import load_run

    run = load_run(folder)
    place = folder / "studies" / "conditions" if out is None else out
    with aside().status("") as status:
        found = study_conditions(
            run,
            at or [],
            n=n,
            truth=truth,
            window=window,
            metrics=metric or HEADLINE,
            bootstrap=bootstrap,
            seed=seed,
            show=show or [],
            out=place,
            progress=status.update,
        )
    console().print(conditions_tables(found))
    conditions_figure(found).savefig(place / "conditions.png", dpi=120)
    for energy in dict.fromkeys(show or []):
        corner(found, energy).savefig(place / f"corner-{energy:g}.png", dpi=120)
    wrote(place, "results.json, conditions.png")


@study.command("born-gap")
def born_gap(
    out: Annotated[Path, typer.Option(help="Folder of results.json and the figure.")] = Path("studies/born-gap"),
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each machine.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 1000,
    quick: Annotated[bool, typer.Option(help="Three machines, one seed and 20 steps: a look at the output.")] = False,
) -> None:
    """A Born machine on 12 qubits: which code, order of bits, circuit, start and loss let it learn."""
    import json

    from experiments.studies import born_gap as gap
    from experiments.terminal import aside, console
    from qgen.files import write_atomically

    out.mkdir(parents=True, exist_ok=True)
    if quick:
        seeds, steps = 1, 20
    with aside().status("") as status:
        results = gap.born_gap(
            seeds=seeds,
            steps=steps,
            choices=gap.QUICK if quick else gap.CHOICES,
            conditional=() if quick else gap.CONDITIONAL,
            progress=status.update,
        )
    for part, title in (("joint", "x, pT, eta at 100 GeV"), ("conditional", "E, pT, eta at 50, 100 and 200 GeV")):
        if part in results:
            console().print(gap.born_gap_table(results[part], title))
    write_atomically(out / "results.json", (json.dumps(results, indent=1) + "\n").encode())
    gap.born_gap_figure(results).savefig(out / "born-gap.png", dpi=120)


@study.command("cv-cost")
def cv_cost(
    out: Annotated[Path, typer.Option(help="Folder of results.json and the figure.")] = Path("studies/cv-cost"),
    modes: Annotated[str, typer.Option(help="Numbers of modes.")] = "2,3,4,6",
    cutoffs: Annotated[str, typer.Option(help="First photon numbers that are left out.")] = "4,7,10",
    bases: Annotated[str, typer.Option(help="Of mode, total.")] = "mode,total",
    layers: Annotated[int, typer.Option(min=1, help="Layers of the network.")] = 4,
    batch: Annotated[int, typer.Option(min=1, help="Events of a step.")] = 32,
    dtype: Annotated[str, typer.Option(help="complex64 or complex128.")] = "complex64",
    memory: Annotated[float, typer.Option(min=0.001, help="GB that a case may take.")] = 2.0,
) -> None:
    """Time and memory of a step of training continuous-variable models, against modes and cutoff in both bases."""
    from experiments.studies.cv_cost import Settings
    from experiments.studies.cv_cost import cv_cost as cost_of_all
    from experiments.studies.cv_cost_view import cost_figure, cost_table

    settings = Settings(
        modes=_numbers("modes", modes),
        cutoffs=_numbers("cutoffs", cutoffs),
        bases=_words(bases),
        layers=layers,
        batch=batch,
        dtype=dtype,
        memory_limit=round(memory * 1e9),
    )
    _done(out, "cv-cost", lambda tell: cost_of_all(settings, tell), cost_table, cost_figure)


@study.command("cv-limits")
def cv_limits(
    out: Annotated[Path, typer.Option(help="Folder of results.json and the figure.")] = Path("studies/cv-limits"),
    pixels: Annotated[int, typer.Option(min=1, help="Pixels of the longitudinal profile, and modes.")] = 3,
    cutoffs: Annotated[str, typer.Option(help="Cutoffs at which showers are looked at.")] = "3,4,5,6,7,8,10,12,14,16",
    trained: Annotated[str, typer.Option(help="Cutoffs at which generators are trained; empty for none.")] = "4,6,8",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each.")] = 2,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 200,
) -> None:
    """Limits of continuous-variable generators: the cutoff that data need, energy against the cutoff, and collapse."""
    from experiments.studies.cv_limits import Settings
    from experiments.studies.cv_limits import cv_limits as limits_of_all
    from experiments.studies.cv_limits_view import limits_figure, limits_tables

    settings = Settings(
        pixels=pixels,
        cutoffs=_numbers("cutoffs", cutoffs),
        trained=_numbers("trained", trained),
        seeds=seeds,
        steps=steps,
    )
    _done(out, "cv-limits", lambda tell: limits_of_all(settings, tell), limits_tables, limits_figure)


@study.command("cv-classifier")
def cv_classifier(
    out: Annotated[Path, typer.Option(help="Folder of results.json and the figure.")] = Path("studies/cv-classifier"),
    pixels: Annotated[str, typer.Option(help="Pixels of the longitudinal profile, and modes.")] = "3,4",
    fakes: Annotated[str, typer.Option(help="Of uniform, shuffled.")] = "uniform,shuffled",
    cutoffs: Annotated[str, typer.Option(help="Cutoffs of the circuit.")] = "5,7",
    embedding: Annotated[
        str, typer.Option(help="How events enter the circuit: displacement or squeezing.")
    ] = "displacement",
    layers: Annotated[int, typer.Option(min=1, help="Layers of the circuit.")] = 2,
    events: Annotated[int, typer.Option(min=4, help="Real events, half of them held out; as many fakes.")] = 2000,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each classifier.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 400,
) -> None:
    """Real against fake showers: a continuous-variable circuit beside logistic regression and perceptrons."""
    from experiments.studies.cv_classifier import Settings
    from experiments.studies.cv_classifier import cv_classifier as classifiers
    from experiments.studies.cv_classifier_view import classifier_figure, classifier_table

    settings = Settings(
        pixels=_numbers("pixels", pixels),
        fakes=_words(fakes),
        cutoffs=_numbers("cutoffs", cutoffs),
        embedding=embedding,
        layers=layers,
        events=events,
        seeds=seeds,
        steps=steps,
    )
    _done(out, "cv-classifier", lambda tell: classifiers(settings, tell), classifier_table, classifier_figure)


@study.command()
def sensitivity(
    out: Annotated[Path, typer.Option(help="Folder of results.json and the figure.")] = Path("studies/sensitivity"),
    sources: Annotated[
        str, typer.Option(help="Of 8 pixels, 8x8 pixels, muon events.")
    ] = "8 pixels,8x8 pixels,muon events",
    faults: Annotated[str, typer.Option(help="Names of faults; empty for all.")] = "",
    metrics: Annotated[str, typer.Option(help="Names or groups of metrics.")] = "all",
    events: Annotated[int, typer.Option(help="Events in each sample.")] = 600,
    seeds: Annotated[int, typer.Option(help="Repetitions with other events.")] = 3,
    page: Annotated[
        Path | None, typer.Option(help="A Markdown page with marks: the tables are put there, the figure beside it.")
    ] = None,
) -> None:
    """Which metric sees which fault: true events made faulty in one way at a time, scored by all metrics."""
    import json

    from experiments.marked_page import split
    from experiments.studies.faults import FAULTS
    from experiments.studies.sensitivity import Settings
    from experiments.studies.sensitivity import sensitivity as matrix_of_all
    from experiments.studies.sensitivity_view import NAME, sensitivity_figure, sensitivity_table, write_page

    settings = Settings(
        sources=_words(sources),
        faults=_words(faults) or tuple(FAULTS),
        metrics=_words(metrics),
        events=events,
        seeds=seeds,
    )
    if page is not None:
        split(page, NAME)
    _done(out, "sensitivity", lambda tell: matrix_of_all(settings, tell), sensitivity_table, sensitivity_figure)
    if page is not None:
        write_page(page, json.loads((out / "results.json").read_text()))


@study.command()
def amplification(
    out: Annotated[Path, typer.Option(help="Folder of results.json and the figure.")] = Path("studies/amplification"),
    sources: Annotated[str, typer.Option(help="Of double peak, muon events.")] = "double peak,muon events",
    models: Annotated[str | None, typer.Option(help="Names of models; all if not given.")] = None,
    events: Annotated[str, typer.Option(help="Sizes of training samples.")] = "100,1000",
    factors: Annotated[str, typer.Option(help="Sizes of generated samples, over that of the training.")] = "1,10,100",
    trainings: Annotated[int, typer.Option(help="Of each model, each with other events.")] = 5,
    quantiles: Annotated[
        str | None, typer.Option(help="Of each column, one number for each source; 20 and 4 if not given.")
    ] = None,
    truth: Annotated[int, typer.Option(help="True events from which the cells of muon events are cut.")] = 1_000_000,
    page: Annotated[
        Path | None, typer.Option(help="A Markdown page with marks: the tables are put there, the figure beside it.")
    ] = None,
) -> None:
    """How many true events a sample of each model is worth (GANplification)."""
    import json

    from experiments.marked_page import split
    from experiments.studies.amplification import MODELS, QUANTILES, Settings, amplification_study
    from experiments.studies.amplification_view import NAME, amplification_figure, amplification_table, write_page

    names, of_sources = _words(sources), dict(QUANTILES)
    if quantiles is not None:
        numbers = _numbers("quantiles", quantiles)
        if len(numbers) != len(names):
            raise ValueError(f"--quantiles: found {quantiles!r}; one number for each of {len(names)} sources is needed")
        of_sources = dict(zip(names, numbers, strict=True))
    settings = Settings(
        sources=names,
        models=tuple(MODELS) if models is None else _words(models),
        events=_numbers("events", events),
        factors=_numbers("factors", factors),
        trainings=trainings,
        quantiles=of_sources,
        truth=truth,
    )
    if page is not None:
        split(page, NAME)
    _done(
        out,
        "amplification",
        lambda tell: amplification_study(settings, tell),
        amplification_table,
        amplification_figure,
    )
    if page is not None:
        write_page(page, json.loads((out / "results.json").read_text()))


@study.command("iqp-published")
def iqp_published(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run of iqp-blobs or iqp-ising.")],
    truths: Annotated[int, typer.Option(min=2, help="Samples of true events that are judged like models.")] = 20,
    out: Annotated[
        Path | None, typer.Option(help="Folder of results.json; RUN/studies/iqp-published if not given.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="A Markdown page with marks of the run's name: the table is put there.")
    ] = None,
) -> None:
    """A run beside the published rows at 16 bits: exact discrepancies from the truth, over the seeds."""
    import json

    from experiments.marked_page import put, split
    from experiments.studies.iqp_published import iqp_published as compared
    from experiments.studies.iqp_published import iqp_published_markdown, iqp_published_table
    from experiments.terminal import aside, console
    from qgen.files import write_atomically
    from qgen.run import load_run

    run = load_run(folder)
    if page is not None:
        split(page, run.config["name"])
    with aside().status("") as status:
        results = compared(run, truths=truths, progress=status.update)
    place = folder / "studies" / "iqp-published" if out is None else out
    place.mkdir(parents=True, exist_ok=True)
    console().print(iqp_published_table(results))
    write_atomically(place / "results.json", (json.dumps(results, indent=1) + "\n").encode())
    if page is not None:
        put(page, run.config["name"], iqp_published_markdown(results))


@study.command()
def bits(
    config: Annotated[
        str | None,
        typer.Argument(metavar="NAME|FILE", help="An experiment, for its events; calorimeter images if none."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Showers; the sample installed with the package if not given.")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="Cells of the file along layer, x and y if it lacks them.")] = None,
    grid: Annotated[str, typer.Option(help="Pixels along layer, x and y.")] = "16,8,8",
    bits_each: Annotated[str, typer.Option("--bits", help="Bits of a feature.")] = "1,2,3",
    voxels: Annotated[str, typer.Option(help="Numbers of pixels with bits, besides all.")] = "64,368",
    threshold: Annotated[
        list[float] | None, typer.Option(help="Energy (MeV) below which a pixel is empty; may be repeated.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=2, help="Bootstrap draws of each uncertainty.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws within the cells.")] = 0,
    page: Annotated[Path | None, typer.Option(help="A Markdown page with marks: the table is put there.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of results.json and the figure.")] = Path("studies/bits"),
) -> None:
    """What events lose as bits: thresholds, codes, cells that are cut or learned, and fewer pixels."""
    import json

    from experiments.marked_page import split
    from experiments.studies.bits import Settings, bits_study
    from experiments.studies.bits_view import NAME, bits_figure, bits_table, write_page
    from qgen.data import Dataset, load_calorimeter

    settings = Settings(
        bits=_numbers("bits", bits_each),
        voxels=_numbers("voxels", voxels),
        thresholds=threshold or (),
        bootstrap=bootstrap,
        seed=seed,
    )
    dataset: Dataset
    if config is not None:
        from experiments.config import load_config
        from experiments.run import load_dataset

        if file is not None:
            raise ValueError(f"--file is {file}, but the events are those of {config}; give one of the two")
        dataset = load_dataset(load_config(config))
    else:
        cells = None if shape is None else _three("shape", shape)
        dataset = load_calorimeter(file, grid=_three("grid", grid), shape=cells)
    if page is not None:
        split(page, NAME)
    _done(out, "bits", lambda tell: bits_study(dataset, settings, tell), bits_table, bits_figure)
    if page is not None:
        write_page(page, json.loads((out / "results.json").read_text()))


@study.command()
def gflash(
    truth: Annotated[
        Path | None, typer.Option(help="File of Geant4's showers; the installed sample if not given.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=2, help="Bootstrap draws of each metric's uncertainty.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers.")] = 0,
    page: Annotated[
        Path | None, typer.Option(help="Markdown with the marks `gflash: begin` and `end`, to put the tables between.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of results.json and the figure.")] = Path("studies/gflash"),
) -> None:
    """Parametrised showers beside Geant4's: constants from one half of the truth, judged by the other."""
    import json

    from experiments.marked_page import split
    from experiments.studies.gflash import Settings, gflash_study
    from experiments.studies.gflash_view import NAME, gflash_figure, gflash_table, write_page

    settings = Settings(truth=None if truth is None else str(truth), bootstrap=bootstrap, seed=seed)
    if page is not None:
        split(page, NAME)
    _done(out, NAME, lambda tell: gflash_study(settings, tell), gflash_table, gflash_figure)
    if page is not None:
        write_page(page, json.loads((out / "results.json").read_text()))


def _three(option: str, text: str) -> tuple[int, int, int]:
    numbers = _numbers(option, text)
    if len(numbers) != 3 or min(numbers) < 1:
        raise ValueError(f"--{option}: found {text!r}; three positive integers with commas between them are needed")
    return numbers[0], numbers[1], numbers[2]


def _done(
    out: Path,
    name: str,
    study: Callable[[Callable[[str], None]], dict[str, Any]],
    table: Callable[[dict[str, Any]], RenderableType],
    figure: Callable[[dict[str, Any]], Figure],
) -> None:
    """Do a study, print its table and write ``results.json`` and its figure."""
    import json

    from experiments.terminal import aside, console
    from qgen.files import write_atomically

    out.mkdir(parents=True, exist_ok=True)
    with aside().status("") as status:
        results = study(status.update)
    console().print(table(results))
    write_atomically(out / "results.json", (json.dumps(results, indent=1) + "\n").encode())
    figure(results).savefig(out / f"{name}.png", dpi=120)
