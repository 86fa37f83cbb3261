"""``qgen evaluate``: files of events judged against others, or the models of a run on other backends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from experiments.terminal import console, counting, interruptible, progress, say, wrote

__all__ = ["evaluate"]


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
    from rich.text import Text

    from experiments.evaluation import judge_files
    from experiments.metric_table import metric_table
    from qgen.files import write_atomically

    with interruptible("nothing was written"), counting() as tell:
        judged = judge_files(truth, generated, progress=tell, **settings)
    if out is not None:
        scores = judged.table.to_dict()
        content = scores if len(scores) > 1 else next(iter(scores.values()))
        write_atomically(out, (json.dumps(content, indent=1) + "\n").encode())
    table = console()
    table.print(metric_table(judged.table))
    reasons = (*judged.left_out.values(), *map(str, judged.table.refused))
    for line in (*(f"not judged: {reason}" for reason in reasons), *judged.outside):
        table.print(Text(line))
    if report is not None:
        from experiments.report.evaluation import write_evaluation

        with interruptible("the report was not written, the table stands above"):
            wrote(write_evaluation(judged, report), "the report")


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
    from experiments.rescore import backend_of_text, rescore
    from experiments.rescored import BACKENDS, label_of, rescorings
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
    failures: dict[str, str] = {}
    if configs:
        with interruptible("the same command goes on with what is missing"), progress() as reporter:
            asked = dict(zip(labels, configs, strict=True))
            failures = rescore(run, asked, models, force=force, device=device, reporter=reporter).failures
    found = rescorings(run)
    if not found and not failures:
        raise ValueError(f"{folder}: its models were not scored on other backends yet; name one with --backend")
    if found:
        console().print(backends_table(run, found))
        wrote(folder / BACKENDS, f"results and samples; `qgen report {folder}` draws them")
    if out is not None:
        scores = {label: one.model_dump(mode="json") for label, one in found.items()}
        write_atomically(out, (json.dumps(scores, indent=1) + "\n").encode())
    for label, reason in failures.items():
        say(f"{label}: {reason}")
    if failures:
        raise typer.Exit(2)
