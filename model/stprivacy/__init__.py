"""STPrivacy (Li et al., ICCV 2023): video-level privacy-preserving action recognition by sparsifying and anonymizing
tubelets.

This module holds the options and the method's card and imports no torch. The transformer is in `network`, its training
in `method`; ``stprivacy.load_official`` opens checkpoints in the layout of the authors' release.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from stp_bench.errors import UserError
from stp_bench.methods import MethodSpec

if TYPE_CHECKING:
    from stprivacy.network import load_official

__all__ = ["SPEC", "Config", "load_official"]

PrivacyTerm = Literal["neg_bce", "neg_bce_capped", "half", "prior", "grl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of STPrivacy. Defaults are the paper's setting, or the released code's where the paper is silent."""

    # The transformer
    alpha: float = 0.7
    """Share of the incoming tubelets that each sparsification block keeps; another may be chosen at deployment."""
    mechanisms: Literal["both", "sparsification_only", "anonymization_only"] = "both"
    """Figure 4's ablation: raw pixels of kept tubelets without the anonymization block, or no sparsification."""
    depth: int = 0
    """Transformer layers; 0 for as many as the recognizers have. Predictors follow each of the first three quarters."""
    tubelet: int = 0
    """Frames of a tubelet (Figure 4); 0 for as many as the recognizers'."""
    separate_mlps: bool = False
    """One linear map per feature level (Eq. 1-3) in place of the release's shared one behind a normalization."""
    attn_eps: float = 0.0
    """0 for exact masked attention (Eq. 10); 1e-6 for the release's smoothing, which leaks abandoned tokens."""
    tau: float = 1.0
    """Temperature of the Gumbel-softmax (Eq. 6)."""
    selection: Literal["per_slot", "global", "global_progressive"] = "per_slot"
    """Deployment: the best of every slot after each block (release), the best of the clip by the last predictor (paper,
    end of section 3.2), or the best of the clip after each block."""
    output: Literal["linear", "sigmoid"] = "linear"
    """Activation of the anonymization block; ``sigmoid`` gives pixels in [0, 1]."""

    # Objectives (Eq. 12, 13)
    lambda_spars: float = 1.0
    lambda_action: float = 0.5
    lambda_privacy: float = 0.5
    privacy_term: PrivacyTerm = "neg_bce_capped"
    """What removes privacy: see ``losses.privacy_term``."""
    label_smoothing: float = 0.0
    """Of the action losses."""
    mask_blind: bool = False
    """Recognizers are not told which tubelets were abandoned; they see them black."""
    frame_adversary: bool = False
    """A second privacy recognizer in phase 2, which sees single frames."""
    head_scale: float = 0.001
    """Factor on the initial head weights of the auxiliary recognizers (release: 0)."""

    # Schedule (section 4.3)
    init_epochs: int = 80
    adversarial_epochs: int = 40
    adversary_updates: int = 2
    """Updates of the recognizers per update of the transformer."""
    recon_warmup: int = 0
    """First epochs of phase 2 in which kept tubelets copy the input (L1) and privacy is not yet opposed."""
    freeze_sparsifier: bool = False
    """Phase 2 trains the anonymization block only."""
    lr: float = 0.001 * 64 / 512
    """Peak learning rate of the transformer (0.001 x batch / 512)."""
    lr_action: float = 0.001 * 64 / 512
    """Of the auxiliary action recognizer."""
    lr_privacy: float = 0.001 * 64 / 512
    """Of the auxiliary privacy recognizers."""
    lr_policy: Literal["release", "release_in_init", "single"] = "release_in_init"
    """``release``: predictors follow the cosine, the rest stands still for two epochs, then learns at a tenth of the
    peak at most. ``release_in_init`` does so in phase 1 only; ``single`` never."""
    warmup: float = 5 / 80
    """Share of a phase with a linear warm-up."""
    weight_decay: float = 0.05
    beta2: float = 0.999
    layer_decay: float = 0.75
    """Learning rate factor per layer downwards, used only with image weights."""
    grad_clip: float = 1.0
    """Largest gradient norm; 0 for no limit."""
    inflation: Literal["average", "central"] = "average"
    """How image kernels are spread over time."""

    # Help for a start from random weights; off in the paper
    keep_bias: float = 0.0
    """Initial bias of the predictors towards keeping."""
    alpha_anneal: bool = False
    """Lower alpha from 1 between 30 % and 70 % of phase 1."""
    lambda_motion: float = 0.0
    """Weight in phase 1 of ``losses.motion_loss``: the anonymization block, which Eq. 12 leaves untrained, learns to
    pass on how things move, and phase 2 begins with videos in which the action shows and the appearance does not."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if min(self.init_epochs, self.adversarial_epochs, self.recon_warmup, self.depth, self.tubelet) < 0:
            raise UserError("bad stprivacy setting", "a count is negative", "use zero or more")
        if self.adversary_updates < 1:
            raise UserError("bad stprivacy.adversary_updates", "recognizers must learn", "use one or more")


def check_alpha(alpha: float) -> None:
    """Refuse a keep ratio outside (0, 1]."""
    if not 0 < alpha <= 1:
        raise UserError(
            f"bad keep ratio {alpha}", "it is not in (0, 1]", "use 0.7 for the paper's setting, 1 to keep all"
        )


_RANDOM_START = {"head_scale": 1.0, "lr_policy": "single", "keep_bias": 2.0, "alpha_anneal": True, "lambda_spars": 2.0}

SPEC = MethodSpec(
    name="stprivacy",
    version=1,
    title="STPrivacy: sparsified and anonymized tubelets",
    build="stprivacy.method:build",
    config=Config,
    presets={
        "tiny": {
            **_RANDOM_START,
            "init_epochs": 1,
            "adversarial_epochs": 1,
            "lr": 2e-3,
            "lr_action": 2e-3,
            "lr_privacy": 2e-3,
        },
        "small": {
            **_RANDOM_START,
            "depth": 5,
            "init_epochs": 20,
            "adversarial_epochs": 16,
            "adversary_updates": 2,
            "frame_adversary": True,
            "freeze_sparsifier": True,
            "lambda_motion": 1.0,
            "lambda_action": 1.0,
            "lambda_privacy": 3.0,
            "lr": 2e-3,
            "lr_action": 3e-3,
            "lr_privacy": 2e-3,
            "beta2": 0.98,
            "warmup": 0.08,
            "label_smoothing": 0.1,
        },
        "full": _RANDOM_START,
    },
    phases=("init", "adversarial"),
    needs=frozenset({"action", "privacy"}),
    space="free",
    reference="Li et al., STPrivacy: Spatio-Temporal Privacy-Preserving Action Recognition, ICCV 2023",
)


def __getattr__(name: str) -> Any:
    if name == "load_official":
        from stprivacy.network import load_official

        return load_official
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
