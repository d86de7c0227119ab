"""How images are stored in a beton file (FFCV's format) if they cannot keep their bytes, or shall not."""

from dataclasses import dataclass
from typing import Literal

SMALL = 256 * 256  # maximum number of pixels of an image that is stored without loss under `compress`


@dataclass(frozen=True)
class Storage:
    """How images are stored. JPEGs that the loader can decode keep their bytes, unless they are too large.

    background: the color on which transparent pixels are laid. longest: the longest side, in pixels, to which larger
    images are resized; None resizes none. quality: of JPEGs that are written, 1 to 95 on PIL's scale. compress: whether
    images of other formats become JPEGs if they have more than SMALL pixels; otherwise they are stored as pixels.
    Raises ValueError for a value out of range, named like the option.
    """

    background: Literal["white", "black"] = "white"
    longest: int | None = None
    quality: int = 90
    compress: bool = False

    def __post_init__(self) -> None:
        if self.background not in ("white", "black"):
            raise ValueError(f"--background must be white or black, got {self.background!r}")
        if self.longest is not None and not 1 <= self.longest < 1 << 16:
            raise ValueError(f"--max-resolution must be 1 to 65,535 pixels, got {self.longest}")
        if not 1 <= self.quality <= 95:
            raise ValueError(f"--quality must be 1 to 95, got {self.quality}")

    def rule(self) -> str:
        """Return in a sentence how images are stored that cannot keep their bytes."""
        others = "images that are not upright JPEGs in RGB or gray are stored as pixels"
        return f"{others} up to 256 x 256, or else as JPEG of quality {self.quality}" if self.compress else others


PLAIN = Storage()
