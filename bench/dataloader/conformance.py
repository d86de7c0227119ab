"""The conformance card: every op of the loader beside torchvision and PIL, with the same parameters.

Three kinds of rows: pixels (each op on photographs and on noise), draws (the parameters beside torchvision's own, the
rates beside their probabilities) and views (the whole loader beside its plain twin, bit for bit). Seeds are fixed, so a
row says the same every time; with fresh seeds a row of draws would fail by chance once in a hundred times.
"""

# mypy: allow-untyped-calls

import io
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from rich.text import Text

from twoview.loaders import beton, datasets
from twoview.loaders.ops import blur, crop, flip, gray, jitter, resize, solarize
from twoview.loaders.presets import PRESETS, preset

SOURCES, SIZES = ("photographs", "noise"), (32, 224)
PICTURES = 7  # of each source; one crop of each photograph
BATCH = 4  # pictures of each source in the file that whole views are made of
SEED = 11

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
FACTORS = (0.0, 0.2, 0.7, 1.0, 1.3, 1.8)
TURNS = (-0.5, -0.2, -0.003, 0.0, 0.1, 0.33, 0.5)
SIGMAS = (0.1, 0.5, 1.0, 2.0)
THRESHOLDS = (0, 1, 128, 255, 256)

DRAWS, LEAST_P = 20_000, 0.01
STRENGTHS = (0.8, 0.4, 1.5, 0.2)  # beyond 1 the range of factors ends at 0
RATES = (0.1, 0.2, 0.5, 0.8)

Pixels = np.ndarray
Pairs = Iterator[tuple[Pixels, Pixels]]  # ours, theirs


@dataclass(frozen=True)
class Bound:
    """What is asked of the differences between pictures: a share of the values within some levels, and their mean."""

    levels: int
    share: float = 1.0
    mean: float = 255.0

    def __str__(self) -> str:
        within = f"within {self.levels}" if self.levels else "equal"
        return within if self.share == 1.0 else f"mean {self.mean:g}, {self.share:.1%} {within}"


@dataclass(frozen=True)
class Row:
    """One line of the card; what a row does not measure is None.

    kind: pixels, draws or views. n: pairs of pictures, or draws. mean, worst: differences in grey levels.
    within: share of the values that differ by no more than asked. p: the p-value of the test that `asked` names.
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
    """All rows, each as soon as it is measured."""
    yield from pixels()
    yield from draws()
    yield from views()


def pixels() -> Iterator[Row]:
    """Each op on photographs and on noise, at both sizes."""
    for check, (pairs, bound) in OPS.items():
        for size in SIZES:
            for source in SOURCES:
                yield _compared("pixels", check, source, size, pairs(source, size), bound)


def _compared(kind: str, check: str, source: str, size: int, pairs: Pairs, bound: Bound) -> Row:
    n, values, total, inside, worst = 0, 0, 0, 0, 0
    for ours, theirs in pairs:
        difference = np.abs(ours.astype(np.int16) - theirs)
        n, values, total = n + 1, values + difference.size, total + int(difference.sum())
        inside, worst = inside + int((difference <= bound.levels).sum()), max(worst, int(difference.max()))
    mean, within = total / values, inside / values
    passed = within >= bound.share and mean <= bound.mean
    return Row(kind, check, source, size, n, mean, within, worst, None, str(bound), passed)


@cache
def _pictures(source: str) -> list[Pixels]:
    """uint8 (H, W, 3), at least 300 pixels a side."""
    if source == "noise":
        generator = np.random.default_rng(SEED)
        return [generator.integers(0, 256, (300 + 9 * k, 400 - 13 * k, 3), np.uint8) for k in range(PICTURES)]
    jpegs = [datasets.dataset("photographs").find(None, "train").stored(k).content for k in range(PICTURES)]
    return [np.array(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs]


@cache
def _squares(source: str, size: int) -> list[Pixels]:
    """uint8 (size, size, 3): photographs reduced; noise cut out, since reduced noise is grey."""
    if source == "noise":
        return [np.ascontiguousarray(picture[:size, :size]) for picture in _pictures(source)]
    return [np.array(Image.fromarray(p).resize((size, size), Image.Resampling.LANCZOS)) for p in _pictures(source)]


def _after(kernel: Callable[..., None], picture: Pixels, *parameters: Any) -> Pixels:
    """A copy that the kernel has changed."""
    ours = picture.copy()
    kernel(ours, *parameters)
    return ours


def _resized_crop(source: str, size: int, bicubic: bool) -> Pairs:
    """Four boxes of each picture as they are drawn, the whole picture, and a small box that has to grow."""
    for sample, picture in enumerate(_pictures(source)):
        height, width, _ = picture.shape
        boxes = [crop.draw(height, width, *SCALE, *RATIO, SEED, 0, sample, view) for view in range(4)]
        for top, left, h, w in [*boxes, (0, 0, height, width), (40, 50, size // 2, size // 3)]:
            ours = np.empty((size, size, 3), np.uint8)
            scratch = np.empty(resize.scratch_bytes(h, w, size), np.uint8)
            resize.resize(picture, top, left, h, w, size, size, 0, 0, bicubic, False, ours, scratch)
            yield ours, resize.twin(picture, top, left, h, w, size, bicubic)


def _bilinear(source: str, size: int) -> Pairs:
    return _resized_crop(source, size, bicubic=False)


def _bicubic(source: str, size: int) -> Pairs:
    return _resized_crop(source, size, bicubic=True)


def _step(step: int, kernel: Callable[..., None], factors: tuple[float, ...], source: str, size: int) -> Pairs:
    """One step of the jitter by itself."""
    only = [float(k == step) for k in range(4)]
    for picture in _squares(source, size):
        for factor in factors:
            yield _after(kernel, picture, factor), jitter.twin(picture, only, [factor] * 4, (step,))


def _brightness(source: str, size: int) -> Pairs:
    return _step(jitter.BRIGHTNESS, jitter.brightness, FACTORS, source, size)


def _contrast(source: str, size: int) -> Pairs:
    return _step(jitter.CONTRAST, jitter.contrast, FACTORS, source, size)


def _saturation(source: str, size: int) -> Pairs:
    return _step(jitter.SATURATION, jitter.saturation, FACTORS, source, size)


def _hue(source: str, size: int) -> Pairs:
    return _step(jitter.HUE, jitter.hue, TURNS, source, size)


def _jitter(source: str, size: int) -> Pairs:
    """The four steps in each of their orders."""
    factors = (1.3, 0.7, 1.5, -0.13)
    for picture in _squares(source, size)[:2]:
        for order in permutations(range(4)):
            ours = _after(jitter.jitter, picture, STRENGTHS, factors, order)
            yield ours, jitter.twin(picture, STRENGTHS, factors, order)


def _grey(source: str, size: int) -> Pairs:
    return ((_after(gray.gray, picture), gray.twin(picture)) for picture in _squares(source, size))


def _flip(source: str, size: int) -> Pairs:
    return ((_after(flip.flip, picture), flip.twin(picture)) for picture in _squares(source, size))


def _solarize(source: str, size: int) -> Pairs:
    for picture in _squares(source, size):
        for threshold in THRESHOLDS:
            yield _after(solarize.solarize, picture, threshold), solarize.twin(picture, threshold)


def _blur(source: str, size: int) -> Pairs:
    """The kernel of SimCLR's ImageNet views at 224 pixels, at either size."""
    scratch = np.empty(blur.scratch_bytes(size, 23), np.uint8)
    for picture in _squares(source, size):
        for sigma in SIGMAS:
            yield _after(blur.blur, picture, 23, sigma, scratch), blur.twin(picture, 23, sigma)


