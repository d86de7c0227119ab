"""The conformance card: every op (augmentation) of the loader compared with torchvision and PIL at equal parameters.

It has three kinds of rows: pixels (each op on photographs and on noise), draws (random parameters compared with
torchvision's, and how often ops are applied with their probabilities) and views (the whole loader compared bit by bit
with its reference implementation, which is slow but easy to read). Seeds are fixed, so that every run gives the same
results. With new seeds, a row of draws would fail by chance in one of a hundred runs.
"""

# mypy: allow-untyped-calls

import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from twoview.loaders import beton, datasets
from twoview.loaders.ops import crop, flip, resize
from twoview.loaders.ops.op import Counted, Drawn, Images, Pairs, after
from twoview.loaders.presets import PRESETS, preset
from twoview.loaders.views import OPS

SOURCES, SIZES = ("photographs", "noise"), (32, 224)  # kinds of test images; sides of a view, in pixels
IMAGES = 7  # images of each source
BATCH = 4  # images of each source in the beton file from which whole views are made
SEED = 11

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of the random resized crop: its area and aspect ratio
DRAWS, LEAST_P = 20_000, 0.01  # draws of each parameter; the p-value above which a row of draws passes
RATES = (0.1, 0.2, 0.5, 0.8)  # probabilities with which each op is applied

Pixels = np.ndarray


@dataclass(frozen=True)
class Bound:
    """A bound on the differences between two images, in gray levels.

    At least `share` of the values must differ by at most `levels`, and the mean difference must be at most `mean`.
    """

    levels: int
    share: float = 1.0
    mean: float = 255.0

    def __str__(self) -> str:
        within = f"within {self.levels}" if self.levels else "equal"
        return within if self.share == 1.0 else f"mean {self.mean:g}, {self.share:.1%} {within}"


@dataclass(frozen=True)
class Row:
    """One line of the card; a value that the row does not measure is None.

    kind: pixels, draws or views. check: what is compared. source: the test images, or the setting of a draw. size:
    side of a view, in pixels. n: number of pairs of images, or of draws. mean, worst: mean and largest difference, in
    gray levels. within: share of the values whose difference is within the bound. p: the p-value of the test in
    `asked`. asked: the requirement in words. passed: whether it is met.
    """

    kind: str
    check: str
    source: str
    size: int | None
    n: int
    mean: float | None
    within: float | None
    worst: int | None
    p: float | None
    asked: str
    passed: bool

    def __str__(self) -> str:
        return f"{self.check} on {self.source}" + (f" at {self.size}" if self.size else "")


def card() -> Iterator[Row]:
    """Yield all rows, each as soon as it is measured."""
    yield from pixels()
    yield from draws()
    yield from views()


def pixels() -> Iterator[Row]:
    """Yield the rows of pixels: each op on photographs and on noise, at both sizes."""
    for check, (pairs, bound) in CHECKS.items():
        for size in SIZES:
            for source in SOURCES:
                yield _compared("pixels", check, source, size, pairs(source, size), bound)


def _compared(kind: str, check: str, source: str, size: int, pairs: Pairs, bound: Bound) -> Row:
    """Return the row for pairs of images, ours and the reference's, whose differences must be within the bound."""
    n, values, total, inside, worst = 0, 0, 0, 0, 0
    for ours, theirs in pairs:
        difference = np.abs(ours.astype(np.int16) - theirs)
        n, values, total = n + 1, values + difference.size, total + int(difference.sum())
        inside, worst = inside + int((difference <= bound.levels).sum()), max(worst, int(difference.max()))
    mean, within = total / values, inside / values
    passed = within >= bound.share and mean <= bound.mean
    return Row(kind, check, source, size, n, mean, within, worst, None, str(bound), passed)


