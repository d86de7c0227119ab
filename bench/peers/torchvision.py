"""torchvision: PIL decoding and torchvision's transforms in the worker processes of a torch DataLoader.

It decodes the beton file's own bytes, so that both sides read the same memory.
"""

import io
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision import transforms

from twoview.bench.peers.job import Job
from twoview.loaders.beton import JPEG, Beton, open_beton
from twoview.loaders.views import OPS, View


class Torchvision:
    """Contestant that loads with torchvision's transforms."""

    note = ""

    def __init__(self, job: Job) -> None:
        self.job = job

    def make(self) -> None:
        job = self.job
        self.loader = in_workers(job, [transform(view) for view in job.view_tuple()])

    def one_pass(self) -> Iterator[object]:
        yield from self.loader


def in_workers(
    job: Job, views: Sequence[Callable[[Image.Image], Tensor]], collate: Callable[..., object] = default_collate
) -> DataLoader[tuple[Tensor, ...]]:
    """Return a DataLoader that runs pipelines on PIL images in persistent worker processes with one thread each."""
    return DataLoader(
        Views(open_beton(job.beton), job.indices(), views),
        job.batch,
        shuffle=True,
        drop_last=True,
        num_workers=job.threads,
        collate_fn=collate,
        persistent_workers=True,
        worker_init_fn=one_thread,
    )


class Views(Dataset[tuple[Tensor, ...]]):
    """The dataset of the DataLoader. An item is all views of an image, one per pipeline, and its label."""

    def __init__(self, beton: Beton, indices: np.ndarray, views: Sequence[Callable[[Image.Image], Tensor]]) -> None:
        self.beton, self.indices, self.views = beton, indices, views

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Tensor, ...]:
        beton, index = self.beton, self.indices[position]
        content = beton.file[beton.pointers[index] : beton.pointers[index] + beton.sizes[index]]
        if beton.modes[index] == JPEG:
            image = Image.open(io.BytesIO(content.tobytes()), formats=["JPEG"]).convert("RGB")
        else:
            image = Image.fromarray(content.reshape(beton.heights[index], beton.widths[index], 3))
        return *(view(image) for view in self.views), torch.tensor(beton.labels[index])


def transform(view: View) -> transforms.Compose:
    """Return torchvision's pipeline for a view, from a PIL image to uint8 (3, size, size)."""
    mode = transforms.InterpolationMode(view.interpolation)
    steps: list[object]
    if view.scale is not None:
        steps = [transforms.RandomResizedCrop(view.size, view.scale, view.ratio, mode)]
    elif view.padding is None:
        steps = [transforms.Resize(view.resize, mode), transforms.CenterCrop(view.size)]
    else:
        steps = [transforms.Resize(view.resize or view.size, mode), transforms.RandomCrop(view.size, view.padding)]
    steps.append(transforms.RandomHorizontalFlip(view.flip))
    on_tensors = False  # whether the previous step returns a tensor; the first ones return PIL images
    for name, op in OPS.items():
        if (settings := getattr(view, name)) is None:
            continue
        if op.on_tensors != on_tensors:
            steps.append(transforms.PILToTensor() if op.on_tensors else transforms.ToPILImage())
            on_tensors = op.on_tensors
        steps.append(op.torchvision(settings))
    return transforms.Compose(steps if on_tensors else [*steps, transforms.PILToTensor()])


def one_thread(worker: int) -> None:
    """Limit torch to one thread in a worker process."""
    torch.set_num_threads(1)
