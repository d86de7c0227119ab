"""The loader's reference implementation: the same batches, bit for bit, made in a plain loop that is easy to read.

It shares with the loader only what defines a batch: the order (`loaders/samplers.py`) and the random parameters (the
ops' `draw`). PIL decodes the images, and torchvision crops them and changes their colors. Only the blur is implemented
by hand, since the loader's blur differs from torchvision's (`smoothed` in `loaders/ops/blur.py`).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from twoview.loaders import masks as masking
from twoview.loaders.beton import RAW, Beton
from twoview.loaders.decode import view_table
from twoview.loaders.images import open_image
from twoview.loaders.loader import Batch
from twoview.loaders.masks import Mask
from twoview.loaders.ops import crop, flip, resize
from twoview.loaders.ops.op import Key
from twoview.loaders.samplers import sequential, share, shuffled
from twoview.loaders.views import OPS, View, checked, ops_of


class Reference:
    """Yields the same batches of views of a beton file (FFCV's format) as `twoview.loaders.loader.Loader`.

    It takes the same arguments as `Loader`.
    Raises ValueError if there are too few images for one batch. A damaged image raises the error of PIL or numpy.
    """

    def __init__(
        self,
        beton: Beton,
        views: Sequence[View],
        batch: int,
        *,
        masks: Sequence[Mask] = (),
        indices: np.ndarray | None = None,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = True,
    ) -> None:
        self.beton, self.views, self.batch, self.seed = beton, checked(views), batch, seed
        self.masks = masking.checked(masks, self.views)
        self.indices = sequential(len(beton)) if indices is None else np.asarray(indices, np.int64)
        self.shuffle, self.drop_last = shuffle, drop_last
        if len(self) == 0:
            raise ValueError(f"{beton.path}: {len(self.indices)} images do not fill one batch of {batch}")
        view_table(self.views)  # raises ValueError for views that cannot be made

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return len(self._places())

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        order = self.indices[shuffled(len(self.indices), self.seed, epoch)] if self.shuffle else self.indices
        for place in self._places():
            samples = order[place]
            images = [decode(self.beton, sample) for sample in samples]
            views = []
            for number, view in enumerate(self.views):
                keys = [(np.uint64(self.seed), epoch, int(sample), number) for sample in samples]
                cuts = [make(image, view, key) for image, key in zip(images, keys, strict=True)]
                views.append(torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2))
            masks = [torch.from_numpy(masking.draw(mask, samples, self.seed, epoch)) for mask in self.masks]
            label, index = torch.from_numpy(self.beton.labels[samples]), torch.from_numpy(samples)
            yield Batch(tuple(views), label, index, tuple(masks))

    def _places(self) -> list[slice]:
        return share(len(self.indices), self.batch, 0, 1, self.drop_last)


def decode(beton: Beton, sample: int) -> np.ndarray:
    """Return the whole decoded image of a sample, uint8 (H, W, 3)."""
    content = beton.content(sample)
    if beton.modes[sample] == RAW:
        return content.reshape(beton.heights[sample], beton.widths[sample], 3)
    return np.asarray(open_image(content.tobytes(), f"{beton.path}: sample {sample}").convert("RGB"))


def make(image: np.ndarray, view: View, key: Key) -> np.ndarray:
    """Return a view, uint8 (size, size, 3), of an image, uint8 (H, W, 3).

    key: (seed, epoch, sample, number of the view), which determines the random parameters, see `rng.py`.
    """
    height, width, _ = image.shape
    bicubic = view.interpolation == "bicubic"
    if view.scale is None and view.padding is None:
        out = crop.center_reference(image, view.resize, view.size, bicubic)
    elif view.scale is None:
        side = view.resize or view.size
        _, _, top, left = crop.padded(height, width, side, view.size, view.padding, *key)
        out = crop.padded_reference(image, side, view.size, view.padding, top, left, bicubic)
    else:
        top, left, box_height, box_width = crop.draw(height, width, *view.scale, *view.ratio, *key)
        out = resize.reference(image, top, left, box_height, box_width, view.size, bicubic)
    if flip.draw(view.flip, *key):
        out = flip.reference(out)
    for name, settings in ops_of(view).items():
        out = OPS[name].reference(out, settings, key)
    return out
