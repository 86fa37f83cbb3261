r"""Photon numbers of Gaussian states.

Those of one mode come from their generating function. With mean :math:`m` and normally ordered covariance
:math:`C = V - 1/2`, both for :math:`\hbar = 1`,

.. math:: \sum_n p_n t^n = \det(1 + (1 - t) C)^{-1/2} \exp(-\tfrac12 (1 - t)\, m^T (1 + (1 - t) C)^{-1} m),

which a discrete Fourier transform around the unit circle, where it is at most 1, inverts with an error of rounding.

Those of all modes are drawn one by one, while the modes still to come are held at outcomes of a heterodyne measurement
(Quesada et al., arXiv:2010.15595): the numbers of amplitudes that a shot needs is the product of its photon numbers
plus one, not that of the cutoffs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from circuits.backends.memory import check_memory

__all__ = ["draw_numbers", "enough_photons", "number_probs"]

_MOST_PHOTONS = 2**20
_MOST_AMPLITUDES = 2**24
_ALWAYS_FREE = 2**24


def number_probs(mean: Tensor, covariance: Tensor, cutoff: int) -> Tensor:
    """Probabilities of 0, 1, ... photons in one mode, ``(..., cutoff)``.

    Args:
        mean: ``(..., 2)`` for hbar = 1.
        covariance: ``(..., 2, 2)`` for hbar = 1.
        cutoff: how many.

    >>> coherent = number_probs(torch.tensor([2.0, 0.0]), 0.5 * torch.eye(2), 3)  # a mean of two photons
    >>> coherent / math.exp(-2)
    tensor([1., 2., 2.])
    """
    dtype, batch = mean.dtype, mean.shape[:-1]
    if mean.numel() == 0:
        return mean.new_zeros(*batch, cutoff)
    mean, covariance = mean.double(), covariance.double()
    size = 2 ** math.ceil(math.log2(max(cutoff, enough_photons(mean, covariance, 1e-15), 2)))
    needed = 8 * size * 16 * math.prod(batch)
    if needed > _ALWAYS_FREE:
        check_memory(needed, None, mean.device, f"photon_probs: {size} photon numbers, batch {tuple(batch)}")
    angle = torch.arange(size // 2 + 1, dtype=mean.dtype, device=mean.device) * (2 * math.pi / size)
    u = 1 - torch.polar(torch.ones_like(angle), -angle)
    square, turned, trace, determinant = (part[..., None] for part in _invariants(mean, covariance))
    det = 1 + u * trace + u**2 * determinant
    transform = torch.exp(-0.5 * u * (square + u * turned) / det) / det.sqrt()
    return torch.fft.irfft(transform, n=size)[..., :cutoff].clamp(min=0).to(dtype)


def _invariants(mean: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of a mode with normally ordered covariance C: m^T m, m^T adj(C) m, trace and determinant of C."""
    x, p = mean[..., 0], mean[..., 1]
    xx, xp, pp = covariance[..., 0, 0] - 0.5, covariance[..., 0, 1], covariance[..., 1, 1] - 0.5
    turned = pp * x.square() - 2 * xp * x * p + xx * p.square()
    return x.square() + p.square(), turned, xx + pp, xx * pp - xp.square()


def enough_photons(mean: Tensor, covariance: Tensor, tail: float) -> int:
    """A photon number that each state of one mode reaches with a probability below ``tail``, arguments as above.

    It is Chernoff's bound, :math:`P(n \\ge K) \\le G(t) t^{-K}` for any :math:`t > 1` where the generating function
    :math:`G` is finite.

    Raises:
        ValueError: the number is above a million.
    """
    square, turned, trace, det = (part.detach()[..., None] for part in _invariants(mean.double(), covariance.double()))
    largest = 0.5 * (trace + (trace.square() - 4 * det).clamp(min=0).sqrt())
    steps = torch.logspace(-8, math.log10(0.98), 128, dtype=torch.float64, device=mean.device)
    s = steps / largest.clamp(min=1e-3)  # t - 1
    denominator = 1 - s * trace + s.square() * det
    log_generating = 0.5 * s * (square - s * turned) / denominator - 0.5 * denominator.log()
    numbers = ((log_generating - math.log(tail)) / s.log1p()).min(-1).values
    found = float(numbers.max()) if numbers.numel() else 1.0
    if not found <= _MOST_PHOTONS:
        raise ValueError(f"a mode has up to {found:.3g} photons; photon numbers are computed up to {_MOST_PHOTONS}")
    return max(1, math.ceil(found))


