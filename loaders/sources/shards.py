"""Images in tar files, as WebDataset stores them: the files of one sample have the same name but for the suffix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from twoview.loaders.datasets.samples import SUFFIXES, Samples, as_stored
from twoview.loaders.files import NUMBER
from twoview.loaders.names import shown
from twoview.loaders.sources.source import Source, by_split, numbered
from twoview.loaders.sources.tar import HIDDEN, Members, members
from twoview.loaders.storage import PLAIN, Storage

LABEL = ".cls"  # suffix of the member that holds a sample's label, as text
LONGEST_LABEL = 100  # maximum bytes of a label


def open_shards(path: str, files: Sequence[Path]) -> Source:
    """Return the images in tar files, in the order of the files.

    A sample is an image (`0001.jpg`) and, if it has a label, a file `0001.cls` with a whole number or the name of a
    class. All other files are ignored. Raises ValueError, naming the file, if it is not a tar file or is cut short, or
    if two images of a shard have the same name but for the suffix.
    """
    ignored: dict[str, int] = {}
    shards = {split: [_Shard(members(file), ignored) for file in some] for split, some in by_split(files).items()}
    for split in [split for split, some in shards.items() if not any(len(one.images) for one in some)]:
        del shards[split]
    if "train" not in shards:
        raise ValueError(f"{path} must hold images to train on, got none in {len(files):,} tar files")
    labels, classes = _numbers({split: np.concatenate([one.labels for one in some]) for split, some in shards.items()})
    splits = {split: _samples(path, some, labels[split]) for split, some in shards.items()}
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in ignored.items())
    return Source(path, "tar shards", splits, classes, list(map(str, files)), (f"ignored: {kinds}",) if kinds else ())


class _Shard:
    """The samples of one tar file: `images` are the numbers of the members, `labels` their labels as bytes strings."""

    def __init__(self, found: Members, ignored: dict[str, int]) -> None:
        """Find the samples. ignored: receives the number of members of each other kind."""
        self.members = found
        kinds, firsts, kind_of, counts = np.unique(
            found.suffixes, return_index=True, return_inverse=True, return_counts=True
        )
        suffixes = [
            "" if kind == HIDDEN else _suffix(found.name(int(at))) for kind, at in zip(kinds, firsts, strict=True)
        ]
        self.images = np.flatnonzero(np.array([one in SUFFIXES for one in suffixes], bool)[kind_of])
        labels = np.flatnonzero(np.array([one == LABEL for one in suffixes], bool)[kind_of])
        for kind, suffix, count in zip(kinds, suffixes, counts, strict=True):
            if suffix != LABEL and suffix not in SUFFIXES:
                words = (
                    "hidden files"
                    if kind == HIDDEN
                    else f"{shown(suffix)} files"
                    if suffix
                    else "files without a suffix"
                )
                ignored[words] = ignored.get(words, 0) + int(count)
        self.labels = np.zeros(len(self.images), "S1")
        stems = found.stems[self.images]
        order = np.argsort(stems, kind="stable")
        if (twice := stems[order][1:] == stems[order][:-1]).any():
            one, other = (self.name(int(order[np.argmax(twice) + step])) for step in (0, 1))
            raise ValueError(f"{found.path} must hold one image per sample, got {one} and {other}")
        if len(labels) and len(stems):
            # The image with the same name as each label, if there is one.
            places = order[np.minimum(np.searchsorted(stems, found.stems[labels], sorter=order), len(stems) - 1)]
            used = stems[places] == found.stems[labels]
            if without := int((~used).sum()):
                ignored["labels without an image"] = ignored.get("labels without an image", 0) + without
            texts = np.char.strip(found.texts(labels[used], LONGEST_LABEL))
            self.labels = self.labels.astype(texts.dtype)
            self.labels[places[used]] = texts

    def name(self, sample: int) -> str:
        """Return the name of a sample's image."""
        return self.members.name(int(self.images[sample]))


def _samples(path: str, shards: Sequence[_Shard], labels: np.ndarray) -> Samples:
    """Return the samples of several shards. labels: int64 (N,)."""
    ends = np.cumsum([len(one.images) for one in shards])

    def found(index: int) -> tuple[_Shard, int]:
        number = int(np.searchsorted(ends, index, "right"))
        return shards[number], index - int(ends[number] - len(shards[number].images))

    def place(index: int) -> str:
        shard, sample = found(index)
        return f"{shard.members.path}/{shard.name(sample)}"

    def image(index: int, storage: Storage = PLAIN) -> np.ndarray | bytes:
        shard, sample = found(index)
        member = int(shard.images[sample])
        with open(shard.members.path, "rb") as file:
            file.seek(int(shard.members.starts[member]))
            content = file.read(int(shard.members.sizes[member]))
        return as_stored(content, place(index), storage)

    return Samples(image, labels, path, large=image, place=place)


def _suffix(name: str) -> str:
    """Return what follows the first dot of a name's last part, in small letters: ".jpg", ".seg.png"."""
    _, dot, suffix = name.rpartition("/")[2].partition(".")
    return dot + suffix.lower()


def _numbers(given: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return the labels of each split as class numbers, and the names of the classes. A missing label becomes -1."""
    texts, number_of = np.unique(np.concatenate(list(given.values())), return_inverse=True)
    names = [one.decode("utf-8", "backslashreplace") for one in texts]
    whole = all(NUMBER.fullmatch(name) for name in names if name)
    labels = [int(name) if whole else number for number, name in enumerate(filter(None, names))]
    numbers = np.array([-1, *labels] if "" in names else labels, np.int64)  # "" is the first in order
    classes = numbered(numbers) if whole else tuple(filter(None, names))
    ends = np.cumsum([len(some) for some in given.values()])[:-1]
    return dict(zip(given, np.split(numbers[number_of], ends), strict=True)), classes
