"""Video files in, anonymized video files out: a method's deployment (paper section 3.4), for videos of any length.

A video is cut into clips as the method was trained on them: every ``stride``-th frame belongs to one of ``stride``
interleaved sequences, each cut into windows of T frames; the last window is padded by repeating the last frame and
its output cut again. So every frame is anonymized exactly once, and at most ``stride * T`` frames are in memory.

A learned method sees frames squeezed into the square it was trained on, and its output is stretched back; a fixed
transform works at the size of the source. The files are for people: 8 bits, H.264, an unbounded output mapped into
[0, 255]. They are not the form that the benchmark evaluates, and the sidecar of each says so.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from stp_bench import checkpoints, config, external, methods, video_io
from stp_bench.clips import Clips
from stp_bench.contract import validate_output
from stp_bench.display import display, to_uint8
from stp_bench.errors import UserError, WorkError
from stp_bench.files import fingerprint, make_folder, read_json, sha256_file, write_json
from stp_bench.jobs import check_keep, pick_device
from stp_bench.matching import CONTAINERS
from stp_bench.methods import HasKeep, HasVariant, Method
from stp_bench.progress import Reporter, Task
from stp_bench.schema import ClipSpec
from stp_bench.video_io import Image, VideoFacts

SCHEMA = 1
VERSION = 1
"""Raised by hand whenever the same input would give other files: finished outputs are then made again."""

SUFFIXES = CONTAINERS
ANONYMIZED, SPARSIFIED, BESIDE, SIDECAR = ".mp4", ".sparsified.mp4", ".side-by-side.mp4", ".json"
FALLBACK_FPS = 25.0  # where a container states no frame rate
LARGE_CLIP = 16 * 1920 * 1080  # pixels; beyond it the clips of a fixed transform get shorter, to bound memory
NOTICE = "8-bit H.264 for viewing; not the form that the benchmark evaluates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A frozen method, ready for video files."""

    name: str
    method: Method
    clip: ClipSpec
    """Frames and stride of its clips; ``size`` is the side of the square that a learned method was trained on."""
    learned: bool
    device: str
    channel_range: Sequence[Sequence[float]] | None
    """[low_C, high_C] of an unbounded output, from the checkpoint."""
    identity: dict[str, Any]
    """Everything that decides the output: method, version, configuration, digest of the weights, keep ratio."""


@dataclass(frozen=True, slots=True)
class Target:
    """One video and the common stem of its output files."""

    source: Path
    stem: Path

    def file(self, ending: str) -> Path:
        """``<stem><ending>``; the stem may hold dots."""
        return self.stem.with_name(self.stem.name + ending)


def prepare(
    name: str,
    *,
    checkpoint: Path | None = None,
    keep: float | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
) -> Tool:
    """A method by name, with its checkpoint if it is a learned one.

    Args:
        keep: STPrivacy's dial: the keep ratio per sparsification block.
        settings: ``KEY=VALUE`` overrides of a fixed transform; a checkpoint brings its own configuration.

    Raises:
        UserError: unknown method, missing or foreign checkpoint, a dial that the method does not have, no such device.
        WorkError: the checkpoint is damaged.
    """
    if external.is_external(name):
        what = f"{name.partition(':')[0]}: cannot be applied to videos here"
        raise UserError(what, "it stands for videos that are made elsewhere", "judge them with 'stp-bench evaluate'")
    spec, chosen = methods.find(name), pick_device(device)
    if spec.learned:
        if checkpoint is None:
            fit = f"stp-bench train --method {name} --fit-on synth-ucf"
            raise UserError(f"{spec.name} needs --checkpoint", "it must be fitted first", f"make one with: {fit}")
        if settings:
            raise UserError("--set does not fit a checkpoint", "it brings its own settings", "leave the option out")
        fitted = checkpoints.load_method(checkpoint, name, chosen)
        made, vit, clip, method, card = fitted.config, fitted.vit, fitted.clip, fitted.method, fitted.card
        weights = sha256_file(checkpoints.find_checkpoint(checkpoint) / checkpoints.WEIGHTS)
    else:
        if checkpoint is not None:
            raise UserError(f"--checkpoint does not fit {spec.name}", "it is a fixed transform", "leave the option out")
        run = config.preset("paper")
        made = spec.configure("paper", config.split_overrides(list(settings), {spec.name: spec.config})[spec.name])
        vit, clip, card, weights = config.vit_spec(run, image_weights=False), config.clip_spec(run, 1), {}, None
        method = spec.make(made, vit)
        checkpoints.to_device(method, chosen)
    check_keep(keep, spec, made, vit)
    if keep is not None and isinstance(method, HasKeep):
        method = method.with_keep(keep)
    return Tool(
        name=spec.name, method=method, clip=clip, learned=spec.learned, device=chosen, channel_range=card.get("range"),
        identity={
            "method": spec.name, "version": spec.version, "config": dataclasses.asdict(made), "weights_sha256": weights,
            "variant": method.variant(has_boxes=False) if isinstance(method, HasVariant) else None, "keep": keep,
            "clip": dataclasses.asdict(clip),
        },
    )  # fmt: skip


