"""The embedded benchmarks: synthetic people, drawn from a seed and written as real video files.

The pair ``synth-hmdb`` and ``synth-ucf`` have different actions and the same five private attributes, in the folder
layouts, file names and split lists of HMDB51 and UCF101. Actions show in motion only, attributes in appearance only.

The twins have the tasks and label files of other benchmarks: ``synth-pa`` labels of single frames as PA-HMDB51,
``synth-faces`` expressions and attributes of faces as CelebV-HQ, ``synth-scenes`` tags of actions, objects and scenes
as P-HVU.
"""

from stp_bench.synth._plan import NAMES, VERSION
from stp_bench.synth._twins import TWINS, benchmark, counts, draw
from stp_bench.synth._write import make

__all__ = ["NAMES", "TWINS", "VERSION", "benchmark", "counts", "draw", "make"]
