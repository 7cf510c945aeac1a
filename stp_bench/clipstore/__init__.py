"""The decode-once clip store and the loaders over it.

Every video is decoded and resized once, in order, into shards of frames (`open_store`). Training and testing then read
frames by memory map, and cut, resize and flip a whole batch in one operation on the device (`train_loader`,
`view_batches`, `center_batches`). Building imports no torch, hence the lazy names.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from stp_bench.clipstore._build import StoreRecipe
from stp_bench.clipstore._store import Store, open_store

if TYPE_CHECKING:
    from stp_bench.clipstore._loader import TrainBatches, ViewBatches, center_batches, train_loader, view_batches
    from stp_bench.clipstore._views import Augment

__all__ = [
    "Augment",
    "Store",
    "StoreRecipe",
    "TrainBatches",
    "ViewBatches",
    "center_batches",
    "open_store",
    "train_loader",
    "view_batches",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "_views" if name == "Augment" else "_loader"
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)
