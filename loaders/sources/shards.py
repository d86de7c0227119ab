"""Images in tar files, as WebDataset stores them: the files of one sample have the same name but for the suffix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from twoview.loaders.datasets.samples import SUFFIXES, Samples, as_stored
from twoview.loaders.limits import IMAGE_BYTES
from twoview.loaders.names import shown
from twoview.loaders.sources.source import TRAIN, Source, by_split, choose, labeled
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
    root = Path(path) if Path(path).is_dir() else Path(path).parent
    parts = {name: [_Shard(members(file), ignored) for file in some] for name, some in by_split(files, root).items()}
    parts = {name: some for name, some in parts.items() if any(len(one.images) for one in some)}
    if not parts.keys() & {*TRAIN}:
        raise ValueError(f"{path} must hold images to train on, got none in {len(files):,} tar files")
    used, notes = choose({name: any((one.labels != b"").any() for one in some) for name, some in parts.items()})
    try:
        given = {split: [text for one in parts[name] for text in _texts(one.labels)] for split, name in used.items()}
        labels, classes = labeled(given)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    splits = {split: _samples(path, parts[name], labels[split]) for split, name in used.items()}
    if kinds := ", ".join(f"{count:,} {kind}" for kind, count in ignored.items()):
        notes.append(f"ignored: {kinds}")
    return Source(path, "tar shards", splits, classes, list(map(str, files)), tuple(notes))


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
        IMAGE_BYTES.check(int(shard.members.sizes[member]), place(index))
        with open(shard.members.path, "rb") as file:
            file.seek(int(shard.members.starts[member]))
            content = file.read(int(shard.members.sizes[member]))
        return as_stored(content, place(index), storage)

    return Samples(image, labels, path, large=image, place=place)


def _suffix(name: str) -> str:
    """Return what follows the first dot of a name's last part, in small letters: ".jpg", ".seg.png"."""
    _, dot, suffix = name.rpartition("/")[2].partition(".")
    return dot + suffix.lower()


def _texts(labels: np.ndarray) -> list[str]:
    """Return labels, bytes strings (N,), as text."""
    return [label.decode("utf-8", "backslashreplace") for label in labels.tolist()]
