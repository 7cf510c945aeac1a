"""What changes in the course of a phase, as pure functions of its progress: learning rates and the keep ratio."""

from __future__ import annotations

from stp_bench.vit import lr_at
from stprivacy import Config


def lr_factors(config: Config, epoch: int, progress: float, *, as_released: bool) -> tuple[float, float]:
    """Factors of the peak learning rate for newly added maps (predictors, heads) and for the rest, at ``progress``."""
    if not as_released:
        factor = lr_at(progress, config.warmup)
        return factor, factor
    cosine = lr_at(progress, 0.0)
    return cosine, 0.0 if epoch < 2 else min(0.1, cosine)


def alpha_at(config: Config, progress: float) -> float:
    """The keep ratio that phase 1 aims at; ``alpha_anneal`` lowers it from 1 between 30 % and 70 % of the phase."""
    if not config.alpha_anneal:
        return config.alpha
    return 1 - (1 - config.alpha) * min(max((progress - 0.3) / 0.4, 0.0), 1.0)