_RESIZED = Bound(1, share=0.999, mean=0.1)
OPS: dict[str, tuple[Callable[[str, int], Pairs], Bound]] = {
    "resized crop, bilinear": (_bilinear, _RESIZED),
    "resized crop, bicubic": (_bicubic, _RESIZED),
    "flip": (_flip, Bound(1)),
    "brightness": (_brightness, Bound(1)),
    "contrast": (_contrast, Bound(1)),
    "saturation": (_saturation, Bound(1)),
    "hue": (_hue, Bound(2)),
    "jitter in every order": (_jitter, Bound(2)),
    "grey": (_grey, Bound(1)),
    "blur": (_blur, Bound(1)),
    "solarise": (_solarize, Bound(1)),
}


def draws() -> Iterator[Row]:
    """What the ops draw, beside what torchvision draws; and how often they are applied."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        for height, width in ((375, 500), (500, 333)):
            yield from _crop_draws(height, width)
        yield from _jitter_draws()
        yield from _sigma_draws()
    yield from _rates()


def _crop_draws(height: int, width: int) -> Iterator[Row]:
    ours = np.array([crop.draw(height, width, *SCALE, *RATIO, SEED, 0, sample, 0) for sample in range(DRAWS)])
    theirs = np.array([crop.twin(height, width, SCALE, RATIO) for _ in range(DRAWS)])
    measures: dict[str, Callable[[Pixels], Pixels]] = {
        "crop area": lambda box: box[:, 2] * box[:, 3],
        "crop aspect ratio": lambda box: box[:, 3] / box[:, 2],
        "crop top": lambda box: box[:, 0],
        "crop left": lambda box: box[:, 1],
    }
    for check, measure in measures.items():
        yield _same(check, f"{width} x {height} pixels", measure(ours), measure(theirs))


def _jitter_draws() -> Iterator[Row]:
    from torchvision.transforms import ColorJitter

    colour = ColorJitter(*STRENGTHS)
    ranges = (colour.brightness, colour.contrast, colour.saturation, colour.hue)
    theirs = [ColorJitter.get_params(*ranges) for _ in range(DRAWS)]
    ours = [jitter.draw(*STRENGTHS, 0.8, SEED, 0, sample, 0) for sample in range(DRAWS)]
    for k, check in enumerate(("brightness factor", "contrast factor", "saturation factor", "hue factor")):
        strength = f"strength {STRENGTHS[k]}"
        yield _same(check, strength, [factors[k] for _, factors, _ in ours], [drawn[k + 1] for drawn in theirs])
    orders = Counter(tuple(map(int, order)) for _, _, order in ours)
    observed = [orders[order] for order in permutations(range(4))]
    yield _as_likely("jitter order", "24 orders", observed, [DRAWS / 24] * 24, freedom=23)


def _sigma_draws() -> Iterator[Row]:
    from torchvision.transforms import GaussianBlur

    ours = [blur.draw(0.1, 2.0, 0.5, SEED, 0, sample, 0)[1] for sample in range(DRAWS)]
    yield _same("blur sigma", "0.1 .. 2 pixels", ours, [GaussianBlur.get_params(0.1, 2.0) for _ in range(DRAWS)])


def _rates() -> Iterator[Row]:
    """How often each op is applied, at four probabilities, each in an epoch of its own."""
    applied: dict[str, Callable[[float, int, int], bool]] = {
        "flip rate": lambda p, epoch, sample: flip.draw(p, SEED, epoch, sample, 0),
        "jitter rate": lambda p, epoch, sample: jitter.draw(*STRENGTHS, p, SEED, epoch, sample, 0)[0],
        "grey rate": lambda p, epoch, sample: gray.draw(p, SEED, epoch, sample, 0),
        "blur rate": lambda p, epoch, sample: blur.draw(0.1, 2.0, p, SEED, epoch, sample, 0)[0],
        "solarise rate": lambda p, epoch, sample: solarize.draw(p, SEED, epoch, sample, 0),
    }
    for check, draw in applied.items():
        observed, expected = [], []
        for epoch, p in enumerate(RATES):
            often = sum(draw(p, epoch, sample) for sample in range(DRAWS))
            observed += [often, DRAWS - often]
            expected += [p * DRAWS, (1 - p) * DRAWS]
        yield _as_likely(check, f"p = {', '.join(map(str, RATES))}", observed, expected, freedom=len(RATES))


def _same(check: str, source: str, ours: Any, theirs: Any) -> Row:
    from scipy import stats

    return _tested(check, source, len(ours), stats.ks_2samp(ours, theirs).pvalue, "KS against torchvision")


def _as_likely(check: str, source: str, observed: list[int], expected: list[float], freedom: int) -> Row:
    from scipy import stats

    p = stats.chisquare(observed, expected, ddof=len(observed) - 1 - freedom).pvalue
    return _tested(check, source, sum(observed), p, "chi-square")


def _tested(check: str, source: str, n: int, p: float, test: str) -> Row:
    asked = f"{test}, p > {LEAST_P}"
    return Row("draws", check, source, None, n, None, None, None, float(p), asked, bool(p > LEAST_P))


def views() -> Iterator[Row]:
    """The loader beside its plain twin for each preset, over two epochs of a file of JPEG photographs and raw noise."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "conformance.beton"
        for _ in beton.write(path, 2 * BATCH, _stored):
            pass
        opened = beton.open_beton(path)
        for name in PRESETS:
            for size in SIZES:
                yield _compared("views", name, "both", size, _view_pairs(opened, name, size), Bound(0))