def anonymize(
    source: Path,
    output: Path,
    tool: Tool,
    *,
    decoder: str = "pyav",
    skip_unreadable: bool = False,
    reporter: Reporter,
) -> dict[str, Any]:
    """Anonymize a video, or all videos of a folder; finished outputs are found again and not made twice.

    Writes for each video ``<name>.mp4``, ``<name>.sparsified.mp4`` (raw with dropped tubelets black, from a method
    that drops any), ``<name>.side-by-side.mp4`` and ``<name>.json``, all of the source's length, size and frame rate;
    sound is left out. A folder's tree is mirrored.

    Args:
        output: a folder; for a single video also a file name ending in ``.mp4``.
        skip_unreadable: leave unreadable videos out and name them in the report, instead of stopping at the first.

    Returns:
        ``{schema, method, keep, videos: [sidecar and paths], unreadable: [{source, reason}]}``.

    Raises:
        UserError: no such input, no videos in it, or outputs that would overwrite an input or one another.
        WorkError: a video cannot be read, or an output cannot be written. Finished videos are kept.
    """
    wanted = targets(source, output)
    done: list[dict[str, Any]] = []
    unreadable: list[dict[str, str]] = []
    with reporter.stage("anonymize", len(wanted), "videos") as task:
        for target in wanted:
            try:
                facts = video_io.probe(target.source, decoder)
            except WorkError as error:
                if not skip_unreadable:
                    raise
                reporter.say(f"left out: {error.what}, {error.why}")
                unreadable.append({"source": str(target.source), "reason": error.why})
            else:
                done.append(_one(target, facts, tool, decoder, reporter))
            task.advance()
    return {
        "schema": SCHEMA,
        "method": tool.name,
        "keep": tool.identity["keep"],
        "videos": done,
        "unreadable": unreadable,
    }


def targets(source: Path, output: Path) -> list[Target]:
    """The videos to do, in order of their names, with their outputs. See `anonymize` for what is refused."""
    if not source.exists():
        raise UserError(f"cannot read {source}", "there is no such file or folder", "check the path")
    if source.is_file():
        if output.suffix.lower() == ANONYMIZED and not output.is_dir():
            found = [Target(source, output.with_suffix(""))]
        elif output.suffix.lower() in SUFFIXES and not output.is_dir():
            raise UserError(f"cannot write {output}", "outputs are mp4 files", f"name it {output.with_suffix('.mp4')}")
        else:
            found = [Target(source, output / source.stem)]
    else:
        if output.resolve().is_relative_to(source.resolve()):
            why = "it lies inside the input folder and would be taken for input the next time"
            raise UserError(f"cannot write into {output}", why, "choose a folder elsewhere")
        videos = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not videos:
            known = " ".join(sorted(SUFFIXES))
            raise UserError(f"no videos in {source}", f"no file in it ends in {known}", "name a folder with videos")
        found = [Target(p, output / p.relative_to(source).with_suffix("")) for p in videos]
    _check_collisions(found)
    return found


def _check_collisions(found: Sequence[Target]) -> None:
    """No output may be another's, nor one of the inputs."""
    writers: dict[Path, Path] = {target.source.resolve(): target.source for target in found}
    for target in found:
        for ending in (ANONYMIZED, SPARSIFIED, BESIDE, SIDECAR):
            path = target.file(ending)
            other = writers.setdefault(path.resolve(), target.source)
            if other is not target.source or path.resolve() == target.source.resolve():
                raise UserError(
                    f"cannot write {path}", f"{other} stands in its way", "choose another output or rename one"
                )


def _one(target: Target, facts: VideoFacts, tool: Tool, decoder: str, reporter: Reporter) -> dict[str, Any]:
    """Anonymize one readable video; returns its sidecar with the paths of its files."""
    digest = sha256_file(target.source)
    key = fingerprint({"version": VERSION, "source": digest, "decoder": decoder, "tool": tool.identity})
    card = _finished(target, key)
    if card is None:
        make_folder(target.stem.parent)
        with reporter.stage(target.source.name, facts.frames, "frames") as task:
            kept = _write(target, facts, tool, decoder, task)
        endings = [ANONYMIZED, *([SPARSIFIED] if kept is not None else []), BESIDE]
        card = {
            "schema": SCHEMA,
            "key": key,
            "notice": NOTICE,
            "source": {"name": target.source.name, "sha256": digest, **dataclasses.asdict(facts)},
            "made_by": tool.identity,
            "kept_tubelets": kept,
            "panels": ["raw", *(["sparsified"] if kept is not None else []), "anonymized"],
            "files": {target.file(e).name: target.file(e).stat().st_size for e in endings},
        }
        write_json(target.file(SIDECAR), card)
    folder = target.stem.parent
    return {**card, "input": str(target.source), "output": [str(folder / name) for name in card["files"]]}


