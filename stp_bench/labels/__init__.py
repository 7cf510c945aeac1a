"""Labels of others: reading published releases without executing what they hold, and label tables of our own.

`open_labels` takes whatever a user has; `import_labels` reads one official release, `fetch` brings it, `read_table` and
`write_table` keep it; `statistics` and `split_floors` say what it holds and what can be reached without a pixel.
"""

from stp_annotations import Release, releases
from stp_bench.labels._csv import read_table, write_table
from stp_bench.labels._fetch import fetch
from stp_bench.labels._official import some_frame
from stp_bench.labels._open import IMPORTABLE, import_labels, open_labels, release_named, stored
from stp_bench.labels._statistics import (
    OrderTest,
    SplitFloors,
    Statistics,
    TargetStatistics,
    order_test,
    split_floors,
    statistics,
)
from stp_bench.labels._table import LabelTable

__all__ = [
    "IMPORTABLE",
    "LabelTable",
    "OrderTest",
    "Release",
    "SplitFloors",
    "Statistics",
    "TargetStatistics",
    "fetch",
    "import_labels",
    "open_labels",
    "order_test",
    "read_table",
    "release_named",
    "releases",
    "some_frame",
    "split_floors",
    "statistics",
    "stored",
    "write_table",
]
