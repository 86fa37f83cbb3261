"""The page of the benchmark: who wins where, in numbers alone, and every metric of every model below."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.markdown_table import markdown_table
from experiments.report.markdown import FOOTNOTE, PRICE, further_table, headline_table
from experiments.report.summary import COMPATIBLE
from experiments.scores import ModelScores, Results, Score, read_results, target
from qgen.files import write_atomically
from qgen.registry import generator_class
from qgen.run import Run

__all__ = ["by_rank", "check_page", "numbers", "write_page"]

BEGIN = "<!-- text by hand begins: it stays when the page is made anew -->"
END = "<!-- text by hand ends -->"

KEPT = {"kind", "n_parameters", "train_seconds", "sample_seconds", "status", "cost"}
"""What stands in ``benchmark.json`` of a model besides its metrics."""

ALIKE = 1.5
"""Largest ratio of the numbers of parameters of two models of one size."""

SIGNIFICANT = 2.0
"""Standard deviations by which one model must be nearer to a perfect one than another to count as better."""


def numbers(runs: Mapping[str, tuple[Run, Run]]) -> dict[str, Any]:
    """What stands in ``benchmark.json``: of each data set and comparison every model's price and whole metrics."""
    return {
        name: {"as tuned": _slim(read_results(tuned.results)), "equal time": _slim(read_results(timed.results))}
        for name, (tuned, timed) in runs.items()
    }


def _slim(results: Results) -> dict[str, Any]:
    whole = [*results.headline, *results.further]
    return {
        "seeds": results.seeds,
        "models": {
            name: {
                **model.model_dump(include=KEPT),
                "metrics": {
                    metric: model.metrics[metric].model_dump(exclude_none=True, exclude={"seeds"})
                    for metric in whole
                    if metric in model.metrics
                },
            }
            for name, model in results.models.items()
        },
    }


def write_page(
    path: Path, runs: Mapping[str, tuple[Run, Run]], left_out: Mapping[str, Mapping[str, str]], seconds: float
) -> None:
    """Write the page; the text by hand of one that is there is kept.

    Args:
        path: of the page.
        runs: of each data set, the run as tuned and the one at equal time.
        left_out: of each data set, the kinds that are not there with the reason.
        seconds: of each training at equal time.
    """
    lines = [
        "# Benchmark",
        "",
        "Every model of the lab on the data that it can do. Made by `qgen benchmark`; the numbers are also in "
        f"[{path.with_suffix('.json').name}]({path.with_suffix('.json').name}).",
        "",
        BEGIN,
        _by_hand(path),
        END,
        "",
    ]
    for name, (tuned, timed) in runs.items():
        lines += _section(name, tuned, timed, left_out[name], seconds)
    write_atomically(path, ("\n".join(lines).rstrip() + "\n").encode())


def check_page(path: Path) -> None:
    """See that no other file is in the page's place.

    Raises:
        ValueError: the name does not end with ``.md``, or the file that is there has not both marks, once each.
    """
    if path.suffix != ".md":
        raise ValueError(f"{path}: the page's name must end with .md")
    if path.exists():
        text = path.read_text()
        if (text.count(BEGIN), text.count(END)) != (1, 1) or text.index(END) < text.index(BEGIN):
            raise ValueError(f"{path}: is there and no page of a benchmark; choose another name, or move it away")


def _by_hand(path: Path) -> str:
    if not path.is_file():
        return ""
    return path.read_text().split(BEGIN)[1].split(END)[0].strip("\n")


def _section(name: str, tuned: Run, timed: Run, left_out: Mapping[str, str], seconds: float) -> list[str]:
    results, at_time = read_results(tuned.results), read_results(timed.results)
    metrics = len(results.headline) + len(results.further)
    events = len(tuned.truth)
    minutes = sum(_processor_seconds(model) for model in results.generators.values()) * len(results.seeds) / 60
    lines = [
        f"## {name.removeprefix('benchmark-')}",
        "",
        f"{str(tuned.config.get('description', '')).strip()} {len(results.generators)} models, {len(results.seeds)} "
        f"trainings of each, {metrics} metrics, {events} test events; training took {minutes:.0f} minutes in all.",
        "",
        "### Who is nearest to the truth",
        "",
        *_ranking(results),
        "",
        "*Mean rank*: over all metrics that every model has, by the distance of the mean over the trainings from a "
        "perfect model. "
        "*Like the truth*: metrics in which its distance from a perfect model exceeds that of truth against truth by "
        f"less than {COMPATIBLE:g} standard deviations. "
        "*First*: metrics in which no model is nearer.",
        "",
        *_winners(results),
        "### Equal size",
        "",
        *_equal_size(results),
        "",
        "### Equal time",
        "",
        f"Each training had {seconds:g} seconds of processor time; {len(at_time.seeds)} trainings of each model, "
        f"{len(at_time.headline) + len(at_time.further)} metrics.",
        "",
        *_ranking(at_time),
        "",
        *_winners(at_time),
    ]
    if left_out:
        lines += ["### Kinds that are not in the table", ""]
        lines += [f"- `{kind}`: {reason or 'not configured'}" for kind, reason in left_out.items()]
        lines += [""]
    for title, one in (("Every metric, as tuned", results), ("Every metric, at equal time", at_time)):
        lines += [f"<details><summary>{title}</summary>", "", *headline_table(one), "", FOOTNOTE + PRICE, ""]
        if one.further:
            lines += [*further_table(one), ""]
        lines += ["</details>", ""]
    trouble = [f"- **{model}**: {scores.trouble}" for model, scores in results.generators.items() if scores.trouble]
    if trouble:
        lines += ["<details><summary>What trainings remarked</summary>", "", *trouble, "", "</details>", ""]
    return lines