def _finished(target: Target, key: str) -> dict[str, Any] | None:
    """The sidecar of outputs that are there already, made from this very input by this very method."""
    try:
        card: dict[str, Any] = read_json(target.file(SIDECAR))
        whole = card["key"] == key and all(
            (target.stem.parent / name).stat().st_size == size for name, size in card["files"].items()
        )
    except (UserError, WorkError, OSError, KeyError, TypeError, AttributeError):
        return None  # no sidecar, one that is not ours, or a file is gone
    return card if whole else None


def _write(target: Target, facts: VideoFacts, tool: Tool, decoder: str, task: Task) -> float | None:
    """Write the videos; returns the share of tubelets kept, None if the method drops none."""
    fps = facts.fps or FALLBACK_FPS
    frames = video_io.read_frames(target.source, decoder=decoder)
    kept: list[float] = []
    with ExitStack() as files:

        def file(ending: str) -> Any:
            return files.enter_context(video_io.video_writer(target.file(ending), fps))

        write_anonymized, write_beside, write_sparsified = file(ANONYMIZED), file(BESIDE), None
        clip = _clip_for(tool, facts)
        while block := list(islice(frames, clip.stride * clip.frames)):
            outputs, keep_FNN = _anonymize_block(block, clip, tool)
            for i, (raw, shown) in enumerate(zip(block, outputs, strict=True)):
                panels = [raw, shown]
                if keep_FNN is not None:
                    write_sparsified = write_sparsified or file(SPARSIFIED)
                    visible = _enlarge(keep_FNN[i], raw.shape[0], raw.shape[1])[..., None]
                    panels = [raw, raw * visible, shown * visible]
                    write_sparsified(panels[1])
                    kept.append(float(keep_FNN[i].mean()))
                write_anonymized(panels[-1])
                write_beside(np.concatenate(panels, axis=1))
            task.advance(len(block))
    return math.fsum(kept) / len(kept) if kept else None


def _clip_for(tool: Tool, facts: VideoFacts) -> ClipSpec:
    """The clips that this video is cut into."""
    if tool.learned:
        return tool.clip
    longest = LARGE_CLIP // (facts.height * facts.width)
    return dataclasses.replace(tool.clip, frames=max(1, min(tool.clip.frames, longest)))


@torch.no_grad()
def _anonymize_block(block: list[Image], clip: ClipSpec, tool: Tool) -> tuple[list[Image], NDArray[np.bool_] | None]:
    """Up to ``stride * T`` consecutive frames, anonymized as ``stride`` interleaved clips.

    Returns:
        The output frames at the size of the source, and per frame its grid of kept tubelets (F, N_rows, N_columns).
    """
    height, width = block[0].shape[:2]
    seen = [_resize(frame, clip.size, clip.size) if tool.learned else frame for frame in block]
    # Frame f of the block is frame f // stride of clip f % stride; what the block lacks at its end repeats its last.
    order_BT = np.arange(clip.frames * clip.stride).reshape(clip.frames, clip.stride).T.clip(max=len(block) - 1)
    x_FHWC = torch.from_numpy(np.stack(seen)).to(tool.device)
    clips = Clips((x_FHWC[torch.from_numpy(order_BT)].permute(0, 4, 1, 2, 3).float() / 255).contiguous())
    out = tool.method.anonymize(clips)
    validate_output(tool.name, clips, out)
    if out.space == "free" and tool.channel_range is None:
        raise WorkError(f"the output of {tool.name} cannot be shown", "its checkpoint has no range", "fit it again")
    shown_TBHWC = to_uint8(display(out, tool.channel_range)).permute(2, 0, 3, 4, 1).cpu().numpy()
    shown = shown_TBHWC.reshape(-1, *shown_TBHWC.shape[2:])[: len(block)]
    keep_FNN = None
    if out.keep_BLN is not None:
        side = math.isqrt(out.keep_BLN.shape[2])
        keep_TBNN = out.keep_BLN.repeat_interleave(clip.frames // out.keep_BLN.shape[1], 1).transpose(0, 1)
        keep_FNN = keep_TBNN.reshape(-1, side, side)[: len(block)].bool().cpu().numpy()
    return [_resize(frame, height, width) for frame in shown], keep_FNN


def _resize(frame: Image, height: int, width: int) -> Image:
    """By area where the picture shrinks, bilinear where it grows."""
    if frame.shape[:2] == (height, width):
        return frame
    shrinks = height <= frame.shape[0] and width <= frame.shape[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, (width, height), interpolation=way), dtype=np.uint8)


def _enlarge(keep_NN: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels (H, W) of the kept tubelets, each with sharp edges."""
    rows = np.arange(height) * keep_NN.shape[0] // height
    columns = np.arange(width) * keep_NN.shape[1] // width
    return np.asarray(keep_NN[rows[:, None], columns])
