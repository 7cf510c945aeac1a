"""Privacy-preserving action recognition: benchmarks, methods, one evaluation protocol and a leaderboard."""

__version__ = "0.1.0"
