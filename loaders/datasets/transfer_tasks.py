"""Transfer datasets: iNaturalist 2018, Places205, and VTAB's counting and distance tasks on CLEVR and KITTI."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from twoview.loaders.datasets.archives import Archive
from twoview.loaders.datasets.declaration import Dataset, Split, getter, in_root
from twoview.loaders.datasets.samples import Samples, check_there, inside, samples_from_files, samples_from_list
from twoview.loaders.errors import reason
from twoview.loaders.files import bytes_of, lines_of
from twoview.loaders.limits import LIST_BYTES
from twoview.loaders.samplers import shuffled

_VALIDATION = {"train": "train", "test": "val"}  # "test" is the validation split where the test labels are not public


def _inat18(root: Path | None, split: Split) -> Samples:
    listed = in_root(root, f"inat18/{_VALIDATION[split]}2018.json", "inat18")
    folder = in_root(root, "inat18/train_val2018", "inat18").parent
    content = _json(listed, "images", "annotations")
    try:
        names = {image["id"]: inside(folder, image["file_name"], str(listed)) for image in content["images"]}
        files = [names[entry["image_id"]] for entry in content["annotations"]]
        labels = np.array([entry["category_id"] for entry in content["annotations"]], np.int64)
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"{listed} is not a file of iNaturalist's annotations: {error!r}") from None
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= 8142:
        raise ValueError(f"{listed} has a category that is not in [0, 8141]")
    check_there(files, str(listed))
    return samples_from_files(files, labels, str(listed))


def _places205(root: Path | None, split: Split) -> Samples:
    lists = in_root(root, "places205/trainvalsplit_places205", "places205")
    images = in_root(root, "places205/data/vision/torralba/deeplearning/images256", "places205")
    return samples_from_list(lists / f"{_VALIDATION[split]}_places205.csv", images, 205, separator=",")


def _clevr(name: str, label: Callable[[list[dict[str, Any]]], int]) -> Callable[[Path | None, Split], Samples]:
    """Return the `Dataset.read` of a task on CLEVR.

    label: function from the objects of a scene to the class. As in VTAB, "test" is the validation images, since the
    scenes of the test images are not public.
    """

    def read(root: Path | None, split: Split) -> Samples:
        part = _VALIDATION[split]
        scenes = in_root(root, f"clevr/CLEVR_v1.0/scenes/CLEVR_{part}_scenes.json", name)
        images = in_root(root, f"clevr/CLEVR_v1.0/images/{part}", name)
        try:
            found = [
                (inside(images, scene["image_filename"], str(scenes)), label(scene["objects"]))
                for scene in _json(scenes, "scenes")["scenes"]
            ]
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(
                f"{scenes} is not a file of CLEVR's scenes: {type(error).__name__} {reason(error)}"
            ) from None
        except NotAScene as error:
            raise ValueError(f"{scenes}: {error}") from None
        files = [file for file, _ in found]
        check_there(files, str(scenes))
        return samples_from_files(files, [number for _, number in found], str(images))

    return read


class NotAScene(ValueError):
    """A scene that cannot be one of CLEVR's."""


def clevr_count(objects: list[dict[str, Any]]) -> int:
    """Return the class by the number of objects, 3 to 10, as in VTAB's clevr.py, count_all.

    Raises ValueError for another number of objects.
    """
    if not 3 <= len(objects) <= 10:
        raise NotAScene(f"a CLEVR scene must have 3 to 10 objects, got {len(objects)}")
    return len(objects) - 3


def clevr_distance(objects: list[dict[str, Any]]) -> int:
    """Return the class by the depth of the closest object, as in VTAB's clevr.py, closest_object_distance.

    The depth is the third of an object's `pixel_coords`. Raises ValueError for a depth outside (0, 100].
    """
    depth = min((entry["pixel_coords"][2] for entry in objects), default=0)
    if not 0 < depth <= 100:
        raise NotAScene(f"a CLEVR object's depth must be in (0, 100], got {depth}")
    # Class i is the depths up to the i-th threshold; the last class is all depths beyond.
    return int(np.searchsorted([8.0, 8.5, 9.0, 9.5, 10.0], depth))


def _kitti(root: Path | None, split: Split) -> Samples:
    """Read KITTI's training images, with classes from their label files. "train" is a fixed random draw of four fifths.

    The split is our own: the labels of KITTI's test images are not public. VISSL draws the same number of images
    without a seed, so its split cannot be reproduced; VTAB splits by video, with a mapping from another archive.
    """
    images = in_root(root, "Kitti/raw/training/image_2", "kitti-distance")
    annotations = in_root(root, "Kitti/raw/training/label_2", "kitti-distance")
    names = sorted(file.stem for file in annotations.glob("*.txt"))
    if not names:
        raise FileNotFoundError(f"{annotations} holds no label file")
    files = [str(images / f"{name}.png") for name in names]
    check_there(files, str(annotations))
    order = shuffled(len(names), 0, 0)
    border = round(0.8 * len(names))
    chosen = np.sort(order[:border] if split == "train" else order[border:])
    labels = [kitti_distance(annotations / f"{names[index]}.txt") for index in chosen]
    return samples_from_files([files[index] for index in chosen], labels, str(images))


