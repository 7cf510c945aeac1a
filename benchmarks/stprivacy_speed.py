"""STPrivacy's training step and inference against a plain dense implementation of the same equations.

The plain one uses the same parameters and inputs, but a 3-D convolution, attention differentiated step by step by
autograd, and, at inference, abandoned tokens that stay in place behind a mask. Both are checked to agree, then timed in
turn in one process. On a GPU the share of the chip's measured matrix rate is given too.

    python benchmarks/stprivacy_speed.py [--device cuda] [--precision bf16] [--size paper] [--batch 64]
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence

import torch
from _report import Report
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from stp_bench.config import preset, vit_spec
from stp_bench.tubelets import assemble, from_temporal_basis, keep_to_mask, temporal_gain, to_temporal_basis
from stp_bench.vit import Attention, Block, VideoVit, normalize
from stprivacy import SPEC
from stprivacy.method import Anonymizer
from stprivacy.network import M, STPrivacy
from stprivacy.sparsify import keep_count, keep_rates, sparsity_loss

CPU_BATCH = {"small": 24, "paper": 2}


class Dense:
    """STPrivacy and a recognizer as the equations read, on the parameters of ours."""

    def __init__(self, network: STPrivacy) -> None:
        self.network = network

    def transform(self, x_BCTHW: Tensor, rates: tuple[float, ...]) -> tuple[Tensor, Tensor]:
        """Output and decisions (M, B, L, N); sampled in training, the best of every slot in evaluation."""
        network = self.network
        vit, training = network.vit, network.training
        tokens = self.embed(network, normalize(x_BCTHW))
        keep = tokens.new_ones(len(tokens), vit.slots, vit.tubelets)
        decisions = []
        for m in range(M):
            tokens = self.blocks(network, tokens, keep, network.spans[m])
            score = self.score(m, tokens.unflatten(1, (vit.slots, -1)), keep)
            if training:
                decision = torch.nn.functional.gumbel_softmax(score.float(), hard=True)[..., 0]
            else:
                count = keep_count(vit.tubelets, rates[m])
                best = score[..., 0].masked_fill(keep == 0, -torch.inf).topk(count, -1).indices
                decision = torch.zeros_like(keep).scatter(2, best, 1.0)
            keep = keep * decision
            decisions.append(keep)
        tokens = network.norm_recon(self.blocks(network, tokens, keep, network.spans[M]))
        video = assemble(network.head_recon(tokens), vit).float()
        if gain := temporal_gain(vit):
            video = from_temporal_basis(video, gain)
        if not training:
            video = video * keep_to_mask(keep, vit.frames, vit.size)
        return video, torch.stack(decisions)

    def recognize(self, recognizer: VideoVit, x_BCTHW: Tensor, keep_BLN: Tensor) -> Tensor:
        """Logits of the masked recognizer."""
        tokens = self.blocks(recognizer, self.embed(recognizer, x_BCTHW), keep_BLN, slice(None))
        weights = keep_BLN.flatten(1).unsqueeze(-1)
        mean = (tokens * weights).sum(1) / weights.sum(1)
        logits: Tensor = recognizer.head(recognizer.fc_norm(mean))
        return logits

    def embed(self, network: STPrivacy | VideoVit, x_BCTHW: Tensor) -> Tensor:
        gain = temporal_gain(network.vit)
        embedded = network.patch_embed.proj(to_temporal_basis(x_BCTHW, gain) if gain else x_BCTHW)
        tokens: Tensor = embedded.flatten(2).transpose(1, 2) + network.pos_embed
        return tokens

    def blocks(self, network: STPrivacy | VideoVit, x: Tensor, keep: Tensor, span: slice) -> Tensor:
        for block in network.blocks[span]:
            assert isinstance(block, Block)
            x = x + self.attend(block.attn, block.norm1(x), keep.flatten(1))
            x = x + block.mlp(block.norm2(x))
        return x

    def attend(self, attention: Attention, x: Tensor, keep_BS: Tensor) -> Tensor:
        """Eq. 8-10."""
        q, k, v = attention.qkv(x).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)).float() / q.shape[-1] ** 0.5
        eye = torch.eye(scores.shape[-1], device=x.device)
        mask = keep_BS[:, None, None, :] * (1 - eye) + eye
        top = scores.masked_fill(mask == 0, -torch.inf).amax(-1, keepdim=True).detach()
        weights = torch.where(scores > top, 0.0, scores - top).exp() * mask
        weights = weights / weights.sum(-1, keepdim=True)
        out: Tensor = attention.proj((weights.to(v.dtype) @ v).transpose(1, 2).flatten(2))
        return out

    def score(self, m: int, x_BLND: Tensor, keep_BLN: Tensor) -> Tensor:
        """Eq. 1-5."""
        predictor = self.network.score_predictor[m]
        local, spatial, whole = predictor.in_conv(x_BLND).chunk(3, -1)
        keep = keep_BLN.unsqueeze(-1)
        spatial = ((spatial * keep).sum(2, keepdim=True) / keep.sum(2, keepdim=True)).expand_as(local)
        whole = ((whole * keep).sum((1, 2), keepdim=True) / keep.sum((1, 2), keepdim=True)).expand_as(local)
        scores: Tensor = predictor.out_conv(torch.cat([local, spatial, whole], -1))
        return scores


def build(size: str, device: str) -> tuple[STPrivacy, VideoVit]:
    """STPrivacy and one recognizer, with scores that differ from token to token and no drop path, which is random."""
    torch.manual_seed(0)
    run = dataclasses.replace(preset(size), drop_path=0.0)
    method = SPEC.make(SPEC.configure(size), vit_spec(run, image_weights=size == "paper"))
    assert isinstance(method, Anonymizer)
    recognizer = VideoVit(method.vit, 8)
    for module in (method.network, recognizer):
        for parameter in module.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.05)
    return method.network.to(device), recognizer.to(device)


def best_seconds(works: Sequence[Callable[[], object]], budget: float, device: str) -> list[float]:
    """Best time of each work; they take turns, so that a busy moment of the machine hits all."""

    def once(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    for work in works:
        once(work)  # warm up
    start, best = time.perf_counter(), [float("inf")] * len(works)
    while time.perf_counter() - start < budget or float("inf") in best:
        best = [min(b, once(work)) for b, work in zip(best, works, strict=True)]
    return best


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """FLOP per second of one large matrix product here."""
    n = 8192 if device != "cpu" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / best_seconds([lambda: a @ b], 1.0, device)[0]


def measure(size: str, batch: int, seconds: float, device: str, precision: str, rate: float, report: Report) -> None:
    """Check and time both implementations at one size; adds a row for the training step and one for inference."""
    network, recognizer = build(size, device)
    dense, rates, kind, vit = Dense(network), keep_rates(network.config.alpha, M), device.split(":")[0], network.vit
    x = torch.rand(batch, 3, vit.frames, vit.size, vit.size, device=device)
    labels = torch.randint(8, (batch,), device=device)
    parameters = [*network.parameters(), *recognizer.parameters()]

    def step(plain: bool) -> list[Tensor]:
        """Gradients of the transformer and a recognizer: Eq. 13 without its privacy term."""
        torch.manual_seed(0)
        network.train()
        with torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16"):
            if plain:
                video, keep_MBLN = dense.transform(x, rates)
                logits = dense.recognize(recognizer, video, keep_MBLN[-1])
            else:
                video, keep_BLN, keep_MBLN, _ = network(x)
                logits = recognizer(video, keep_BLN, space="free")
            loss = sparsity_loss(keep_MBLN, rates) + torch.nn.functional.cross_entropy(logits.float(), labels)
        return list(torch.autograd.grad(loss, parameters))

    @torch.no_grad()
    def infer(plain: bool) -> list[Tensor]:
        network.eval()
        with torch.autocast(kind, torch.bfloat16, enabled=precision == "bf16"):
            return [dense.transform(x, rates)[0] if plain else network(x).x_BCTHW]

    for name, work in (("training step", step), ("inference", infer)):
        pairs = zip(work(False), work(True), strict=True)
        difference = max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in pairs)
        with FlopCounterMode(display=False) as counter:
            work(False)
        ours, plain = best_seconds([functools.partial(work, False), functools.partial(work, True)], seconds, device)
        report.row(
            size=size, work=name, clips=batch, ours_ms=1e3 * ours, plain_ms=1e3 * plain, faster=plain / ours,
            clips_per_second=batch / ours, matrix_rate_share=counter.get_total_flops() / ours / rate,
            largest_relative_difference=difference,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--size", nargs="+", default=["small", "paper"], choices=["small", "paper"])
    parser.add_argument("--batch", type=int, help="clips per batch (CPU: 24 small, 2 paper; GPU: 64)")
    parser.add_argument("--seconds", type=float, default=10.0, help="to measure each row")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kind = options.device.split(":")[0]
    rate = matrix_rate(options.device, torch.bfloat16 if options.precision == "bf16" else torch.float32)
    report = Report(
        f"stprivacy-{kind}-{options.precision}",
        f"STPrivacy against a plain dense implementation ({options.precision}, matrix rate {rate / 1e12:.3g} TFLOP/s)",
        device=options.device,
    )
    for size in options.size:
        batch = options.batch or (CPU_BATCH[size] if kind == "cpu" else 64)
        measure(size, batch, options.seconds, options.device, options.precision, rate, report)
    report.write()


if __name__ == "__main__":
    main()