def draw_numbers(mean: Tensor, covariance: Tensor, shots: int, generator: torch.Generator) -> Tensor:
    """Photon numbers of all modes, ``(..., shots, M)`` int64, on the CPU.

    Args:
        mean: ``(..., 2M)`` for hbar = 1.
        covariance: ``(..., 2M, 2M)`` for hbar = 1.
        shots: how many for each state.
        generator: of the draws.

    Raises:
        ValueError: a shot needs too many amplitudes.
    """
    from circuits.cv.gaussian_kernel import draw  # numba takes long to import

    batch, n = mean.shape[:-1], mean.shape[-1] // 2
    mean, covariance = (part.detach().to("cpu", torch.float64) for part in (mean, covariance))
    most = [enough_photons(mean[..., [k, k + n]], covariance[..., [[k], [k + n]], [k, k + n]], 1e-12) for k in range(n)]
    rows = math.prod(batch)
    mean, covariance = mean.reshape(rows, 1, 2 * n), covariance.reshape(rows, 2 * n, 2 * n)
    pure, noise = _pure_and_noise(covariance)
    q_function = pure + 0.5 * torch.eye(2 * n, dtype=torch.float64)

    def normal() -> Tensor:
        size = (rows, shots, 2 * n)
        return torch.randn(size, generator=generator, dtype=torch.float64, device=generator.device).cpu()

    centre = mean + normal() @ noise.mT
    heterodyne = centre + normal() @ torch.linalg.cholesky(q_function).mT
    uniform = torch.rand((rows, shots, n), generator=generator, dtype=torch.float64, device=generator.device).cpu()
    matrix = _bargmann(pure)
    displaced = torch.complex(centre[..., :n], centre[..., n:]) / math.sqrt(2)
    linear = displaced - displaced.conj() @ matrix
    held_at = torch.complex(heterodyne[..., :n], -heterodyne[..., n:]) / math.sqrt(2)
    numbers = torch.zeros(rows, shots, n, dtype=torch.int64)
    failed = draw(
        matrix.numpy(),
        linear.numpy(),
        held_at.numpy(),
        uniform.numpy(),
        torch.tensor(most).numpy(),
        _MOST_AMPLITUDES,
        numbers.numpy(),
    )
    if failed:
        raise ValueError(
            f"sample_photons: {n} modes with up to {max(most)} photons; a shot may take {_MOST_AMPLITUDES} amplitudes"
        )
    return numbers.reshape(*batch, shots, n)


def _pure_and_noise(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """A pure state's covariance ``V_0`` and ``L`` with ``V = V_0 + L L^T``, ``(rows, 2M, 2M)`` each: Williamson's form.

    With the positive root R of V and the symplectic form w, R w R has eigenvalues +-i nu and eigenvectors u -+ i v;
    the columns of R (u, v) / sqrt(nu) are those of a symplectic matrix S, and V = S diag(nu, nu) S^T.
    """
    n = covariance.shape[-1] // 2
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()[..., None, :]) @ vectors.mT
    form = torch.zeros(2 * n, 2 * n, dtype=covariance.dtype)
    form[range(n), range(n, 2 * n)], form[range(n, 2 * n), range(n)] = 1.0, -1.0
    nu, states = torch.linalg.eigh(1j * (root @ form @ root))
    nu, states = nu[..., n:], states[..., n:]
    symplectic = root @ torch.cat([states.real, -states.imag], -1) * (2 / torch.cat([nu, nu], -1)).sqrt()[..., None, :]
    excess = (torch.cat([nu, nu], -1) - 0.5).clamp(min=0).sqrt()
    return 0.5 * symplectic @ symplectic.mT, symplectic * excess[..., None, :]


def _bargmann(pure: Tensor) -> Tensor:
    """The symmetric matrix B of pure states exp(a+ B a+ / 2)|0>, ``(rows, M, M)``, from their covariance."""
    n = pure.shape[-1] // 2
    xx, xp, px, pp = pure[..., :n, :n], pure[..., :n, n:], pure[..., n:, :n], pure[..., n:, n:]
    eye = torch.eye(n, dtype=pure.dtype)
    numbers = torch.complex(0.5 * (xx + pp - eye), 0.5 * (xp - px))  # <a_k^+ a_i>
    pairs = torch.complex(0.5 * (xx - pp), 0.5 * (xp + px))  # <a_i a_j>
    found = torch.linalg.solve(eye + numbers.mT, pairs)
    return 0.5 * (found + found.mT)