def kitti_distance(file: Path) -> int:
    """Return the class by the distance of the closest car, van or truck, as VTAB's kitti.py, closest_vehicle_distance.

    The classes are: up to 8 m, up to 20 m, farther, and no such vehicle at all. The distance is the z of `location`,
    the fourteenth column of a label file. Raises ValueError, naming file and line, for a line that is not a label.
    """
    distances = [1000.0]  # means no vehicle
    for number, line in enumerate(lines_of(file), 1):
        columns = line.split()
        try:
            if columns[0] in ("Car", "Van", "Truck"):
                distances.append(float(columns[13]))
        except (IndexError, ValueError):
            raise ValueError(f"{file}: line {number} is not a KITTI label: {line[:80]!r}") from None
    return int(np.searchsorted([8.0, 20.0, 999.0], min(distances)))


def _json(file: Path, *keys: str) -> dict[str, Any]:
    """Return the content of a JSON file. Raises ValueError, naming the file, unless it has a list under each key."""
    text = bytes_of(file, LIST_BYTES)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON: {reason(error)}") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        raise ValueError(f"{file} has no lists of {' and '.join(keys)}")
    return content


# The images' URL and checksum are the ones in torchvision; the annotations' are from github.com/visipedia/inat_comp.
_INAT = "https://ml-inat-competition-datasets.s3.amazonaws.com/2018"
_INAT_ARCHIVES = (
    Archive(f"{_INAT}/train2018.json.tar.gz", "bfa29d89d629cbf04d826a720c0a68b0", "train2018.json"),
    Archive(f"{_INAT}/val2018.json.tar.gz", "f2ed8bfe3e9901cdefceb4e53cd3775d", "val2018.json"),
    Archive(f"{_INAT}/train_val2018.tar.gz", "b1c6952ce38f31868cc50ea72d066cc3", "train_val2018"),
)
_PLACES = "http://data.csail.mit.edu/places/places205"
# The URLs and the checksum are the ones in torchvision, which has no checksums for KITTI.
_CLEVR = Archive(
    "https://dl.fbaipublicfiles.com/clevr/CLEVR_v1.0.zip", "b11922020e72d0cd9154779b2d3d07d2", "CLEVR_v1.0"
)
_KITTI = "https://s3.eu-central-1.amazonaws.com/avg-kitti"
_KITTI_ARCHIVES = (
    Archive(f"{_KITTI}/data_object_image_2.zip", None, "training/image_2"),
    Archive(f"{_KITTI}/data_object_label_2.zip", None, "training/label_2"),
)


def _clevr_task(name: str, names: tuple[str, ...], label: Callable[[list[dict[str, Any]]], int]) -> Dataset:
    """Return a task on CLEVR as a dataset.

    names: the class names. label: function from the objects of a scene to the class.
    """
    return Dataset(
        name=name,
        count=len(names),
        names=lambda: names,
        sizes={"train": 70_000, "test": 15_000},
        layout=tuple(f"clevr/CLEVR_v1.0/{what}" for p in ("train", "val") for what in (f"images/{p}", _scenes(p))),
        license="CC BY 4.0",
        origin="https://cs.stanford.edu/people/jcjohns/clevr; the task is VTAB's (github.com/google-research)",
        read=_clevr(name, label),
        get=getter(name, "clevr", _CLEVR),
    )


def _scenes(part: str) -> str:
    return f"scenes/CLEVR_{part}_scenes.json"


TRANSFER = (
    Dataset(
        name="inat18",
        count=8142,
        sizes={"train": 437_513, "test": 24_426},  # "test" is the validation images: the test labels are not public
        layout=("inat18/train2018.json", "inat18/val2018.json", "inat18/train_val2018"),
        license="for non-commercial research and education; each image has its own",
        origin="https://github.com/visipedia/inat_comp/tree/master/2018",
        read=_inat18,
        get=getter("inat18", "inat18", *_INAT_ARCHIVES),
    ),
    Dataset(
        name="places205",
        count=205,
        sizes={"train": 2_448_873, "test": 20_500},  # "test" is the validation images: the test labels are not public
        layout=(
            "places205/trainvalsplit_places205/train_places205.csv",
            "places205/trainvalsplit_places205/val_places205.csv",
            "places205/data/vision/torralba/deeplearning/images256",
        ),
        license="for non-commercial research and education; see http://places.csail.mit.edu",
        origin="http://places.csail.mit.edu/downloadData.html",
        read=_places205,
        by_hand=f"mkdir -p ROOT/places205 && curl {_PLACES}/imagesPlaces205_resize.tar.gz | tar xz -C ROOT/places205 "
        f"&& curl {_PLACES}/trainvalsplit_places205.tar.gz | tar xz -C ROOT/places205",
    ),
    _clevr_task("clevr-count", tuple(f"{number} objects" for number in range(3, 11)), clevr_count),
    _clevr_task(
        "clevr-distance",
        ("up to 8", "up to 8.5", "up to 9", "up to 9.5", "up to 10", "beyond 10"),
        clevr_distance,
    ),
    Dataset(
        name="kitti-distance",
        count=4,
        names=lambda: ("up to 8 m", "up to 20 m", "beyond 20 m", "no vehicle"),
        sizes={"train": 5_985, "test": 1_496},  # of KITTI's 7,481 training images
        layout=("Kitti/raw/training/image_2", "Kitti/raw/training/label_2"),
        license="CC BY-NC-SA 3.0",
        origin="https://www.cvlibs.net/datasets/kitti/eval_object.php; the task is VTAB's (github.com/google-research)",
        read=_kitti,
        get=getter("kitti-distance", "Kitti/raw", *_KITTI_ARCHIVES),
    ),
)
