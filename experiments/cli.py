"""The command ``qgen``: a thin layer over the Python API. Heavy libraries are imported inside the commands."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Annotated

import typer

from experiments.commands.evaluate import evaluate
from experiments.commands.events import data, sample
from experiments.commands.export import export, from_counts
from experiments.commands.runs import runs
from experiments.commands.sweep import sweep
from experiments.commands.training import benchmark, run
from experiments.commands.tune import tune
from experiments.studies.cli import study
from experiments.terminal import aside, console, say

__all__ = ["app", "main"]

app = typer.Typer(
    name="qgen",
    help="Train quantum and classical generators on the same collider events and read one honest table.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

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
            warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
            status = app(prog_name="qgen", standalone_mode=False)
    except typer.TyperException as error:
        _usage(error)
        raise SystemExit(2) from None
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("QGEN_TRACEBACK"):
            raise
        text = str(error)
        if isinstance(error, OSError) and error.filename is not None and error.strerror:
            text = f"{error.filename}: {error.strerror[:1].lower()}{error.strerror[1:]}"
        say(text)
        raise SystemExit(2) from None
    except (MemoryError, RuntimeError) as error:
        if os.environ.get("QGEN_TRACEBACK") or not _out_of_memory(error):
            raise
        say("the memory here does not suffice; ask for a smaller model, fewer events or a smaller batch_size")
        raise SystemExit(2) from None
    raise SystemExit(status or 0)


def _out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Whether Python, numpy or torch (which has no class of its own for it on the CPU) could not allocate memory."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in ("allocate memory", "out of memory"))


def _usage(error: typer.TyperException) -> None:
    """Say what is wrong with the words of a command: unknown, missing or impossible ones."""
    from pydantic import ValidationError

    text = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":  # no public name; Rich has shown the help already
        typer.echo(text, err=True, nl=bool(text))
        return
    if isinstance(error.__cause__, ValidationError):
        what = error.message.removeprefix("Value error, ")
        found = repr(error.__cause__.errors()[0]["input"])
        text = text.removesuffix(error.message) + what[:1].lower() + what[1:]
        text += "" if found in what else f" (found {found})"
    context = getattr(error, "ctx", None)
    hint = f"; `{context.command_path} --help` says what is allowed" if context else ""
    say(f"{text[:1].lower()}{text[1:].rstrip('.')}{hint}")


for _command in (run, sweep, tune, benchmark, evaluate, sample, export):
    app.command()(_command)

data.command("from-counts")(from_counts)


@app.command()
def report(
    folders: Annotated[
        list[Path], typer.Argument(metavar="RUN...|SWEEP", help="Folders of finished runs, or that of one sweep.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="The page; report.html in the first run's folder if not given. NAME.md: tables in Markdown."),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Of a sweep, show this metric; may be repeated. A few without.")
    ] = None,
) -> None:
    """Write one self-contained HTML page about one run or several, or about a sweep."""
    from experiments.report import write_markdown, write_report
    from experiments.sweep.folder import is_sweep
    from qgen.run import load_run

    if out is not None and out.suffix not in (".html", ".htm", ".md"):
        raise ValueError(f"--out {out}: the page is HTML or Markdown; expected a name that ends in .html or .md")
    if any(is_sweep(folder) for folder in folders):
        from experiments.report.sweep import write_sweep
        from experiments.sweep import load_sweep

        if len(folders) > 1:
            raise ValueError(f"{folders[0]} and {len(folders) - 1} more: a page is about one sweep, or about runs")
        typer.echo(str(write_sweep(load_sweep(folders[0]), out or folders[0] / "report.html", metric or ())))
        return
    if metric:
        raise ValueError("--metric: goes with a sweep; a run's page shows all that it was judged by")
    write = write_markdown if out is not None and out.suffix == ".md" else write_report
    path = write([load_run(folder) for folder in folders], out or folders[0] / "report.html")
    typer.echo(str(path))


@app.command("list")
def list_(what: Annotated[str, typer.Argument(metavar="|".join(WHAT))]) -> None:
    """List what there is."""
    from experiments.catalogue import catalogue

    console().print(catalogue(what))


@app.command()
def doctor(
    network: Annotated[bool, typer.Option("--network", help="Also run one small job on IBM Quantum.")] = False,
) -> None:
    """Say what is installed, which backends answer and how far they reach; exit status 1 if the lab is broken."""
    from experiments.doctor import answers, diagnosis

    with aside().status("asking the backends"):
        found = list(answers(network))
    console().print(diagnosis(found))
    if any(answer.serious for answer in found):
        raise typer.Exit(1)


app.add_typer(data, name="data")
app.add_typer(runs, name="runs")
app.add_typer(study, name="study")


if __name__ == "__main__":
    main()
