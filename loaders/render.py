"""Makes the views of a whole batch with torch on any device, for images of one size, with the pixels of `decode.py`.

The random parameters are drawn on the host by the ops' own `draw`, in one compiled call per batch, and are sent to the
device as one array. There each of its rows becomes a view, by arithmetic on whole tensors with fixed shapes, without a
loop over images and without a branch, so that `torch.compile` turns it into a few kernels.

On every device, the pixels equal the pixels of the CPU kernels bit for bit. This matters because contrast and
saturation enlarge a difference of one level. So nothing depends on how a compiler rounds: sums are of whole numbers, or
of products that are exact in float32, so that a fused multiply-add gives the same as two operations, and no division
has to be rounded correctly.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from twoview.loaders import decode
from twoview.loaders.kernels import kernel
from twoview.loaders.ops import crop, flip, resize
from twoview.loaders.ops.op import Op
from twoview.loaders.ops.taps import weigh_images
from twoview.loaders.views import OPS, View, ops_of

# The columns of the parameters that are drawn for a view, int32: the box that is cut out, the first output pixels of
# `Lines` to keep in y and x, and whether to flip. After them come the parameters of each op.
TOP, LEFT, BOX_HEIGHT, BOX_WIDTH, Y, X, FLIPPED, FIRST = range(8)


class Lines(NamedTuple):
    """The resize's tables for one direction: the input pixels of each output pixel of a line, and their weights.

    They cover boxes of all lengths from 1 to `longest` pixels, and equal the tables of the resize in `loaders/ops`.
    full: number of pixels that a box is resized to. starts: int64 (longest + 1, count), for each length, the first
    input pixel in the box for each of the `count` output pixels that may be kept.
    weights: int32 (longest + 1, count, taps), filled up with zeros for lengths that need fewer taps.
    """

    full: int
    starts: Tensor
    weights: Tensor


class Step(NamedTuple):
    """An op on views that are made together.

    run: changes the views, given them and the op's drawn parameters. begin, end: the columns of these parameters.
    """

    run: Callable[[Any, Tensor], Any]
    begin: int
    end: int


class Kind(NamedTuple):
    """Neighboring views, `first` .. `last` - 1, with the same size and interpolation, which are made together.

    columns, rows: the resize's tables along the rows and down the columns of an image.
    padded: whether the position of the kept output pixels is random. steps: the ops in groups of neighbors that work on
    the same layout, each with True for float planes per channel or False for uint8 images.
    """

    first: int
    last: int
    size: int
    columns: Lines
    rows: Lines
    padded: bool
    steps: list[tuple[bool, list[Step]]]


class Renderer:
    """Makes views of images of one size on a device. Raises ValueError, naming the view, if one cannot be made.

    views: the views to make. height, width: of every image, in pixels.
    """

    def __init__(self, views: Sequence[View], height: int, width: int, device: torch.device) -> None:
        self.height, self.width = height, width
        self.table = decode.view_table(views)
        # An op gets as many columns as the view that needs the most; `ends` has the column behind each op's last one.
        given = [ops_of(view) for view in views]
        widths = [max((op.columns(one[name]) for one in given if name in one), default=0) for name, op in OPS.items()]
        self.ends = FIRST + np.cumsum(widths)
        self.kinds = [
            self._kind([views[number] for number in run], run, device) for run in _resized_together(self.table)
        ]

    def draw(self, samples: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """Draw the random parameters of V views for the sample numbers, int64 (B,), as int32 (V, B, columns).

        They are the same as those that the loader draws.
        """
        return _draw(self.table, samples, np.uint64(seed), epoch, self.height, self.width, self.ends)

    def make(self, images: Tensor, places: Tensor, drawn: Tensor) -> tuple[Tensor, ...]:
        """Return the views of a batch, each uint8 (B, 3, size, size), in channels-last memory format.

        images: uint8 (N, H, W, 3), the whole dataset. places: int64 (B,), the positions of the batch's images. drawn:
        the parameters from `draw`.
        """
        return tuple(view for kind in self.kinds for view in self._views(kind, images, places, drawn))

    def _views(self, kind: Kind, images: Tensor, places: Tensor, drawn: Tensor) -> tuple[Tensor, ...]:
        """Return the views of one kind. See `make` for the arguments and the result."""
        drawn = drawn[kind.first : kind.last].flatten(0, 1)
        out = _resized(images, places.repeat(kind.last - kind.first), drawn, kind)
        for on_planes, steps in kind.steps:
            changed: Any = [plane.float() for plane in out.unbind(-1)] if on_planes else out
            for step in steps:
                changed = step.run(changed, drawn[:, step.begin : step.end])
            out = torch.stack(changed, -1).byte() if on_planes else changed
        return out.contiguous().unflatten(0, (kind.last - kind.first, -1)).permute(0, 1, 4, 2, 3).unbind()

    def _kind(self, views: Sequence[View], numbers: Sequence[int], device: torch.device) -> Kind:
        """Return what is needed to make these views together. numbers: their consecutive numbers among all views."""
        row = self.table[numbers[0]]
        size, bicubic = int(row[decode.SIZE]), bool(row[decode.BICUBIC])
        full_height, full_width, y, x, padding = size, size, 0, 0, int(row[decode.PADDING])
        kept_height, kept_width = size, size
        # Without padding, the output pixels that are kept are known; with it, they may be any of the padded image.
        if padding >= 0:
            full_height, full_width = crop.resized(self.height, self.width, int(row[decode.RESIZE]))
            y, x, kept_height, kept_width = -padding, -padding, full_height + 2 * padding, full_width + 2 * padding
        elif row[decode.SCALE_MAX] == 0:
            full_height, full_width, y, x = crop.center(self.height, self.width, int(row[decode.RESIZE]), size)
        columns = _lines(self.width, full_width, x, kept_width, bicubic, device)
        rows = _lines(self.height, full_height, y, kept_height, bicubic, device)
        steps: list[tuple[bool, Step]] = []
        for (name, op), begin, end in zip(OPS.items(), (FIRST, *self.ends), self.ends, strict=False):
            settings = [getattr(view, name) for view in views]
            if any(op.row(one)[-1] > 0 for one in settings):
                steps.append((op.on_planes, Step(op.on_device(settings, device), int(begin), int(end))))
        runs = [(on_planes, [step for _, step in run]) for on_planes, run in groupby(steps, lambda step: step[0])]
        return Kind(numbers[0], numbers[-1] + 1, size, columns, rows, padding >= 0, runs)


def _in_turn(ops: Sequence[tuple[str, Op]], number: int = 0) -> Any:
    """Return a kernel that draws the parameters of each op in turn and writes them to the op's columns.

    number: the position of the first of the ops among all ops. The kernel's `ends` says where each op's columns end.
    """
    if not ops:
        return kernel(lambda to, ends, row, seed, epoch, sample, view: None, kept=False, inline="always")
    (name, op), *others = ops
    drawn, rest, places = op.drawn, _in_turn(others, number + 1), decode.SETTINGS[name]
    first, last = places.start, places.stop

    @kernel(kept=False, inline="always")
    def run(to, ends, row, seed, epoch, sample, view):  # type: ignore[no-untyped-def]
        begin, end = ends[number - 1] if number else FIRST, ends[number]
        if begin < end:
            drawn(to[begin:end], row[first:last], int(row[decode.SIZE]), seed, epoch, sample, view)
        rest(to, ends, row, seed, epoch, sample, view)

    return run


_drawn = _in_turn(list(OPS.items()))


@kernel
def _draw(
    table: np.ndarray, samples: np.ndarray, seed: np.uint64, epoch: int, height: int, width: int, ends: np.ndarray
) -> np.ndarray:
    """Return the parameters of all views and samples, int32 (V, B, columns), in the columns named at the top.

    table: from `view_table`. height, width: of the images. ends: where each op's columns end.
    """
    out = np.zeros((table.shape[0], samples.size, ends[-1]), np.int32)
    for view in range(table.shape[0]):
        row = table[view]
        for i in range(samples.size):
            key, to = (seed, epoch, samples[i], view), out[view, i]
            if row[decode.SCALE_MAX] > 0:
                box = crop.draw(
                    height,
                    width,
                    row[decode.SCALE_MIN],
                    row[decode.SCALE_MAX],
                    row[decode.RATIO_MIN],
                    row[decode.RATIO_MAX],
                    *key,
                )
            else:
                box = (0, 0, height, width)
            if row[decode.PADDING] >= 0:
                _, _, y, x = decode.part(row, height, width, *key)
                to[Y], to[X] = y + int(row[decode.PADDING]), x + int(row[decode.PADDING])
            to[TOP], to[LEFT], to[BOX_HEIGHT], to[BOX_WIDTH] = box
            to[FLIPPED] = flip.draw(row[decode.FLIP_P], *key)
            _drawn(to, ends, row, seed, epoch, samples[i], view)
    return out


def _resized_together(table: np.ndarray) -> list[list[int]]:
    """Return the numbers of the views, in runs of neighbors that are resized in the same way."""
    resizing = table[:, [decode.SIZE, decode.BICUBIC, decode.RESIZE, decode.PADDING]].tolist()
    return [list(run) for _, run in groupby(range(len(table)), resizing.__getitem__)]


def _lines(longest: int, full: int, first: int, count: int, bicubic: bool, device: torch.device) -> Lines:
    """Return the tables of the output pixels `first` .. first + count of boxes of up to `longest` pixels."""
    made = [resize._taps(length, full, first, count, bicubic, False) for length in range(1, longest + 1)]
    starts = np.zeros((longest + 1, count), np.int64)
    weights = np.zeros((longest + 1, count, max(taps for _, _, taps in made)), np.int32)
    for length, (begin, weight, taps) in enumerate(made, 1):
        starts[length], weights[length, :, :taps] = begin, weight.reshape(count, taps)
    return Lines(full, torch.from_numpy(starts).to(device), torch.from_numpy(weights).to(device))


def _resized(images: Tensor, places: Tensor, drawn: Tensor, kind: Kind) -> Tensor:
    """Return the resized and flipped boxes, uint8 (B, size, size, 3).

    As in PIL there are two passes, each rounded to 8 bits, in PIL's order (see loaders/ops/resize.py).
    """
    _, height, width, _ = images.shape
    box_height, box_width = drawn[:, BOX_HEIGHT, None], drawn[:, BOX_WIDTH, None]
    each, to = (torch.arange(count, device=drawn.device) for count in (len(places), kind.size))
    mirrored = torch.where(drawn[:, FLIPPED, None] > 0, kind.size - 1 - to, to)
    if kind.padded:  # other views would add zeros here, which would cost an additional kernel
        mirrored, to = drawn[:, X, None] + mirrored, drawn[:, Y, None] + to
    along = 2, *_taken(kind.columns, drawn[:, LEFT, None], box_width, mirrored, width)
    down = 1, *_taken(kind.rows, drawn[:, TOP, None], box_height, to, height)
    # Along the rows first, then down the columns. PIL does the columns first where the height shrinks by more than
    # twice as many pixels as the width.
    along_first = weigh_images(weigh_images(images, places, *along), each, *down)
    if height <= kind.rows.full:
        return along_first
    down_first = weigh_images(weigh_images(images, places, *down), each, *along)
    shrinks = (box_height > kind.rows.full) & (box_height - kind.rows.full > 2 * (box_width - kind.columns.full))
    return torch.where(shrinks[..., None, None], down_first, along_first)


def _taken(lines: Lines, first: Tensor, length: Tensor, to: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Return (input pixels, weights), both (B, size, taps), for the output pixels `to` of boxes in a line of an image.

    first, length: (B, 1), where each box begins in its line, and its length. longest: the length of the line. The input
    pixels are positions in the line.
    """
    reach = torch.arange(lines.weights.shape[-1], device=to.device)
    places = (first + lines.starts[length, to])[..., None] + reach
    return places.clamp(max=longest - 1), lines.weights[length, to]  # weights past the line's end are zero