def _stored(index: int) -> beton.Stored:
    """The photographs as JPEG files, then the noise raw."""
    if index < BATCH:
        return datasets.dataset("photographs").find(None, "train").stored(index)
    picture = _pictures("noise")[index - BATCH]
    height, width, _ = picture.shape
    return beton.Stored(beton.RAW, height, width, picture.tobytes(), 0)


def _view_pairs(opened: beton.Beton, name: str, size: int) -> Pairs:
    from twoview.loaders.loader import Loader
    from twoview.loaders.reference import Reference

    made, reference = preset(name, size), Reference(opened, preset(name, size), BATCH, seed=SEED)
    with Loader(opened, made, BATCH, seed=SEED, threads=2) as loader:
        for epoch in range(2):
            for ours, theirs in zip(loader.epoch(epoch), reference.epoch(epoch), strict=True):
                for view, twin in zip(ours.views, theirs.views, strict=True):
                    yield from zip(view.numpy(), twin.numpy(), strict=True)


COLUMNS = {
    "pixels": ("check", "size", "source", "n", "mean", "within", "worst", "asked", "passed"),
    "draws": ("check", "source", "n", "p", "asked", "passed"),
    "views": ("check", "size", "n", "within", "worst", "asked", "passed"),
}
TITLES = {
    "pixels": "Pixels beside torchvision's; differences in grey levels",
    "draws": "Parameters beside torchvision's",
    "views": "Whole views beside the plain twin's",
}


def show(rows: list[Row], console: Console) -> None:
    """Prints a table of each kind, and how many rows pass."""
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
