"""Does the device compute the same as the CPU? Checks every loss, and every op that makes views on the device."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from twoview.bench.evidence import DeviceFigures, Figure
from twoview.bench.suites.gpu.scale import Context, Scale
from twoview.loaders import beton, presets
from twoview.loaders.datasets import bundled_photographs
from twoview.loaders.datasets.samples import samples_from_arrays
from twoview.loaders.loader import Loader
from twoview.loaders.resident import Resident
from twoview.methods.losses.example import Loss
from twoview.methods.registry import examples

# Relative tolerances of the loss, and of the norm of the gradients' difference, between float32 on the device and
# float64 on the CPU.
VALUE, GRADIENT = 1e-4, 1e-4
LEVELS = 1.0  # tolerance of a pixel, in levels of 255
# Together these presets have every op: bilinear and bicubic crops, resizing, flip, jitter, gray, blur and solarization.
PRESETS = ("simclr-cifar", "byol", "eval")
SIDE = 32  # side of the images and their views, in pixels


def losses(context: Context) -> Iterator[DeviceFigures]:
    """Compare value and gradients of every loss: float32 on the device with float64 on the CPU, for the same input."""
    scale = context.scale
    torch.set_float32_matmul_precision("highest")  # the error of TF32 exceeds the tolerance
    record = DeviceFigures(name="gpu-losses", device=scale.device, figures=[])
    for name, example in examples().items():
        there, there_gradient = _value_and_gradient(example.loss, scale, scale.where, torch.float32)
        here, here_gradient = _value_and_gradient(example.loss, scale, torch.device("cpu"), torch.float64)
        value = abs(there - here) / max(abs(here), 1e-12)
        gradient = float((there_gradient.double() - here_gradient).norm() / here_gradient.norm().clamp_min(1e-12))
        record = record.plus(
            Figure(work=name, quantity="loss_difference", samples=[value], tolerance=VALUE),
            Figure(work=name, quantity="gradient_difference", samples=[gradient], tolerance=GRADIENT),
        )
        yield record


def _value_and_gradient(loss: Loss, scale: Scale, device: torch.device, dtype: torch.dtype) -> tuple[float, Tensor]:
    """Return the loss of two related views, and the gradients of both, flat.

    The views are related as in training: the second is the first plus noise.
    """
    generator = torch.Generator().manual_seed(0)
    first, noise = torch.randn(2, scale.loss_batch, scale.loss_dim, generator=generator)
    label = (torch.arange(scale.loss_batch) % 10).to(device)
    z1, z2 = (z.to(device, dtype).requires_grad_() for z in (first, first + 0.5 * noise))
    value = loss(z1, z2, label)
    gradients = torch.autograd.grad(value, (z1, z2), allow_unused=True)  # MoCo's keys have no gradient
    return value.item(), torch.cat([g.flatten().cpu() for g in gradients if g is not None])


def views_name(preset: str) -> str:
    """Return the name of the record of a preset's views."""
    return f"gpu-views-{preset}"


def views(context: Context, preset: str) -> Iterator[DeviceFigures]:
    """Compare views made on the device with the loader's views, made on the CPU.

    The record has the largest difference of a pixel, in levels of 255, and the percentage of values that differ.
    """
    scale, wanted = context.scale, presets.preset(preset, SIDE)
    with tempfile.TemporaryDirectory() as temporary:
        file = images(Path(temporary, "images.beton"), scale.images)
        batch = max(1, scale.images // 4)
        with Resident(file, wanted, batch, device=scale.where) as ours, Loader(file, wanted, batch) as loader:
            pairs = list(zip(ours.epoch(0), loader.epoch(0), strict=True))
    off = torch.cat(
        [
            (there.cpu().int() - here.int()).abs().flatten()
            for one, other in pairs
            for there, here in zip(one.views, other.views, strict=True)
        ]
    )
    most, share = float(off.max()), float((off > 0).float().mean())
    figures = [
        Figure(work=preset, quantity="pixel_difference", samples=[most], tolerance=LEVELS),
        Figure(work=preset, quantity="differing_pixels", samples=[100 * share]),
    ]
    yield DeviceFigures(name=views_name(preset), device=scale.device, figures=figures)


def images(path: Path, count: int) -> beton.Beton:
    """Write a beton file of raw images: small squares cut out of the bundled photographs at fixed places."""
    photographs = [np.asarray(photograph) for photograph in bundled_photographs().values()]
    random = np.random.default_rng(0)

    def cut(number: int) -> np.ndarray:
        photograph = photographs[number % len(photographs)]
        top, left = (int(random.integers(side - SIDE)) for side in photograph.shape[:2])
        return photograph[top : top + SIDE, left : left + SIDE]

    samples = samples_from_arrays(
        np.stack([cut(number) for number in range(count)]), np.arange(count) % 10, "photographs"
    )
    for _ in beton.write(path, count, samples.stored):
        pass
    return beton.open_beton(path)
