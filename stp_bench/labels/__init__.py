"""Labels of others: reading published releases without executing what they hold, and label tables of our own."""

from stp_bench.labels._table import LabelTable

__all__ = ["LabelTable"]
