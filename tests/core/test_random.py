"""The counter-based generator against the distributions of scipy."""

import pytest
import torch
from scipy import stats

from emitter.core import random
from emitter.core.random import Stream, keys

N = 100_000


def one_stream(purpose: int = 1, seed: int = 5) -> Stream:
    return Stream(keys(seed, torch.arange(1)), purpose)


@pytest.mark.parametrize(
    ("draw", "law"),
    [
        (lambda s: s.uniform(N), stats.uniform()),
        (lambda s: s.uniform(N, -3, 5), stats.uniform(-3, 8)),
        (lambda s: s.normal(N), stats.norm()),
        (lambda s: s.exponential(N), stats.expon()),
        (lambda s: s.gamma(torch.full((1, N), 1.0)), stats.gamma(1)),
        (lambda s: s.gamma(torch.full((1, N), 37.0)), stats.gamma(37)),
    ],
)
def test_continuous_draws_follow_their_law(draw, law):
    assert stats.kstest(draw(one_stream())[0].double().numpy(), law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("mean", [0.01, 1.0, 9.99, 10.0, 35.0, 4000.0])
def test_poisson_draws_follow_their_law(mean):
    k = one_stream().poisson(torch.full((1, N), mean))[0].double()
    law = stats.poisson(mean)
    edges = torch.tensor(
        sorted({law.ppf(q) for q in torch.linspace(0.02, 0.98, 25).tolist()}), dtype=torch.double
    )
    observed = torch.bucketize(k, edges).bincount(minlength=len(edges) + 1).double().numpy()
    cumulative = [0.0, *law.cdf(edges.numpy()), 1.0]
    expected = N * (torch.tensor(cumulative[1:]) - torch.tensor(cumulative[:-1])).numpy()
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_poisson_of_zero_and_gamma_of_zero_are_zero():
    assert not one_stream().poisson(torch.zeros(1, 1000)).any()
    assert not one_stream().gamma(torch.zeros(1, 1000)).any()


def test_a_sample_does_not_depend_on_its_batch():
    mean = torch.rand(8, 500) * 60
    together = Stream(keys(3, torch.arange(8)), 2)
    alone = Stream(keys(3, torch.tensor([6])), 2)
    for draw in ("uniform", "normal", "exponential"):
        assert torch.equal(getattr(together, draw)(501)[6:7], getattr(alone, draw)(501))
    assert torch.equal(together.poisson(mean)[6:7], alone.poisson(mean[6:7]))
    assert torch.equal(together.gamma(mean + 1)[6:7], alone.gamma(mean[6:7] + 1))


def test_number_i_does_not_depend_on_how_many_are_drawn():
    assert torch.equal(one_stream().uniform(7), one_stream().uniform(100)[:, :7])
    assert torch.equal(one_stream().normal(7), one_stream().normal(100)[:, :7])


def test_seeds_indices_purposes_and_calls_are_independent():
    stream = one_stream()
    rows = [stream.normal(N), stream.normal(N), one_stream(purpose=2).normal(N), one_stream(seed=6).normal(N)]
    rows.append(Stream(keys(5, torch.tensor([1])), 1).normal(N))
    correlation = torch.corrcoef(torch.cat(rows)) - torch.eye(len(rows))
    assert correlation.abs().max() < 5 / N**0.5


def test_consecutive_indices_give_unrelated_numbers():
    first = Stream(keys(1, torch.arange(N)), 1).uniform(1)[:, 0]
    assert stats.kstest(first.double().numpy(), "uniform").pvalue > 1e-3
    assert abs(torch.corrcoef(torch.stack((first[:-1], first[1:])))[0, 1]) < 5 / N**0.5


def test_uniform_numbers_never_reach_their_ends(monkeypatch):
    for word in (0, -1):  # all bits clear, all set
        monkeypatch.setattr(
            random, "bits", lambda key, counter, word=word: torch.full_like(counter + key, word)
        )
        values = random._uniform_pair(
            torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long)
        )
        for value in values:
            assert 0 < float(value) < 1
        monkeypatch.undo()


def test_domains_share_no_keys():
    index = torch.arange(1000)
    assert len(torch.unique(torch.cat([keys(1, index, domain) for domain in range(4)]))) == 4000
