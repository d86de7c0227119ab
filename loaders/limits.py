"""All limits on what a file can request, checked before memory or time is spent on it.

Headers, recipes and records may come from anywhere, and a few bytes in them can request gigabytes of memory or hours of
work. Each limit is far above what the field uses, and is checked before anything is allocated. An environment variable
raises it, for every process of a run.
"""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """An upper limit on a number.

    variable: the environment variable that sets another value. default: the limit if the variable is not set.
    noun: what is counted, such as "pixels".
    """

    variable: str
    default: int
    noun: str

    @property
    def value(self) -> int:
        """The limit that is in effect.

        Raises ValueError, naming the environment variable, if it is set to anything but a whole number above 0.
        """
        text = os.environ.get(self.variable, "")
        if not text:
            return self.default
        if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0):
            raise ValueError(f"{self.variable} must be a whole number above 0, got {text[:40]!r}")
        return int(text)

    def check(self, count: int, subject: str) -> None:
        """Raise ValueError if `count` is above the limit.

        subject: the first words of the message, naming what has the count, such as a file's path or a key.
        """
        if fault := self.fault(count):
            raise ValueError(f"{subject} {fault}")

    def check_setting(self, number: int, name: str) -> None:
        """Raise ValueError if `number` is above the limit. name: the key or the option that has this value."""
        if fault := self.setting_fault(number):
            raise ValueError(f"{name} {fault}")

    def fault(self, count: int) -> str:
        """Return what the error message says after its subject if `count` is above the limit, else an empty string.

        The subject is what contains the counted things, such as a file. For a setting, use `setting_fault`.
        """
        return self._fault(count, f"must have at most {self.value:,} {self.noun}")

    def setting_fault(self, number: int) -> str:
        """Return the same for the value of a setting, whose key or option is the subject."""
        return self._fault(number, f"must be at most {self.value:,}")

    def _fault(self, count: int, must: str) -> str:
        if count <= self.value:
            return ""
        got = f"{count:,}" if count < 10**18 else "far more"  # Python refuses to print integers of thousands of digits
        return f"{must}, got {got}; the environment variable {self.variable} raises this limit"


# The comment behind each limit says what is counted, and where needed how the default compares with common values.
PIXELS = Limit("TWOVIEW_MAX_PIXELS", 178_956_970, "pixels")  # in an image; above this Pillow refuses it
SAMPLES = Limit("TWOVIEW_MAX_SAMPLES", 1_000_000_000, "samples")  # in a beton file
FIELD_BYTES = Limit("TWOVIEW_MAX_FIELD_BYTES", 2**31, "bytes")  # in one field of one sample, by the file's header
CHECKPOINT_BYTES = Limit("TWOVIEW_MAX_CHECKPOINT_BYTES", 2**36, "bytes")  # in all tensors of a checkpoint, unpacked
WIDTH = Limit("TWOVIEW_MAX_WIDTH", 2**17, "features")  # in one layer, by the recipe; DINO's heads have 2^16
NAME = Limit("TWOVIEW_MAX_NAME", 100, "characters")  # in the name of a recipe, dataset, record, peer or suite
TEXT = Limit("TWOVIEW_MAX_TEXT", 20_000, "characters")  # in any other text of a record or recipe
RECIPE_BYTES = Limit("TWOVIEW_MAX_RECIPE_BYTES", 2**15, "bytes")  # in a recipe's TOML file, slow to parse if large
EPOCHS = Limit("TWOVIEW_MAX_EPOCHS", 1_000_000, "epochs")  # in a run
BATCH = Limit("TWOVIEW_MAX_BATCH", 2**20, "images")  # in a step, by the recipe
QUEUE = Limit("TWOVIEW_MAX_QUEUE", 2**24, "keys")  # in MoCo's queue, for which 2^16 is common
REPEATS = Limit("TWOVIEW_MAX_REPEATS", 1000, "repeats")  # of layers, views or iterations, and seeds of a suite
THREADS = Limit("TWOVIEW_MAX_THREADS", 1024, "threads")  # in a loader
IMAGE_BYTES = Limit("TWOVIEW_MAX_IMAGE_BYTES", 2**29, "bytes")  # in an image file: 3 for each of the pixels allowed
LIST_BYTES = Limit("TWOVIEW_MAX_LIST_BYTES", 2**30, "bytes")  # in a file that lists, or holds, all images of a split
UNPACKED = Limit("TWOVIEW_MAX_UNPACKED", 100, "bytes for each byte of the archive")  # about 10 in archives of text
RECORD_BYTES = Limit("TWOVIEW_MAX_RECORD_BYTES", 2**28, "bytes")  # in a record; one of two million steps has 80 million
VALUES = Limit("TWOVIEW_MAX_VALUES", 10_000, "values")  # in a record's tables without a schema, such as its recipe
CLASSES = Limit("TWOVIEW_MAX_CLASSES", 1_000_000, "classes")  # of your own images; ImageNet-21k has 21,841
PICTURE_BYTES = Limit("TWOVIEW_MAX_PICTURE_BYTES", 2**24, "bytes")  # in an image file, which is embedded in a page
