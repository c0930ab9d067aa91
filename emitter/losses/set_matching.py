"""Set matching: a frame's emitters and a map's cells, matched one to one by entropic optimal transport.

Standing for emitter i costs cell j, with logit s_j and one learned σ for each of photons, x, y, z,

    C_ij = Σ_c [½ (Δ_c / σ_c)² + log σ_c] + softplus(−s_j),        and standing for none   C_0j = softplus(s_j).

Every emitter and every cell has mass 1; what the emitters leave of the cells goes to none. The plan P is found without
gradient, the loss is ⟨P, C⟩: an emitter trains the cell that predicts it best, wherever it lies within reach, two
emitters of one cell are sent to two cells, and a second cell beside a taken one learns to be empty. So nothing is left
for a non-maximum suppression to do.

The plan. With f_i for the emitters, g_j for the cells and 0 for none (its constraint follows from the others),
P_ij = exp((f_i + g_j − C_ij) / ε). Fulfilling the cells' constraints is a softmax over who wants a cell,

    P_ij = exp(a_ij) / (1 + Σ_i' exp(a_i'j)),    a_ij = (f_i − D_ij) / ε,    D_ij = C_ij − C_0j = Σ_c […] − s_j,

so cells that nobody reaches drop out, and only pairs within reach are kept. Sinkhorn's update of the emitters is
f_i ← f_i − ε log r_i with r_i = Σ_j P_ij (Cuturi, NeurIPS 2013). Two changes make 20 iterations enough: ε falls to its
value step by step (Schmitzer, SIAM J. Sci. Comput. 2019), and the step is divided by w_i (``_curvature``): an emitter
that holds a cell nearly whole gains hardly anything by Sinkhorn's own. No cell's mass ever exceeds 1.

Below ε = 1 the plan is sharper than the posterior p(cell | emitter): the cell that has most of an emitter gains until
it has it all.

Shape suffixes: M pairs, N emitters, J cells of all images, B images, H rows and W columns of cells, 4 values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emitter.core import channels as ch
from emitter.core.candidates import Candidates, candidates, softmax_within
from emitter.core.errors import require
from emitter.losses.base import Loss, LossSettings, Truth, background_part
from emitter.losses.detection.base import DetectionSettings

_LOG_SIGMA = (
    math.log(0.03),
    math.log(10.0),
)  # in scaled units; without a floor, a z that is never trained runs away
# Adam moves a parameter by about its learning rate: at a weight's pace σ would need a thousand steps from 1 to 0.3
_SIGMA_PACE = 10.0
_LARGEST_COST = 1e3  # nats, in the plan only: leaves float32 digits for ε
_SMALLEST_CURVATURE = 0.05
_ANNEALING = 1.5  # how many times ε shrinks in each of the first half of the iterations
_TINY = 1e-30


@dataclass(frozen=True)
class SetMatchingSettings(LossSettings):
    """``epsilon``: entropy of the plan, in nats. ``iterations``: of the transport. ``reach_cells``: how far from an
    emitter the centre of a cell that stands for it may lie."""

    kind: ClassVar[str] = "set_matching"
    own_detection: ClassVar[bool] = True

    epsilon: float = 0.2
    iterations: int = 20
    reach_cells: float = 1.5

    def __post_init__(self) -> None:
        require(self.epsilon >= 0.01, f"loss.epsilon is {self.epsilon}: give 0.01 or more")
        require(self.iterations >= 1, f"loss.iterations is {self.iterations}: give 1 or more")
        require(
            self.reach_cells >= 1,
            f"loss.reach_cells is {self.reach_cells}: give 1 or more, an emitter must reach its own cell",
        )

    def build(self, detection: DetectionSettings) -> SetMatching:
        """The loss for one scale."""
        return SetMatching(self)


class SetMatching(Loss):
    """⟨P, C⟩ by channel, and the background's squared error. σ is learned with the network."""

    one_cell_each: ClassVar[bool] = True

    def __init__(self, settings: SetMatchingSettings) -> None:
        super().__init__()
        self.settings = settings
        self.slow_log_sigma = nn.Parameter(torch.zeros(len(ch.REGRESSION)))

    @property
    def log_sigma(self) -> Tensor:
        """Of the error of photons, x, y, z in scaled units, (4,)."""
        return _SIGMA_PACE * self.slow_log_sigma

    def forward(self, maps_B6HW: Tensor, truth: Truth, progress: float) -> Tensor:
        """(B, 6)."""
        maps = maps_B6HW.float()
        pairs = self._pairs(truth)
        predicted_MC = pairs.predicted(maps)
        with torch.no_grad():
            # the parameter itself: a bound without gradient would hold it for ever
            self.slow_log_sigma.clamp_(*(bound / _SIGMA_PACE for bound in _LOG_SIGMA))
        log_sigma_4 = self.log_sigma.float()
        error_M4 = (predicted_MC[:, ch.REGRESSION] - pairs.values_M4.float()) / log_sigma_4.exp()
        cost_M4 = 0.5 * error_M4**2 + log_sigma_4
        with torch.no_grad():
            plan_M = transport_plan(pairs, cost_M4.sum(dim=1), predicted_MC[:, ch.P], self.settings)
            taken_J = plan_M.new_zeros(pairs.n_cells).index_add(0, pairs.cell_M, plan_M).clamp(max=1)
        logits_BHW = maps[:, ch.P]
        # Σ_ij P_ij softplus(−s_j) + Σ_j P_0j softplus(s_j) is a cross-entropy against the mass taken of each cell
        p_BHW = F.binary_cross_entropy_with_logits(logits_BHW, taken_J.view_as(logits_BHW), reduction="none")
        parts_B5 = (p_BHW.sum(dim=(1, 2))[:, None], pairs.per_image(plan_M[:, None] * cost_M4))
        return torch.cat((*parts_B5, background_part(maps, truth)[:, None]), dim=1)

    def _pairs(self, truth: Truth) -> Candidates:
        height, width = truth.background_BHW.shape[1:]
        reach = self.settings.reach_cells
        radius = math.ceil(
            reach - 0.5
        )  # an emitter is at most half a cell from its own cell's centre, in x and in y
        return candidates(truth.emitters, height, width, truth.scaling, truth.cell_px, radius).within(reach)


