"""How each action moves: functions that animate a few tracks of a body that holds a random pose in all others.

A held pose is drawn from the same broad distribution for every action (arms anywhere, knees bent, a foot in the air,
body off the ground line), and an action moves its joints around random centers. So a single frame tells next to
nothing about the action; the movement does.

Lengths are in body heights, angles in radians, times in frames. Side 0 is the left of the image, side 1 the right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Rng = np.random.Generator

SIDES = np.array([-1.0, 1.0])


@dataclass(slots=True)
class Motion:
    """The tracks of one body over T frames; an action overwrites or adds to some of them."""

    x: Array
    """T: sideways displacement of the whole body."""
    hips: Array
    """T: sideways displacement of the hips over planted feet."""
    lift: Array
    """T: height of the whole body above its ground line."""
    crouch: Array
    """T: 0 upright, 1 deep squat."""
    lean: Array
    """T: angle of the trunk, positive to the right."""
    shoulder: Array
    """T x 2: upper arm from hanging down (0) over sideways (pi / 2) to straight up (pi)."""
    elbow: Array
    """T x 2: forearm relative to the upper arm, positive turns it further up."""
    foot_x: Array
    """T x 2: sideways position of the feet relative to the body."""
    foot_y: Array
    """T x 2: height of the feet."""


Animate = Callable[[Motion, Array, Rng, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One class of movement."""

    animate: Animate
    """Called with the held pose, the phase of each frame, a generator and the acting side."""
    period: tuple[float, float] = (10.0, 14.0)
    """Range of the duration of one cycle, in frames."""
    arms: Literal["none", "one", "both"] = "none"
    """Which arms it needs: a companion may only hold a free one."""
    travels: bool = False
    """Whether the body crosses the picture, so that a companion has to go along."""


def held(frames: int, rng: Rng) -> Motion:
    """A random pose with the small movements of somebody who stands still (sway, breath, drifting arms)."""
    t = np.arange(frames, dtype=np.float64)

    def drift(scale: float) -> Array:
        return np.asarray(scale * np.sin(2 * np.pi * t / rng.uniform(22, 40) + rng.uniform(0, 2 * np.pi)))

    shoulder = rng.uniform(0.15, 2.6, 2)
    elbow = rng.uniform(-0.6, 1.9, 2)
    if rng.random() < 0.45:
        shoulder[:], elbow[:] = shoulder[0], elbow[0]
    stance = rng.uniform(0.06, 0.17)
    foot_x, foot_y = SIDES * stance, np.zeros(2)
    if rng.random() < 0.4:
        free = int(rng.integers(2))
        foot_x[free] += SIDES[free] * rng.uniform(-0.05, 0.3)
        foot_y[free] += rng.uniform(0.03, 0.3)
    crouch = rng.uniform(0.0, 0.2) if rng.random() < 0.55 else rng.uniform(0.2, 0.9)
    ones = np.ones((frames, 1))
    return Motion(
        x=drift(0.006),
        hips=drift(0.006) + rng.uniform(-0.06, 0.06),
        lift=np.full(frames, rng.uniform(0.0, 0.12)),
        crouch=crouch + drift(0.02),
        lean=drift(0.02) + rng.uniform(-0.2, 0.2),
        shoulder=ones * shoulder + np.stack([drift(0.04), drift(0.04)], axis=1),
        elbow=ones * elbow + np.stack([drift(0.04), drift(0.04)], axis=1),
        foot_x=ones * foot_x,
        foot_y=ones * foot_y,
    )


def perform(action: Action, frames: int, rng: Rng, side: int) -> Motion:
    """A held pose with ``action`` on top: random tempo and phase."""
    motion = held(frames, rng)
    phase = 2 * np.pi * np.arange(frames) / rng.uniform(*action.period) + rng.uniform(0, 2 * np.pi)
    action.animate(motion, phase, rng, side)
    return motion


def _swing(phase: Array) -> Array:
    """0 to 1 and back once per cycle, smoothly."""
    return np.asarray((1 - np.cos(phase)) / 2)


def _pulse(phase: Array) -> Array:
    """The positive half of a sine: half a cycle of movement, half a cycle of rest."""
    return np.asarray(np.maximum(0.0, np.sin(phase)))


def _ramp(frames: int) -> Array:
    """0 to 1 once over the whole video."""
    return np.linspace(0.0, 1.0, frames)


def _plant(motion: Motion, rng: Rng) -> None:
    """Put both feet on the ground line."""
    motion.foot_x[:] = SIDES * rng.uniform(0.08, 0.17)
    motion.foot_y[:] = 0.0


def _cross(motion: Motion, rng: Rng) -> None:
    way = rng.uniform(0.62, 0.85) * (1.0 if rng.random() < 0.5 else -1.0)
    motion.x += way * (_ramp(len(motion.x)) - 0.5)


