"""How much of the steps of a training is noise of the estimate, and how many strings and draws would do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["GradientNoise", "noise_remarks"]

FIRST = 10
"""Steps at the beginning, all of which are looked at."""

EVERY = 100
"""Steps between two that are looked at later."""

MEANINGLESS = 0.05
"""Signal over noise below which a step is as good as random: its cosine with the true gradient is 0.2 then."""

SURE = 3.0
"""Standard errors above zero from which a signal counts as seen."""

Record = dict[str, float]


class GradientNoise:
    """Signal and noise of stochastic gradients.

    Of independent unbiased estimates ``g`` and ``h`` of one gradient, ``g . h`` is an unbiased estimate of its square
    and ``|g - h|**2 / 2`` one of the variance of either, all components together. With the same strings but other draws
    it is what the draws bring.

    >>> noise = GradientNoise()
    >>> a, b = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 2.0])
    >>> noise.due(), noise.add(a, b, b), noise.records()["gradient_noise"], noise.records()
    (True, None, 2.0, {})
    """

    def __init__(self) -> None:
        self.step = 0
        self._found: list[tuple[float, float, float]] = []

    def due(self) -> bool:
        """Whether this step, which counts as one more, is to be looked at: the first ones, and then now and then."""
        self.step += 1
        return self.step <= FIRST or self.step % EVERY == 0

    def add(self, gradient: Tensor, other: Tensor, other_draws: Tensor) -> None:
        """Estimates of the gradient of this step, ``(n_parameters,)`` each.

        Args:
            gradient: the one that the step takes.
            other: with other strings and other draws.
            other_draws: with the same strings and other draws.
        """
        noise, of_draws = ((gradient - one).square().sum().item() / 2 for one in (other, other_draws))
        self._found.append((float(gradient @ other), noise, of_draws))

    def records(self) -> Record:
        """Means over the steps looked at since this was last asked; of several the signal's standard error too."""
        if not self._found:
            return {}
        values = torch.tensor(self._found, dtype=torch.float64)
        signal, noise, of_draws = values.mean(0).tolist()
        record = {"gradient_signal": signal, "gradient_noise": noise, "gradient_noise_of_draws": of_draws}
        if len(values) > 1:
            record["gradient_signal_error"] = values[:, 0].std().item() / len(values) ** 0.5
        self._found = []
        return record


def noise_remarks(history: Sequence[Record], strings: int, draws: int | None, name: str = "draws") -> tuple[str, ...]:
    """One sentence if the first steps of a training are noise, with how many strings and draws would do.

    What would do brings the noise down to the signal. The part of the noise that the draws bring falls with their
    number, at least, and the rest with that of the strings. If no signal is seen, the largest that may be hidden gives
    numbers that are too small.

    Args:
        history: records, one of the first steps with what :meth:`GradientNoise.records` gives.
        strings: of a step.
        draws: of a step; None where the values of strings are exact.
        name: what the draws are called.

    >>> lost = {"gradient_signal": 0.0, "gradient_signal_error": 1.0, "gradient_noise": 600.0}
    >>> noise_remarks([{**lost, "gradient_noise_of_draws": 300.0}], 500, 1000)[0].split("; ")[1]
    'more than 100000 strings and 200000 draws would do'
    """
    first = next((record for record in history if "gradient_signal_error" in record), None)
    if first is None:
        return ()
    signal, error, noise = (first[f"gradient_{name}"] for name in ("signal", "signal_error", "noise"))
    seen = signal >= SURE * error
    if signal >= MEANINGLESS * noise and seen:
        return ()
    if not seen and max(signal, 0.0) + SURE * error >= MEANINGLESS * noise:
        return ()  # too few steps and weights to tell
    least = signal if seen else max(signal, 0.0) + SURE * error
    of_draws = min(noise, first["gradient_noise_of_draws"])
    need = [(strings, noise - of_draws, "strings"), *([(draws, of_draws, name)] if draws else [])]
    parts = len([part for _, part, _ in need if part > 0])
    more = "about " if seen else "more than "
    wanted = " and ".join(f"{_rounded(count * max(1.0, parts * part / least))} {what}" for count, part, what in need)
    used = " and ".join(f"{count} {what}" for count, _, what in need)
    found = f"is {signal / noise:.2g} of the noise" if seen else "is not seen"
    return (
        f"noise: in the first steps the gradient {found}, with {used} they are as good as random; {more}{wanted} "
        "would do",
    )


def _rounded(number: float) -> int:
    """The number with two digits, upwards.

    >>> _rounded(12345.0)
    13000
    """
    step = 10 ** max(0, len(str(int(number))) - 2)
    return step * math.ceil(number / step)