def transport_plan(
    pairs: Candidates, cost_M: Tensor, logits_M: Tensor, settings: SetMatchingSettings
) -> Tensor:
    """Mass that each emitter has in each cell within its reach, (M,), from the costs of standing for an emitter
    (without the logit's) and the cells' logits.

    An emitter's masses sum to 1 (to what the cells can give, where emitters are too many), a cell's to at most 1.
    """
    difference_M = (cost_M - logits_M).clamp(-_LARGEST_COST, _LARGEST_COST)
    n_emitters = len(pairs.emitters)
    emitter_M, cell_M = pairs.emitter_M, pairs.cell_M
    f_N = difference_M.new_full((n_emitters,), math.inf).scatter_reduce(0, emitter_M, difference_M, "amin")
    annealed = settings.iterations // 2
    for iteration in range(settings.iterations):
        epsilon = settings.epsilon * _ANNEALING ** max(annealed - iteration, 0)
        plan_M = softmax_within((f_N[emitter_M] - difference_M) / epsilon, cell_M, pairs.n_cells, other=0.0)
        mass_N = plan_M.new_zeros(n_emitters).index_add(0, emitter_M, plan_M)
        f_N = f_N - epsilon * (mass_N + _TINY).log() / _curvature(plan_M, mass_N, pairs)
    return softmax_within(
        (f_N[emitter_M] - difference_M) / settings.epsilon, cell_M, pairs.n_cells, other=0.0
    )


def _curvature(plan_M: Tensor, mass_N: Tensor, pairs: Candidates) -> Tensor:
    """w_i = Σ_j P_ij (1 + t_j − 2 P_ij) / r_i in [0.05, 2], where t_j = Σ_i P_ij is what is taken of cell j.

    The Hessian of the dual in f is diag(r) − P Pᵀ (over ε); r_i w_i is its diagonal plus the sum of the others' sizes
    in the row (Gershgorin), so that dividing by it does not overshoot. Without rivals the step is Newton's.
    """
    taken_J = plan_M.new_zeros(pairs.n_cells).index_add(0, pairs.cell_M, plan_M)
    bound_M = plan_M * (1 + taken_J[pairs.cell_M] - 2 * plan_M)
    bound_N = torch.zeros_like(mass_N).index_add(0, pairs.emitter_M, bound_M)
    return ((bound_N + _TINY) / (mass_N + _TINY)).clamp(min=_SMALLEST_CURVATURE)
