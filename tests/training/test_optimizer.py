"""Muon against the singular value decomposition, AdamW against PyTorch's, and what goes to which."""

import copy

import torch
from torch import nn

from emitter.models.network import EmitterNetwork, InputScaling
from emitter.models.settings import VarSettings
from emitter.training.optimizer import Muon, build_optimizer, orthogonalize
from emitter.training.settings import OptimizerSettings


def test_orthogonalizing_keeps_the_singular_vectors_and_levels_the_values():
    for shape in ((3, 16, 40), (2, 40, 16)):
        m = torch.randn(*shape)
        u, _, vh = torch.linalg.svd(m, full_matrices=False)
        nearest = u @ vh
        ours = orthogonalize(m)
        values = torch.linalg.svdvals(ours)
        assert values.min() > 0.3 and values.max() < 1.3
        cosine = torch.nn.functional.cosine_similarity(ours.flatten(1), nearest.flatten(1))
        assert (cosine > 0.93).all()


def test_the_scale_of_the_gradient_does_not_matter():
    m = torch.randn(1, 20, 30)
    a, b = orthogonalize(m), orthogonalize(1e-4 * m)
    assert (a - b).abs().max() < 1e-3
    assert not orthogonalize(torch.zeros(1, 4, 4)).any()


def test_what_is_no_matrix_steps_as_pytorchs_adamw():
    start = torch.randn(7)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    a = Muon([{"params": [ours], "lr": 0.01, "weight_decay": 0.1}])
    b = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1, betas=(0.9, 0.99))
    for _ in range(5):
        gradient = torch.randn(7)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        a.step()
        b.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_matrix_step_has_the_length_of_the_learning_rate_in_every_direction():
    p = nn.Parameter(torch.zeros(12, 3, 3, 3))
    optimizer = Muon([{"params": [p], "lr": 0.5, "matrices": True}])
    p.grad = torch.randn_like(p) * 1e-3
    optimizer.step()
    values = torch.linalg.svdvals(p.detach().flatten(1)) / 0.5
    assert values.min() > 0.3 and values.max() < 1.3


def test_every_parameter_is_optimized_once_and_vectors_are_not_decayed():
    net = EmitterNetwork(VarSettings(), 3, InputScaling())
    for algorithm in ("muon", "adamw"):
        optimizer = build_optimizer(net, net.head.out, OptimizerSettings(algorithm=algorithm))
        ids = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(ids) == sorted(id(p) for p in net.parameters())
        for group in optimizer.param_groups:
            if group["weight_decay"] > 0:
                assert all(p.ndim == 4 for p in group["params"])


def test_the_state_survives_saving():
    def step(optimizer, p):
        p.grad = torch.ones_like(p) * torch.arange(p.numel()).view(p.shape)
        optimizer.step()

    first = nn.Parameter(torch.ones(4, 5))
    a = Muon([{"params": [first], "lr": 0.1, "matrices": True}])
    step(a, first)
    second = nn.Parameter(first.detach().clone())
    b = Muon([{"params": [second], "lr": 0.1, "matrices": True}])
    b.load_state_dict(copy.deepcopy(a.state_dict()))
    step(a, first)
    step(b, second)
    assert torch.equal(first, second)