@cache
def _images(source: str) -> list[Pixels]:
    """Return the test images of a source, uint8 (H, W, 3), each side at least 300 pixels."""
    if source == "noise":
        generator = np.random.default_rng(SEED)
        return [generator.integers(0, 256, (300 + 9 * k, 400 - 13 * k, 3), np.uint8) for k in range(IMAGES)]
    jpegs = [datasets.dataset("photographs").find(None, "train").stored(k).content for k in range(IMAGES)]
    return [np.array(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs]


@cache
def _squares(source: str, size: int) -> list[Pixels]:
    """Return square test images, uint8 (size, size, 3): resized photographs, or cropped noise.

    Noise is not resized, because it would turn gray.
    """
    if source == "noise":
        return [np.ascontiguousarray(image[:size, :size]) for image in _images(source)]
    return [np.array(Image.fromarray(p).resize((size, size), Image.Resampling.LANCZOS)) for p in _images(source)]


def _resized_crop(source: str, size: int, bicubic: bool) -> Pairs:
    """Yield our resized crop and the reference's: per image four random boxes, the whole, and a box to enlarge."""
    for sample, image in enumerate(_images(source)):
        height, width, _ = image.shape
        boxes = [crop.draw(height, width, *SCALE, *RATIO, SEED, 0, sample, view) for view in range(4)]
        for top, left, h, w in [*boxes, (0, 0, height, width), (40, 50, size // 2, size // 3)]:
            ours = np.empty((size, size, 3), np.uint8)
            scratch = np.empty(resize.scratch_bytes(h, w, size), np.uint8)
            resize.resize(image, top, left, h, w, size, size, 0, 0, bicubic, False, ours, scratch)
            yield ours, resize.reference(image, top, left, h, w, size, bicubic)


def _bilinear(source: str, size: int) -> Pairs:
    return _resized_crop(source, size, bicubic=False)


def _bicubic(source: str, size: int) -> Pairs:
    return _resized_crop(source, size, bicubic=True)


def _padded_crop(source: str, size: int) -> Pairs:
    """Yield our padded crop and the reference's, three per image, at random positions.

    For two of them, the image's shorter side is resized to the size of the view; for the third, to 1.5 times that size.
    """
    padding = size // 8
    for sample, image in enumerate(_images(source)):
        height, width, _ = image.shape
        scratch = np.empty(resize.scratch_bytes(height, width, size), np.uint8)
        for view, side in enumerate((size, size, size * 3 // 2)):
            *full, top, left = crop.padded(height, width, side, size, padding, SEED, 0, sample, view)
            ours = np.empty((size, size, 3), np.uint8)
            resize.resize(image, 0, 0, height, width, *full, top, left, False, False, ours, scratch)
            yield ours, crop.padded_reference(image, side, size, padding, top, left)


def _flip(source: str, size: int) -> Pairs:
    return ((after(flip.flip, image), flip.reference(image)) for image in _squares(source, size))


def _of_squares(pairs: Callable[[Images], Pairs], source: str, size: int) -> Pairs:
    """Return an op's own pairs of images, ours and the reference's, made from square test images."""
    return pairs(_squares(source, size))


_RESIZED = Bound(1, share=0.999, mean=0.1)
# Name of a check -> the function (source, size) that makes its pairs of images, and their bound.
CHECKS: dict[str, tuple[Callable[[str, int], Pairs], Bound]] = {
    "resized crop, bilinear": (_bilinear, _RESIZED),
    "resized crop, bicubic": (_bicubic, _RESIZED),
    "crop with padding": (_padded_crop, _RESIZED),
    "flip": (_flip, Bound(1)),
    **{
        check: (partial(_of_squares, pairs), Bound(levels))
        for op in OPS.values()
        for check, (pairs, levels) in op.pixels.items()
    },
}


def draws() -> Iterator[Row]:
    """Yield the rows of draws: parameters compared with torchvision's, and how often ops are applied."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        for height, width in ((375, 500), (500, 333)):
            yield from map(_tested, _crop_draws(height, width))
        for op in OPS.values():
            yield from map(_tested, op.draws(DRAWS, SEED))
        yield from map(_tested, _padded_crop_draws())
    yield from _rates()


def _crop_draws(height: int, width: int) -> Iterator[Drawn]:
    """Yield the draws of the random resized crop of images of this height and width."""
    ours = np.array([crop.draw(height, width, *SCALE, *RATIO, SEED, 0, sample, 0) for sample in range(DRAWS)])
    theirs = np.array([crop.reference(height, width, SCALE, RATIO) for _ in range(DRAWS)])
    measures: dict[str, Callable[[Pixels], Pixels]] = {
        "crop area": lambda box: box[:, 2] * box[:, 3],
        "crop aspect ratio": lambda box: box[:, 3] / box[:, 2],
        "crop top": lambda box: box[:, 0],
        "crop left": lambda box: box[:, 1],
    }
    for check, measure in measures.items():
        yield Drawn(check, f"{width} x {height} pixels", measure(ours).tolist(), measure(theirs).tolist())


def _padded_crop_draws() -> Iterator[Drawn]:
    """Yield the draws of the padded crop. The images are not square, so that top and left have different ranges."""
    from torchvision.transforms import RandomCrop

    height, width, size, padding = 32, 48, 32, 4
    padded = torch.empty(3, height + 2 * padding, width + 2 * padding)
    ours = [crop.padded(height, width, size, size, padding, SEED, 0, sample, 0)[2:] for sample in range(DRAWS)]
    theirs = [RandomCrop.get_params(padded, (size, size))[:2] for _ in range(DRAWS)]
    for k, check in enumerate(("padded crop top", "padded crop left")):
        yield Drawn(check, f"{width} x {height} pixels", [one[k] + padding for one in ours], [one[k] for one in theirs])


def _rates() -> Iterator[Row]:
    """Yield a row per op for how often it is applied, at four probabilities, each in a different epoch."""
    applied: dict[str, Callable[..., bool]] = {"flip": lambda p, *key: flip.draw(p, *key)}
    applied |= {op.name: op.applied for op in OPS.values()}
    for name, draw in applied.items():
        observed, expected = [], []
        for epoch, p in enumerate(RATES):
            often = sum(draw(p, SEED, epoch, sample, 0) for sample in range(DRAWS))
            observed += [often, DRAWS - often]
            expected += [p * DRAWS, (1 - p) * DRAWS]
        rates = Counted(f"{name} rate", f"p = {', '.join(map(str, RATES))}", observed, expected)
        yield _tested(rates, freedom=len(RATES))


def _tested(found: Drawn | Counted, freedom: int | None = None) -> Row:
    """Test draws against torchvision's, or counts against the expected counts; return the row.

    The test is the two-sample Kolmogorov-Smirnov test, or the chi-square test. freedom: the degrees of freedom of the
    latter, by default one less than the number of outcomes.
    """
    from scipy import stats

    if isinstance(found, Drawn):
        n, test = len(found.ours), "KS against torchvision"
        p = stats.ks_2samp(found.ours, found.theirs).pvalue
    else:
        n, test, most = sum(found.observed), "chi-square", len(found.observed) - 1
        p = stats.chisquare(found.observed, found.expected, ddof=0 if freedom is None else most - freedom).pvalue
    asked = f"{test}, p > {LEAST_P}"
    return Row("draws", found.check, found.source, None, n, None, None, None, float(p), asked, bool(p > LEAST_P))


def views() -> Iterator[Row]:
    """Yield the rows of views: the loader compared with its reference implementation, for each preset of views.

    Both read two epochs of a beton file of JPEG photographs and raw noise.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "conformance.beton"
        for _ in beton.write(path, 2 * BATCH, _stored):
            pass
        opened = beton.open_beton(path)
        for name in PRESETS:
            for size in SIZES:
                yield _compared("views", name, "both", size, _view_pairs(opened, name, size), Bound(0))


def _stored(index: int) -> beton.Stored:
    """Return a sample of the file for `views` by its number: first photographs as JPEG, then noise as raw pixels."""
    if index < BATCH:
        return datasets.dataset("photographs").find(None, "train").stored(index)
    image = _images("noise")[index - BATCH]
    height, width, _ = image.shape
    return beton.Stored(beton.RAW, height, width, image.tobytes(), 0)


def _view_pairs(opened: beton.Beton, name: str, size: int) -> Pairs:
    """Yield each view of the loader with the same view of the reference implementation."""
    from twoview.loaders.loader import Loader
    from twoview.loaders.reference import Reference

    made, reference = preset(name, size), Reference(opened, preset(name, size), BATCH, seed=SEED)
    with Loader(opened, made, BATCH, seed=SEED, threads=2) as loader:
        for epoch in range(2):
            for ours, theirs in zip(loader.epoch(epoch), reference.epoch(epoch), strict=True):
                for view, expected in zip(ours.views, theirs.views, strict=True):
                    yield from zip(view.numpy(), expected.numpy(), strict=True)


# The fields of a row that the table of each kind shows.
COLUMNS = {
    "pixels": ("check", "size", "source", "n", "mean", "within", "worst", "asked", "passed"),
    "draws": ("check", "source", "n", "p", "asked", "passed"),
    "views": ("check", "size", "n", "within", "worst", "asked", "passed"),
}
TITLES = {
    "pixels": "Pixels compared with torchvision's (differences in gray levels)",
    "draws": "Random parameters compared with torchvision's",
    "views": "Whole views compared with the reference implementation's (differences in gray levels)",
}


def show(rows: list[Row], console: Console) -> None:
    """Print a table for each kind of rows, and how many rows pass."""
    for kind, columns in COLUMNS.items():
        table = Table(title=Text(TITLES[kind]), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in columns:
            table.add_column(column, justify="left" if column in ("check", "source", "asked", "passed") else "right")
        for row in rows:
            if row.kind == kind:
                table.add_row(*(_text(getattr(row, column)) for column in columns))
        console.print(table)
        console.print()
    console.print(f"{sum(row.passed for row in rows)} of {len(rows)} rows pass")


def _text(value: Any) -> Text:
    if isinstance(value, bool):
        return Text("pass", "green") if value else Text("FAIL", "bold red")
    return Text(f"{value:,.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value))