def family(scores: ModelScores) -> str:
    """``quantum``, ``classical``, or ``closed form`` for a model that does not train."""
    if "qubits" in scores.cost or "modes" in scores.cost:
        return "quantum"
    return "classical" if generator_class(scores.kind).trains else "closed form"


def _processor_seconds(scores: ModelScores) -> float:
    """Of a training, on average; waiting does not count."""
    return scores.cost.get("train_cpu_seconds") or 0.0


def _excess(results: Results) -> dict[str, dict[str, float]]:
    """By metric that every model has, each model's distance from a perfect one beyond the floor, in sigma."""
    found = {}
    for metric in (*results.headline, *results.further):
        of_models = {
            name: model.metrics[metric].excess(target(metric))
            for name, model in results.generators.items()
            if metric in model.metrics
        }
        known = {name: value for name, value in of_models.items() if value is not None}
        if len(known) == len(results.generators):
            found[metric] = known
    return found


def _distances(results: Results) -> dict[str, dict[str, float]]:
    """By the same metrics, each model's distance from a perfect one: trainings that disagree do not make it smaller."""
    models = results.generators
    return {
        metric: {name: abs(model.metrics[metric].value - target(metric)) for name, model in models.items()}
        for metric in _excess(results)
    }


def by_rank(results: Results) -> dict[str, float]:
    """The mean rank of each model over the metrics, the best first; ties share their ranks."""
    ranks: dict[str, list[float]] = {name: [] for name in results.generators}
    for values in _distances(results).values():
        for name, value in values.items():
            below, same = sum(v < value for v in values.values()), sum(v == value for v in values.values())
            ranks[name].append(below + (same + 1) / 2)
    means = {name: statistics.fmean(each) if each else math.nan for name, each in ranks.items()}
    return dict(sorted(means.items(), key=lambda item: (math.isnan(item[1]), item[1])))


def _ranking(results: Results) -> list[str]:
    excess = _excess(results)
    first = [min(values, key=values.__getitem__) for values in _distances(results).values()]
    header = [
        "model",
        "family",
        "parameters",
        "training [processor s]",
        "mean rank",
        "like the truth",
        "first",
        "median pull",
    ]
    rows = []
    for name, rank in by_rank(results).items():
        model = results.generators[name]
        own = [values[name] for values in excess.values()]
        rows.append(
            [
                f"{name} ({model.flags})" if model.trouble else name,
                family(model),
                str(model.n_parameters),
                f"{_processor_seconds(model):.1f}",
                f"{rank:.1f}",
                f"{sum(value < COMPATIBLE for value in own)} of {len(own)}",
                str(first.count(name)),
                f"{statistics.median(own):+.1f}" if own else "–",
            ]
        )
    return markdown_table(header, rows, left=(0, 1))


def _winners(results: Results) -> list[str]:
    """Sentences: the best of each family, and which family is first in how many metrics of each group."""
    from qgen.metrics import METRICS

    ranks = by_rank(results)
    best: dict[str, str] = {}
    for name in ranks:
        best.setdefault(family(results.generators[name]), name)
    parts = [f"{kind}: **{name}** (mean rank {ranks[name]:.1f})" for kind, name in best.items()]
    lines = [f"Best of each family: {'; '.join(parts)}.", ""]
    groups: dict[str, list[str]] = {}
    for metric, values in _distances(results).items():
        group: str = METRICS[metric].group if metric in METRICS else "other"
        groups.setdefault(group, []).append(family(results.generators[min(values, key=values.__getitem__)]))
    for group, winners in groups.items():
        counts = ", ".join(f"{kind} {winners.count(kind)}" for kind in dict.fromkeys(winners))
        lines.append(f"- {group} ({len(winners)} metrics), first: {counts}")
    return [*lines, ""]


def _equal_size(results: Results) -> list[str]:
    """Each quantum model beside the classical ones of its size."""
    quantum = {name: model for name, model in results.generators.items() if family(model) == "quantum"}
    others = {name: model for name, model in results.generators.items() if name not in quantum}
    header = ["quantum model", "parameters", "classical model", "parameters", "quantum better", "classical better"]
    rows = []
    for name, model in quantum.items():
        for other, rival in others.items():
            ratio = max(model.n_parameters, rival.n_parameters) / max(1, min(model.n_parameters, rival.n_parameters))
            if ratio <= ALIKE:
                better, worse, n = _duel(model, rival)
                sizes = (str(model.n_parameters), str(rival.n_parameters))
                rows.append([name, sizes[0], other, sizes[1], f"{better} of {n}", f"{worse} of {n}"])
    if not rows:
        return ["No classical model is of a quantum one's size."]
    return [
        f"Models whose numbers of parameters differ by a factor of at most {ALIKE:g}. A model is better in a metric if "
        f"it is nearer to a perfect one by {SIGNIFICANT:g} standard deviations.",
        "",
        *markdown_table(header, rows, left=(0, 2)),
    ]


def _duel(one: ModelScores, other: ModelScores) -> tuple[int, int, int]:
    """In how many whole metrics the one is better, the other is, and how many they share."""
    shared = [m for m in one.metrics if m in other.metrics and "/" not in m and "@" not in m]
    differences = [_further(one.metrics[m], other.metrics[m], target(m)) for m in shared]
    return sum(d < -SIGNIFICANT for d in differences), sum(d > SIGNIFICANT for d in differences), len(shared)


def _further(one: Score, other: Score, goal: float) -> float:
    """How much further from the goal the one is than the other, in standard deviations; 0 if that is no number."""
    difference = abs(one.value - goal) - abs(other.value - goal)
    sigma = math.hypot(one.sigma, other.sigma)
    return difference / sigma if sigma > 0 and math.isfinite(difference) and math.isfinite(sigma) else 0.0
