"""Random numbers as a pure function of (key, counter).

A sample's numbers depend on (seed, index) alone: not on the batch that it is in, the worker, the rank or the device.
That needs a counter-based generator that works on whole tensors: splitmix64 (Steele, Lea, Flood 2014), whose output is
a bijective mix of ``key + counter · golden ratio``, written here in wrapping int64 arithmetic. The samplers are exact:
Box-Muller, Hörmann's transformed rejection (PTRS, 1993) for Poisson, Marsaglia-Tsang (2000) for Gamma. Rejected
elements draw again from counters of their own, so the result never depends on which other elements were rejected.

Shape suffixes: B samples (one key each), n numbers per sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB
_UNIT_23 = 2.0**-23
_ROUND = 1 << 40  # counters of one rejection round; no tensor is that large
_CALL = 1 << 52  # counters of one call: up to 4096 rounds


def _shift_right(x: Tensor, n: int) -> Tensor:
    """Logical (unsigned) right shift."""
    return (x >> n).bitwise_and_((1 << (64 - n)) - 1)


def _mix(x: Tensor) -> Tensor:
    """Finalizer of splitmix64. Overwrites x."""
    x.bitwise_xor_(_shift_right(x, 30)).mul_(_MIX_1)
    x.bitwise_xor_(_shift_right(x, 27)).mul_(_MIX_2)
    return x.bitwise_xor_(_shift_right(x, 31))


def bits(key: Tensor, counter: Tensor) -> Tensor:
    """64 random bits (int64) for every pair of key and counter (broadcast)."""
    return _mix(counter * _GOLDEN + key)


def keys(seed: int, index_B: Tensor, domain: int = 0) -> Tensor:
    """One key per sample index, (B,) int64. Samples of different domains never share a key."""
    seed_, domain_ = (torch.tensor(v, device=index_B.device) for v in (seed, 1 + domain))
    return bits(bits(seed_, domain_), index_B.long())


def _uniform_pair(key: Tensor, counter: Tensor) -> tuple[Tensor, Tensor]:
    """Two independent uniform numbers in (0, 1) for every counter.

    23 bits each: with 24, the largest plus one half would round to exactly 1 in float32.
    """
    word = bits(key, counter)
    first = (word & 0x7FFFFF).float().add_(0.5).mul_(_UNIT_23)
    second = _shift_right(word, 41).float().add_(0.5).mul_(_UNIT_23)
    return first, second


class Stream:
    """The random numbers of B samples, drawn call by call. Every draw has shape (B, n).

    ``purpose`` separates streams of the same samples: numbers drawn for one purpose stay the same when another
    purpose draws more or fewer.
    """

    def __init__(self, key_B: Tensor, purpose: int) -> None:
        self._key_B1 = bits(key_B, torch.tensor(-1 - purpose, device=key_B.device))[:, None]
        self._calls = 0

    def _counters(self, n: int) -> Tensor:
        """Counters that no other call of this stream uses."""
        self._calls += 1
        start = self._calls * _CALL
        return torch.arange(start, start + n, device=self._key_B1.device)[None]

    def uniform(self, n: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Uniform in (low, high)."""
        unit = _interleave(*_uniform_pair(self._key_B1, self._counters((n + 1) // 2)), n)
        return unit * (high - low) + low

    def normal(self, n: int) -> Tensor:
        """Standard normal (Box-Muller)."""
        return _box_muller(*_uniform_pair(self._key_B1, self._counters((n + 1) // 2)), n)

    def exponential(self, n: int) -> Tensor:
        """Exponential of mean 1."""
        return -self.uniform(n).log_()

    def poisson(self, mean_Bn: Tensor) -> Tensor:
        """Poisson numbers (float) of the given means, shape (B, n)."""
        return _poisson(mean_Bn.contiguous(), self._key_B1, self._counters(mean_Bn.shape[1]))

    def gamma(self, shape_Bn: Tensor) -> Tensor:
        """Gamma numbers of the given shapes, scale 1. Shape 0 gives 0; other shapes must be at least 1."""
        return _gamma(shape_Bn.contiguous(), self._key_B1, self._counters(shape_Bn.shape[1]))


def _interleave(first_Bm: Tensor, second_Bm: Tensor, n: int) -> Tensor:
    """first[0], second[0], first[1] …: number i stays the same whatever n is."""
    return torch.stack((first_Bm, second_Bm), dim=2).flatten(1)[:, :n]


def _box_muller(u_Bm: Tensor, v_Bm: Tensor, n: int) -> Tensor:
    radius = u_Bm.log_().mul_(-2.0).sqrt_()
    angle = v_Bm.mul_(2.0 * math.pi)
    return _interleave(radius * angle.cos(), radius * angle.sin(), n)


def _until_accepted(
    draw: Callable[[Tensor, int], tuple[Tensor, Tensor]], pending: Tensor, out: Tensor
) -> Tensor:
    """Fill ``out`` (flat) at the ``pending`` places: ``draw(places, round)`` gives values and which are accepted."""
    for attempt in range(1, 1000):
        if len(pending) == 0:
            return out
        value, accepted = draw(pending, attempt)
        out[pending[accepted]] = value[accepted]
        pending = pending[~accepted]
    raise RuntimeError("rejection sampling did not end: the means or shapes are not finite numbers")


def _poisson(mean_Bn: Tensor, key_B1: Tensor, counter_1n: Tensor) -> Tensor:
    """PTRS for means from 10, inversion by sequential search below."""
    n = mean_Bn.shape[1]
    mean, key = mean_Bn.view(-1), key_B1.view(-1)
    value, accepted = _ptrs(mean_Bn.clamp(min=10), *_uniform_pair(key_B1, counter_1n))
    out = value.view(-1)

    def draw(places: Tensor, attempt: int) -> tuple[Tensor, Tensor]:
        counter = counter_1n[0, places % n] + attempt * _ROUND
        return _ptrs(mean[places], *_uniform_pair(key[places // n], counter))

    small = mean_Bn < 10
    _until_accepted(draw, (~(accepted | small)).view(-1).nonzero()[:, 0], out)
    places = small.view(-1).nonzero()[:, 0]
    if len(places):
        u, _ = _uniform_pair(key[places // n], counter_1n[0, places % n])
        out[places] = _poisson_by_inversion(mean[places], u)
    return out.view_as(mean_Bn)


def _ptrs(mean: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """One proposal of Hörmann's PTRS for means from 10: value and whether it is accepted.

    The test is log(hat ratio) ≤ log Poisson(k), with Stirling's series for log k! arranged so that nothing large
    cancels in float32.
    """
    b = mean.sqrt().mul_(2.53).add_(0.931)
    a = b * 0.02483 - 0.059
    u = u - 0.5
    u_s = 0.5 - u.abs()
    k = (a * 2).div_(u_s).add_(b).mul_(u).add_(mean).add_(0.43).floor_()
    x = k.clamp(min=0).add_(1.0)
    inv_alpha = (b - 3.4).reciprocal_().mul_(1.1328).add_(1.1239)
    log_ratio = (v * inv_alpha).mul_(x.sqrt()).div_(a.div_(u_s * u_s).add_(b)).log_()
    r = x.reciprocal()
    series = (r * r).mul_(-1.0 / 360.0).add_(1.0 / 12.0).mul_(r)
    log_pmf = (mean * r).log_().mul_(k).add_(x).sub_(mean).sub_(series).sub_(0.5 * math.log(2.0 * math.pi))
    return k, (k >= 0) & (log_ratio <= log_pmf)


def _poisson_by_inversion(mean: Tensor, u: Tensor) -> Tensor:
    """Smallest k with CDF(k) ≥ u, for means below 10 (40 terms leave less than 1e-12)."""
    term = torch.exp(-mean)
    cdf = term.clone()
    k = torch.zeros_like(mean)
    for i in range(1, 41):
        above = u > cdf
        k += above
        term = term * mean / i
        cdf += term
    return k


def _gamma(shape_Bn: Tensor, key_B1: Tensor, counter_1n: Tensor) -> Tensor:
    """Marsaglia-Tsang for shapes from 1; 0 stays 0."""
    n = shape_Bn.shape[1]
    shape, key = shape_Bn.view(-1), key_B1.view(-1)
    # two numbers of a word each serve two elements in the first attempt; later ones are few
    half = counter_1n[:, : (n + 1) // 2]
    normal = _box_muller(*_uniform_pair(key_B1, half), n)
    uniform = _interleave(*_uniform_pair(key_B1, half + _ROUND), n)
    value, accepted = _marsaglia_tsang(shape_Bn.clamp(min=1), normal, uniform)
    out = value.view(-1)

    def draw(places: Tensor, attempt: int) -> tuple[Tensor, Tensor]:
        counter = counter_1n[0, places % n] + 2 * attempt * _ROUND
        u_radius, u_angle = _uniform_pair(key[places // n], counter)
        normal = u_radius.log_().mul_(-2.0).sqrt_().mul_(u_angle.mul_(2.0 * math.pi).cos_())
        uniform, _ = _uniform_pair(key[places // n], counter + _ROUND)
        return _marsaglia_tsang(shape[places].clamp(min=1), normal, uniform)

    _until_accepted(draw, (~accepted).view(-1).nonzero()[:, 0], out)
    return out.view_as(shape_Bn).mul_(shape_Bn > 0)


def _marsaglia_tsang(shape: Tensor, normal: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """One proposal from a normal and a uniform number: value and whether it is accepted."""
    d = shape - 1.0 / 3.0
    cube = (normal / (3.0 * d.sqrt())).add_(1.0).pow(3)
    bound = cube.clamp(min=1e-30).log_().sub_(cube).add_(1.0).mul_(d).add_(normal.square().mul_(0.5))
    return d * cube, (cube > 0) & (uniform.log() < bound)
