"""The decode-once clip store and the loaders over it.

Every video is decoded and resized once, in order, into shards of frames (`open_store`). Training and testing then read
frames by memory map, and cut, resize and flip a whole batch in one operation on the device (`train_loader`,
`view_batches`, `tile_batches`, `center_batches`, `center_loader`). Names are resolved when they are first used, so that
the processes which build a store start without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stp_bench.clipstore._build import StoreRecipe
    from stp_bench.clipstore._loader import (
        CenterBatches,
        FrameLabels,
        TrainBatches,
        ViewBatches,
        center_batches,
        center_loader,
        tile_batches,
        train_loader,
        view_batches,
    )
    from stp_bench.clipstore._store import Store, open_store
    from stp_bench.clipstore._views import Augment

__all__ = [
    "Augment",
    "CenterBatches",
    "FrameLabels",
    "Store",
    "StoreRecipe",
    "TrainBatches",
    "ViewBatches",
    "center_batches",
    "center_loader",
    "open_store",
    "tile_batches",
    "train_loader",
    "view_batches",
]

_MODULES = {"Augment": "_views", "Store": "_store", "StoreRecipe": "_build", "open_store": "_store"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, '_loader')}"), name)
