"""The card of the method. It imports no torch: listing methods reads every installed card and should be instant."""

from dataclasses import dataclass

from stp_bench.methods import MethodSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The options of pixelate, each settable by ``--set pixelate.KEY=VALUE``."""

    blocks: int = 8
    """Blocks across a frame and down it."""


PIXELATE = MethodSpec(
    name="pixelate",
    version=1,
    title="Pixelation",
    build="stp_pixelate.pixelate:Pixelate",
    config=Config,
)
