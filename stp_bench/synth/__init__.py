"""The embedded benchmark pair: synthetic people, drawn from a seed and written as real video files.

``synth-hmdb`` and ``synth-ucf`` have different actions and the same five private attributes, in the folder layouts,
file names and split lists of HMDB51 and UCF101. Actions show in motion only, attributes in appearance only.
"""

from stp_bench.synth._plan import NAMES, VERSION, benchmark, counts
from stp_bench.synth._write import make

__all__ = ["NAMES", "VERSION", "benchmark", "counts", "make"]
