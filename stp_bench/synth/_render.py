"""From a plan to pixels: who stands where, the frames of one video, and the boxes of its people.

Everything random comes from generators seeded by names (data set, group, video), so a video has the same pixels
whatever is rendered before it, in whichever process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import cv2
import numpy as np

from stp_annotations import attributes
from stp_bench.synth import _scene
from stp_bench.synth._drawing import Drawing
from stp_bench.synth._figure import Figure, Frame, Labels, Look, Skeleton, draw, look, place, reach, skeleton
from stp_bench.synth._motions import ACTIONS, SIDES, Action, Array, Motion, Rng, held, perform
from stp_bench.synth._plan import Plan, Sizes, generator

PASSER = 0.2
"""Share of the videos in which something crosses the picture."""


@dataclass(frozen=True, slots=True)
class Cast:
    """The people of a video in drawing order, and the camera that sees them."""

    figures: tuple[Figure, ...]
    camera: _scene.Camera


def cast(plan: Plan) -> Cast:
    """Draw who is there, how they look, where they stand and how they and the camera move."""
    sizes = plan.sizes
    width, height, frames = sizes.width, sizes.height, sizes.frames
    rng = generator(plan.seed, plan.dataset, plan.video_id, "render")
    camera = _scene.camera(frames, width, moves=plan.camera_moves, rng=rng)
    labels = Labels(**{a.name: bool(v) for a, v in zip(attributes(), plan.labels, strict=True)})
    action = ACTIONS[plan.dataset][plan.action]

    scale = rng.uniform(0.66, 0.8) * height
    center = np.array([(0.5 + rng.uniform(-0.08, 0.08)) * width, rng.uniform(0.93, 0.99) * height])
    acting = int(rng.integers(2))
    actor_look = look(labels, plan.head, rng)
    motion = perform(action, frames, rng, acting)
    actor = skeleton(motion, broad=broad(actor_look))
    origin = center + camera.shift_T2
    if plan.people == 1:
        return Cast((place(actor, actor_look, scale, origin, camera.light),), camera)

    other_head = plan.head if labels.face else ("back" if rng.random() < 0.6 else "helmet")
    other_look = look(labels, other_head, rng)
    other_scale = scale * rng.uniform(0.92, 1.06)
    side = 1 - acting if action.arms != "both" else int(rng.integers(2))
    distance = rng.uniform(0.34, 0.42) if labels.relationship else rng.uniform(0.66, 0.88)
    apart = np.array([SIDES[side] * distance, rng.uniform(-0.01, 0.04)])
    along = labels.relationship and action.travels
    other_motion = _company(motion, frames, rng) if along else held(frames, rng)
    if not labels.relationship:  # a hand that seems to touch would make the label wrong
        other_motion.shoulder[:, 1 - side] = rng.uniform(0.05, 0.3)
        other_motion.elbow[:, 1 - side] = rng.uniform(-0.3, 0.1)
    other = skeleton(other_motion, broad=broad(other_look))
    if labels.relationship:
        origin = origin - np.array([0.35 * scale * apart[0], 0.0])  # a pair is framed as a pair
        _touch(actor, other, side, apart, other_scale / scale, action, rng)
    first = place(actor, actor_look, scale, origin, camera.light)
    second = place(other, other_look, other_scale, origin + scale * apart * np.array([1.0, -1.0]), camera.light)
    return Cast((first, second) if rng.random() < 0.5 else (second, first), camera)


def broad(look_: Look) -> float:
    """Width of the shoulders relative to the mean."""
    return {"long": 0.88, "short": 1.18, "covered": 1.0}[look_.style]


def _company(motion: Motion, frames: int, rng: Rng) -> Motion:
    """Somebody who goes along with a traveller, in the same step."""
    other = held(frames, rng)
    other.x, other.foot_x, other.foot_y = motion.x.copy(), motion.foot_x.copy(), motion.foot_y.copy()
    return other


def _touch(actor: Skeleton, other: Skeleton, side: int, apart: Array, ratio: float, action: Action, rng: Rng) -> None:
    """Join two people: an arm over the shoulder, or hand in hand where the actor's near arm is free.

    ``apart`` is where the companion stands as the actor sees it (in the actor's body heights, y up), ``ratio`` the
    companion's scale relative to the actor's.
    """
    near = 1 - side
    if action.arms != "both" and rng.random() < 0.5:
        meet = (actor.shoulders[:, side] + apart + ratio * other.shoulders[:, near]) / 2
        meet[:, 1] = np.minimum(actor.pelvis[:, 1], ratio * other.pelvis[:, 1] + apart[1]) + 0.03
        reach(actor, side, meet)
        reach(other, near, (actor.hands[:, side] - apart) / ratio)
    else:
        shoulder = 0.8 * actor.shoulders[:, side] + 0.2 * actor.neck
        reach(other, near, (shoulder - apart) / ratio)


class Shot(Protocol):
    """What filming needs to know of a planned video."""

    @property
    def dataset(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def video_id(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def camera_moves(self) -> bool: ...
    @property
    def quality(self) -> int: ...
    @property
    def sizes(self) -> Sizes: ...


def drawing(plan: Plan) -> Drawing:
    """A planned video of the pair, ready to be drawn."""
    return Drawing(video_id=plan.video_id, sizes=plan.sizes, frames=partial(frames, plan), boxes=partial(boxes, plan))


def frames(plan: Plan) -> Iterator[Frame]:
    """The pictures of a video (H x W x 3 RGB), in order."""
    people = cast(plan)

    def paint(frame: Frame, t: int) -> None:
        for figure in people.figures:
            draw(frame, figure, t)

    return film(plan, people.camera, paint, passers=PASSER)


def film(
    shot: Shot, camera: _scene.Camera, paint: Callable[[Frame, int], None], *, passers: float = 0.0
) -> Iterator[Frame]:
    """Frames of a place under a camera, with light and noise, into which ``paint`` draws what is there at a time.

    Args:
        shot: what is filmed.
        camera: how it is seen.
        paint: draws into a frame (H x W x 3 RGB, changed in place) at a frame number.
        passers: how probable it is that something crosses the picture.
    """
    cv2.setNumThreads(1)
    sizes = shot.sizes
    width, height = sizes.width, sizes.height
    rng = generator(shot.seed, shot.dataset, shot.video_id, "scene")
    painted = _scene.background(shot.place, width, height, generator(shot.seed, shot.dataset, shot.group, "place"))
    light = _scene.falloff(painted.shape[1], painted.shape[0], rng) * camera.light
    backdrop = np.clip(painted * light, 0, 255).astype(np.uint8)
    passer = _scene.passer(sizes.frames, width, height, rng) if rng.random() < passers else None
    noises = _scene.sensor_noise(sizes.frames, width, height, quality=shot.quality, rng=rng)
    left, top = (painted.shape[1] - width) // 2, (painted.shape[0] - height) // 2
    still = np.ascontiguousarray(backdrop[top : top + height, left : left + width])
    for t, noise in enumerate(noises):
        dx, dy = camera.shift_T2[t]
        frame = still.copy()
        if shot.camera_moves:
            view = np.array([[1, 0, dx - left], [0, 1, dy - top]])
            cv2.warpAffine(backdrop, view, (width, height), dst=frame, flags=cv2.INTER_LINEAR)
        if passer is not None:
            passer.draw(frame, t)
        paint(frame, t)
        frame = np.asarray(cv2.convertScaleAbs(frame, alpha=float(camera.flicker_T[t])), dtype=np.uint8)
        yield np.asarray(cv2.add(frame, noise, dtype=cv2.CV_8U), dtype=np.uint8)


def boxes(plan: Plan) -> Array:
    """P x T x 2 x 4: person and head box (x1, y1, x2, y2) of each person; clipped to the picture, so perhaps empty."""
    return clipped_boxes(cast(plan).figures, plan.sizes)


def clipped_boxes(figures: Sequence[Figure], sizes: Sizes) -> Array:
    """The boxes of `boxes` of some figures."""
    limit = np.array([sizes.width, sizes.height] * 2, dtype=float)
    return np.clip(np.stack([figure.boxes for figure in figures]), 0.0, limit)
