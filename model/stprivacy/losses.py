"""The privacy term of the adversarial objective (paper Eq. 13) and its bounded variants.

Axes in tensor names: B clips, K privacy attributes.

To maximize an adversary's loss is an unbounded aim: it can be met by driving the adversary to confident wrong answers,
which a fresh attacker simply inverts. An adversary that knows nothing answers with the prevalence pi_k, at the loss
H(pi_k); nothing is gained by pushing beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stp_bench.losses import group_mean
from stp_bench.tubelets import keep_to_mask
from stprivacy import PrivacyTerm


def attribute_losses(logits_BK: Tensor, labels_BK: Tensor) -> Tensor:
    """Binary cross-entropy of each attribute, (K,)."""
    return F.binary_cross_entropy_with_logits(logits_BK.float(), labels_BK, reduction="none").mean(0)


def entropies(prevalence_K: Tensor) -> Tensor:
    """H(pi_k) in nats, (K,): the loss of an adversary that knows nothing but the prevalence; 0 for a constant one."""
    return -(torch.xlogy(prevalence_K, prevalence_K) + torch.xlogy(1 - prevalence_K, 1 - prevalence_K))


def privacy_term(
    logits_BK: Tensor,
    labels_BK: Tensor,
    prevalence_K: Tensor,
    form: PrivacyTerm,
    groups: Sequence[tuple[str, int]] = (),
) -> Tensor:
    """What the transformer minimizes, times lambda, to remove privacy: a mean over attributes, or groups of them.

    ``neg_bce``
        minus the adversary's loss: Eq. 13 to the letter, unbounded.
    ``neg_bce_capped``
        the same gradient for an attribute that the adversary still knows, none once its loss reaches H(pi_k).
    ``half``, ``prior``
        cross-entropy of the adversary's answer with 1/2, or with pi_k: aims at the uninformative answer.
    ``grl``
        plus the loss: for a gradient that `reverse_gradient` turns around.
    """
    match form:
        case "neg_bce":
            return -group_mean(attribute_losses(logits_BK, labels_BK), groups)
        case "neg_bce_capped":
            loss_K = attribute_losses(logits_BK, labels_BK)
            ceiling_K = entropies(prevalence_K)
            return -group_mean(torch.where(loss_K < ceiling_K, loss_K, ceiling_K), groups)
        case "half":
            return group_mean(attribute_losses(logits_BK, torch.full_like(labels_BK, 0.5)), groups)
        case "prior":
            return group_mean(attribute_losses(logits_BK, prevalence_K.expand_as(labels_BK)), groups)
        case "grl":
            return group_mean(attribute_losses(logits_BK, labels_BK), groups)


def copy_loss(x_BCTHW: Tensor, target_BCTHW: Tensor, keep_BLN: Tensor) -> Tensor:
    """Mean absolute distance from the target on kept tubelets."""
    mask = keep_to_mask(keep_BLN.detach(), *x_BCTHW.shape[2:4]).expand_as(x_BCTHW)
    return ((x_BCTHW - target_BCTHW).abs() * mask).sum() / mask.sum().clamp(min=1)


def motion_loss(x_BCTHW: Tensor, target_BCTHW: Tensor, keep_BLN: Tensor) -> Tensor:
    """Squared error of the changes from frame to frame on kept tubelets, relative to the target's: 1 for a still video.

    Changes are taken within pairs of frames, so that with tubelets of even length none crosses into the next slot.
    """
    mask = keep_to_mask(keep_BLN.detach(), *x_BCTHW.shape[2:4])[:, :, ::2]
    moved, wanted = ((x[:, :, 1::2] - x[:, :, ::2]) * mask for x in (x_BCTHW, target_BCTHW))
    return (moved - wanted).square().sum() / wanted.square().sum().clamp(min=1e-6)


def reverse_gradient(x: Tensor, factor: float) -> Tensor:
    """``x``, whose gradient is multiplied by -``factor``."""
    out: Tensor = _ReverseGradient.apply(x, factor)
    return out


class _ReverseGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * grad, None
