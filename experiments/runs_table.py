"""Lists of runs and comparisons for the terminal, as JSON values and as comma-separated values."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from experiments.provenance import dotted, provenance_facts
from experiments.runs import Entry, size_text
from experiments.runs_compare import BEYOND, Comparison, MetricLine
from experiments.scores import measured

if TYPE_CHECKING:
    from qgen.run import Run

__all__ = ["as_rows", "comparison_tables", "csv_text", "facts_table", "printable", "runs_table"]

STYLES = {"finished": "green", "in work": "cyan", "unfinished": "yellow", "failed": "red", "damaged": "red"}

LONGEST_VALUE = 40


def printable(text: str) -> str:
    """A text of a file without what a terminal would act on.

    >>> printable("run\\x1b[2J\\nname")
    'run\\ufffd[2J\\ufffdname'
    """
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def as_rows(entries: Sequence[Entry], metric: str | None = None) -> list[dict[str, Any]]:
    """Entries as JSON values."""
    return [_row(entry, metric) for entry in entries]


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """Entries as comma-separated values, lists in JSON."""
    out = io.StringIO()
    columns = list(rows[0]) if rows else ["folder"]
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        plain = {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in row.items()}
        writer.writerow({key: printable(value) if isinstance(value, str) else value for key, value in plain.items()})
    return out.getvalue()


def runs_table(entries: Sequence[Entry], folder: Path, metric: str | None = None) -> RenderableType:
    """A row for each entry, and below what is wrong with some."""
    if not entries:
        return Text("no runs")
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    for heading in ("folder", "name", "models", "seeds", "status", "changed", "size", "best"):
        right = heading in ("seeds", "size")
        table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=heading == "status")
    remarks = []
    for entry in entries:
        place = entry.folder.relative_to(folder) if entry.folder != folder else entry.folder
        what = "" if entry.what == "run" else f" ({entry.what})"
        table.add_row(
            Text(printable(str(place)) + what),
            Text(printable(entry.name)),
            Text(printable(", ".join(entry.models))),
            Text(_seeds(entry.seeds)),
            Text(entry.status, STYLES[entry.status]),
            Text(f"{_time(entry.when):%Y-%m-%d %H:%M}"),
            Text(size_text(entry.size)),
            Text(_best(entry, metric)),
        )
        if entry.reason:
            remarks.append(Text(printable(f"{place}: {entry.reason}"), "yellow"))
    total = f"{len(entries)} in all, {size_text(sum(entry.size for entry in entries))}"
    return Group(table, Text(total, "dim"), *remarks)


def facts_table(entry: Entry, run: Run | None) -> RenderableType:
    """What a run is and where its numbers come from."""
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    rows: dict[str, Any] = {
        "folder": entry.folder,
        "name": entry.name,
        "status": f"{entry.status}{f' ({entry.reason})' if entry.reason else ''}",
        "models": ", ".join(f"{name} ({kind})" for name, kind in entry.models.items()),
        "seeds": _seeds(entry.seeds),
        "size": size_text(entry.size),
    }
    if run is not None and (run.folder / "environment.json").is_file():
        facts = {key: value for key, value in provenance_facts(run.environment).items() if key not in rows}
        rows |= {key: value for key, value in dotted(facts).items() if value is not None}
        data = run.environment.get("data")
        rows |= dotted({"data": data}) if isinstance(data, dict) else {}
    for name, value in rows.items():
        table.add_row(Text(printable(name), "dim"), Text(printable(str(value))))
    return table


def comparison_tables(found: Comparison) -> RenderableType:
    """What differs, and the metrics side by side."""
    parts: list[RenderableType] = [Text(f"run {k + 1}: {printable(name)}") for k, name in enumerate(found.folders)]
    headings = [f"run {k + 1}" for k in range(len(found.folders))]
    for title, rows in (("configuration", found.config), ("how they were made", found.made)):
        if not rows:
            parts.append(Text(f"{title}: no difference"))
            continue
        table = Table(box=box.SIMPLE_HEAD, padding=0, title=title, title_justify="left")
        for heading in ("field", *headings):
            table.add_column(heading, overflow="fold")
        for path, values in rows.items():
            table.add_row(Text(printable(path)), *(Text(_value(value)) for value in values))
        parts.append(table)
    table = Table(box=box.SIMPLE_HEAD, padding=0, title="metrics", title_justify="left")
    for heading in ("model", "metric", *headings):
        table.add_column(heading, overflow="fold")
    for line in found.lines:
        table.add_row(Text(printable(line.model)), Text(printable(line.metric)), *_scores(line))
    parts.append(table)
    parts.append(
        Text(
            f"In brackets the difference to run 1 in standard deviations, bold beyond {BEYOND:g}; uncertainties are of "
            "the finite samples and, for several trainings, of the spread between them.",
            "dim",
        )
    )
    if "data.sha256" in found.made:
        parts.append(Text("The runs have other events: differences are also those of the data.", "yellow"))
    return Group(*parts)


def _row(entry: Entry, metric: str | None) -> dict[str, Any]:
    best = entry.best(metric)
    name, model, score = best if best is not None else (None, None, None)
    return {
        "folder": str(entry.folder),
        "what": entry.what,
        "name": entry.name,
        "status": entry.status,
        "reason": entry.reason,
        "models": entry.models,
        "seeds": entry.seeds,
        "changed": _time(entry.when).isoformat(timespec="seconds"),
        "bytes": entry.size,
        "metric": name,
        "model": model,
        "value": _finite(None if score is None else score.value),
        "uncertainty": _finite(None if score is None else score.sigma),
    }


def _finite(value: float | None) -> float | None:
    """A number as JSON has it."""
    return value if value is not None and math.isfinite(value) else None


def _best(entry: Entry, metric: str | None) -> str:
    best = entry.best(metric)
    if best is None:
        return ""
    name, model, score = best
    return printable(f"{name} {measured(score.value, score.sigma, digits=1)}, {model}")


def _scores(line: MetricLine) -> list[Text]:
    cells = []
    for k, (score, sigma) in enumerate(zip(line.scores, line.differences, strict=True)):
        if score is None:
            cells.append(Text("–"))
            continue
        text = str(measured(score.value, score.sigma, digits=1))
        far = k > 0 and sigma is not None and abs(sigma) > BEYOND
        cells.append(Text(f"{text} ({sigma:+.1f})" if k > 0 and sigma is not None else text, "bold" if far else ""))
    return cells


def _seeds(seeds: Sequence[int]) -> str:
    """Seeds in short.

    >>> _seeds([0, 1, 2, 3]), _seeds([3, 7])
    ('0-3', '3, 7')
    """
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]}-{seeds[-1]}"
    return ", ".join(map(str, seeds))


def _value(value: Any) -> str:
    text = printable(
        "–" if value is None else json.dumps(value, default=str) if isinstance(value, list) else str(value)
    )
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
