"""Which parts of a dataset are on this machine, which are missing, and how to get them."""

import shlex
from pathlib import Path
from typing import Any

from twoview.loaders.datasets import Dataset


def state(dataset: Dataset, root: Path | None) -> dict[str, Any]:
    """Return, ready for JSON, the facts about a dataset and which parts of it were found. Nothing is downloaded.

    root: the data root, where datasets are searched for. In the result, `layout` maps each path to whether it exists;
    `splits` has, for each split, the number of images found and published, where they were found and any problem; `get`
    says how to get the missing parts, or is None.
    """
    splits = {split: _split(dataset, root, split) for split in dataset.sizes}
    complete = all(found["images"] is not None for found in splits.values())
    return {
        "name": dataset.name,
        "classes": dataset.count,
        "license": dataset.license,
        "origin": dataset.origin,
        "mean": dataset.mean,
        "std": dataset.std,
        "statistics": dataset.statistics,
        "layout": {path: root is not None and (root / path).exists() for path in dataset.layout},
        "splits": splits,
        "get": None if complete else _how_to_get(dataset, root),
    }


def get(dataset: Dataset, root: Path | None) -> None:
    """Download, check and unpack a dataset. Raises ValueError, saying what to do, if the user has to get it by hand."""
    if dataset.get is None:
        raise ValueError(f"{dataset.name} cannot be downloaded by twoview: {_how_to_get(dataset, root)}")
    dataset.get(root)


def text(found: dict[str, Any]) -> str:
    """Return a dataset's `state` as lines of text."""
    classes = "" if found["classes"] is None else f"{found['classes']:,} classes; "
    lines = [f"{found['name']}: {classes}{found['origin']}; license: {found['license']}"]
    lines += [f"  {'found  ' if there else 'missing'} {path}" for path, there in found["layout"].items()]
    for split, one in found["splits"].items():
        published = "" if one["published"] is None else f" of {one['published']:,}"
        what = one["problem"] or f"{one['images']:,}{published} images, {one['source']}"
        lines.append(f"  {split}: {what}")
    if found["get"]:
        lines.append(f"  to get it: {found['get']}")
    return "\n".join(lines)


def _split(dataset: Dataset, root: Path | None, split: str) -> dict[str, Any]:
    """Return what was found for a split, or the problem that prevents reading it."""
    published = dataset.sizes[split]
    try:
        samples = dataset.read(root, split)
    except (OSError, ValueError, ImportError) as error:
        return {"images": None, "published": published, "source": None, "problem": str(error)}
    return {"images": len(samples), "published": published, "source": samples.source, "problem": None}


def _how_to_get(dataset: Dataset, root: Path | None) -> str:
    """Return a text that says how to get a dataset: manual steps first, then the command."""
    where = shlex.quote(str(root)) if root else "ROOT"
    steps = [dataset.by_hand.replace("ROOT", where)] if dataset.by_hand else []
    if dataset.get:
        steps.append(f"twoview data {dataset.name} --get --data-root {where}")
    return "; then ".join(steps) or "it comes with twoview's own packages"