def _clap(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    open_ = _swing(phase)[:, None]
    motion.shoulder[:] = rng.uniform(0.5, 1.1) + 0.95 * open_
    motion.elbow[:] = -2.3 + 2.3 * rng.uniform(0.9, 1.1) * open_


def _jump(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    up = np.abs(np.sin(phase / 2))
    motion.lift += 0.2 * rng.uniform(0.9, 1.15) * up - 0.06
    motion.crouch += 0.35 * (1 - up) ** 2


def _kick(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    e = rng.uniform(0.85, 1.1) * _swing(phase)
    motion.foot_x[:, side] = SIDES[side] * (0.05 + 0.38 * e)
    motion.foot_y[:, side] = 0.36 * e
    motion.lean -= SIDES[side] * 0.2 * e


def _punch(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    for arm in (0, 1):
        out = _pulse(phase + np.pi * arm) ** 0.8
        motion.shoulder[:, arm] = rng.uniform(0.3, 0.7) + 1.1 * out
        motion.elbow[:, arm] = 2.2 * (1 - out)
    motion.lean -= 0.22 * np.sin(phase)
    motion.hips -= 0.05 * np.sin(phase)


def _sit(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    motion.crouch[:] = rng.uniform(0.0, 0.1) + rng.uniform(0.9, 1.1) * _ramp(len(phase))


def _stand(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    motion.crouch[:] = rng.uniform(0.0, 0.1) + rng.uniform(0.9, 1.1) * (1 - _ramp(len(phase)))


def _walk(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    _cross(motion, rng)
    for leg in (0, 1):
        step = phase + np.pi * leg
        motion.foot_x[:, leg] = 0.17 * np.cos(step)
        motion.foot_y[:, leg] = 0.09 * _pulse(step)
        motion.shoulder[:, leg] += 0.35 * np.cos(step + np.pi)


def _wave(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    motion.shoulder[:, side] = rng.uniform(1.5, 2.3) + 0.6 * rng.uniform(0.9, 1.1) * np.sin(phase)
    motion.elbow[:, side] = rng.uniform(0.0, 0.4) + 0.5 * np.sin(phase - 0.5)


def _squat(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    _plant(motion, rng)
    motion.crouch[:] = 0.02 + rng.uniform(0.9, 1.1) * _swing(phase)


def _speed_bag(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    center, bend = rng.uniform(1.0, 1.5), rng.uniform(1.1, 1.7)
    for arm in (0, 1):
        motion.shoulder[:, arm] = center + 0.25 * np.sin(phase + np.pi * arm)
        motion.elbow[:, arm] = bend + 0.7 * np.cos(phase + np.pi * arm)


def _high_knees(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    height = 0.26 * rng.uniform(0.9, 1.1)
    for leg in (0, 1):
        motion.foot_x[:, leg] = SIDES[leg] * 0.09
        motion.foot_y[:, leg] = height * _pulse(phase + np.pi * leg)


def _jumping_jack(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    e = rng.uniform(0.9, 1.1) * _swing(phase)
    motion.shoulder[:] = (rng.uniform(0.6, 1.2) + 1.3 * e)[:, None]
    motion.elbow[:] = 0.1
    motion.foot_x[:] = SIDES * (0.05 + 0.24 * e)[:, None]
    motion.foot_y[:] = 0.0
    motion.lift += 0.03 * e


def _lunge(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    e = rng.uniform(0.9, 1.1) * _swing(phase)
    _plant(motion, rng)
    motion.foot_x[:, side] += SIDES[side] * 0.34 * e
    motion.hips += SIDES[side] * 0.24 * e
    motion.crouch[:] = 0.05 + 0.7 * e


def _climb(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    motion.lift += rng.uniform(0.28, 0.36) * _ramp(len(phase)) - 0.1


def _skate(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    _cross(motion, rng)


def _fall(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    motion.lift += rng.uniform(0.28, 0.36) * (1 - _ramp(len(phase))) - 0.1


def _tennis(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    s = rng.uniform(0.9, 1.1) * np.sin(phase)
    motion.shoulder[:, side] = rng.uniform(1.2, 2.0) + 0.65 * s
    motion.elbow[:, side] = rng.uniform(0.0, 0.3) + 0.4 * np.sin(phase - 0.5)
    motion.lean -= SIDES[side] * 0.28 * s


def _trampoline(motion: Motion, phase: Array, rng: Rng, side: int) -> None:
    motion.lift += 0.24 * rng.uniform(0.9, 1.1) * np.abs(np.sin(phase / 2)) - 0.06


ACTIONS: Mapping[str, Mapping[str, Action]] = {
    "synth-hmdb": {
        "clap": Action(animate=_clap, period=(10, 13), arms="both"),
        "jump": Action(animate=_jump, period=(10, 13)),
        "kick": Action(animate=_kick, period=(12, 15)),
        "punch": Action(animate=_punch, period=(12, 15), arms="both"),
        "sit": Action(animate=_sit),
        "stand": Action(animate=_stand),
        "walk": Action(animate=_walk, period=(11, 14), travels=True),
        "wave": Action(animate=_wave, period=(7, 9), arms="one"),
    },
    "synth-ucf": {
        "BodyWeightSquats": Action(animate=_squat, period=(18, 24)),
        "BoxingSpeedBag": Action(animate=_speed_bag, period=(6, 8), arms="both"),
        "HighKnees": Action(animate=_high_knees, period=(9, 12)),
        "JumpingJack": Action(animate=_jumping_jack, period=(11, 14), arms="both"),
        "Lunges": Action(animate=_lunge, period=(16, 20)),
        "RopeClimbing": Action(animate=_climb),
        "SkateBoarding": Action(animate=_skate, travels=True),
        "SkyDiving": Action(animate=_fall),
        "TennisSwing": Action(animate=_tennis, period=(8, 10), arms="one"),
        "TrampolineJumping": Action(animate=_trampoline, period=(10, 13)),
    },
}
