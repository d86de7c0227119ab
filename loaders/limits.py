"""What a file may ask for before memory and time are spent on it: one place for all limits.

Headers, recipes and records come from anywhere, and a few bytes of them can ask for gigabytes or for hours. Each limit
lies far above what the field uses, is checked before anything is allocated, and is raised by an environment variable,
which reaches every process of a run.
"""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """variable: of the environment, which sets another value. default: the value without it. noun: what is counted."""

    variable: str
    default: int
    noun: str

    @property
    def value(self) -> int:
        """ValueError, naming the variable, if it is set to anything but a whole number above 0."""
        text = os.environ.get(self.variable, "")
        if not text:
            return self.default
        if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0):
            raise ValueError(f"{self.variable} must be a whole number above 0, got {text[:40]!r}")
        return int(text)

    def check(self, count: int, subject: str) -> None:
        """ValueError if there are more. subject: what has so many, as a sentence begins: a file's path, a key."""
        if fault := self.fault(count):
            raise ValueError(f"{subject} {fault}")

    def fault(self, count: int) -> str:
        """What is wrong with so many, as a sentence goes on behind its subject; empty where nothing is."""
        if count <= self.value:
            return ""
        got = f"{count:,}" if count < 10**18 else "far more"  # Python refuses to print integers of thousands of digits
        return (
            f"must have at most {self.value:,} {self.noun}, got {got}; "
            f"the environment variable {self.variable} raises this limit"
        )


PIXELS = Limit("TWOVIEW_MAX_PIXELS", 178_956_970, "pixels")  # of an image; where Pillow speaks of a bomb
SAMPLES = Limit("TWOVIEW_MAX_SAMPLES", 1_000_000_000, "samples")  # of a beton file
FIELD_BYTES = Limit("TWOVIEW_MAX_FIELD_BYTES", 2**31, "bytes")  # of one field of one sample, as its header says
CHECKPOINT_BYTES = Limit("TWOVIEW_MAX_CHECKPOINT_BYTES", 2**36, "bytes")  # of all tensors, unpacked
WIDTH = Limit("TWOVIEW_MAX_WIDTH", 2**17, "features")  # of one layer, as a recipe says; DINO's heads have 2^16
NAME = Limit("TWOVIEW_MAX_NAME", 100, "characters")  # of a recipe, dataset, record, peer or suite
TEXT = Limit("TWOVIEW_MAX_TEXT", 20_000, "characters")  # of any other text in a record or recipe
RECIPE_BYTES = Limit("TWOVIEW_MAX_RECIPE_BYTES", 2**15, "bytes")  # of a TOML file; its parser can take long
EPOCHS = Limit("TWOVIEW_MAX_EPOCHS", 1_000_000, "epochs")
BATCH = Limit("TWOVIEW_MAX_BATCH", 2**20, "images")  # a step, as a recipe says
QUEUE = Limit("TWOVIEW_MAX_QUEUE", 2**24, "keys")  # of MoCo; the field has 2^16
REPEATS = Limit("TWOVIEW_MAX_REPEATS", 1000, "repeats")  # of layers, views, iterations, a suite's seeds
THREADS = Limit("TWOVIEW_MAX_THREADS", 1024, "threads")  # that load
IMAGE_BYTES = Limit("TWOVIEW_MAX_IMAGE_BYTES", 2**29, "bytes")  # of an image file: 3 for each of its pixels
LIST_BYTES = Limit("TWOVIEW_MAX_LIST_BYTES", 2**30, "bytes")  # of a file that is about, or holds, all images of a split
UNPACKED = Limit("TWOVIEW_MAX_UNPACKED", 100, "bytes for each of its own")  # of an archive; text has 10
RECORD_BYTES = Limit("TWOVIEW_MAX_RECORD_BYTES", 2**28, "bytes")  # of a file; two million steps have 80 million
VALUES = Limit("TWOVIEW_MAX_VALUES", 10_000, "values")  # of what a record has as free tables, such as its recipe
PICTURE_BYTES = Limit("TWOVIEW_MAX_PICTURE_BYTES", 2**24, "bytes")  # of a file; all of it goes into the page
