"""What the records of a training say about how it went, in plain sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from qgen.generator import Generator
from qgen.training.objectives import Batch

__all__ = ["collapsed", "spread", "unbalanced"]

COLLAPSED_BELOW = 0.1
"""Spread of generated events over the true one, below which a generator has collapsed."""

UNBALANCED_ABOVE = 0.95
"""Accuracy of a discriminator above which the generator learns little from it."""

UNBALANCED_FOR = 0.25
"""Share of a training, at its end, that an accuracy must last to be remarked."""

FEWEST_RECORDS = 4

Record = dict[str, float]


def spread(generator: Generator, truth: Batch, rng: torch.Generator) -> float:
    """How widely generated events spread over how widely true ones do, in the feature where that is least.

    The spread of a feature is the standard deviation of what a quadratic fit in the conditions leaves, so that a
    generator which follows the conditions and nothing else has none. Features without a true spread are left out; with
    none left it is 1.

    Args:
        generator: the model.
        truth: true events in the model's space; as many are generated, under the same conditions.
        rng: source of the generated events.
    """
    with torch.no_grad():
        values = generator._sample(len(truth), truth.condition, rng).to(truth.values)
        found, true = _residual_std(values, truth.condition), _residual_std(truth.values, truth.condition)
    wide = true > 1e-9
    return (found[wide] / true[wide]).min().item() if wide.any() else 1.0


def _residual_std(values: Tensor, condition: Tensor | None) -> Tensor:
    terms = [values.new_ones(len(values), 1)]
    if condition is not None:
        terms += [condition.to(values), condition.to(values).square()]
    basis = torch.cat(terms, dim=1)
    return (values - basis @ (torch.linalg.pinv(basis) @ values)).std(0)


def collapsed(history: Sequence[Record], best_step: int) -> tuple[str, ...]:
    """One sentence if the generator's spread is below a tenth of the true one at the end of the records.

    Args:
        history: records, some of them with ``spread``.
        best_step: the step whose weights were kept.

    >>> collapsed([{"step": 50, "spread": 0.9}, {"step": 100, "spread": 0.02}], best_step=50)[0]
    'collapsed: generated events spread over 2 % of the true spread from step 100, the state kept is of step 50'
    """
    known = [record for record in history if "spread" in record]
    since = _since(known, lambda record: record["spread"] < COLLAPSED_BELOW)
    if since is None:
        return ()
    kept = "" if best_step >= since else f", the state kept is of step {best_step}"
    share = f"{100 * known[-1]['spread']:.2g} %"
    when = "from the start" if since == known[0]["step"] else f"from step {since}"
    return (f"collapsed: generated events spread over {share} of the true spread {when}{kept}",)


def unbalanced(history: Sequence[Record]) -> tuple[str, ...]:
    """One sentence if the discriminator tells nearly all events apart in the last quarter of the records, or longer.

    >>> records = [{"step": step, "discriminator_accuracy": 0.99} for step in range(10, 60, 10)]
    >>> unbalanced(records)[0]
    'unbalanced: the discriminator tells 99 % of the events apart since step 10'
    """
    known = [record for record in history if "discriminator_accuracy" in record]
    since = _since(known, lambda record: record["discriminator_accuracy"] > UNBALANCED_ABOVE)
    if since is None:
        return ()
    last = [record["discriminator_accuracy"] for record in known if record["step"] >= since]
    if len(last) < max(FEWEST_RECORDS, UNBALANCED_FOR * len(known)):
        return ()
    share = f"{100 * sum(last) / len(last):.0f} %"
    return (f"unbalanced: the discriminator tells {share} of the events apart since step {since}",)


def _since(records: Sequence[Record], true_of: Callable[[Record], bool]) -> int | None:
    """The step of the first record from which on all are so; None if the last one is not."""
    since = None
    for record in reversed(records):
        if not true_of(record):
            break
        since = int(record["step"])
    return since
