"""Features: what a frozen encoder makes of a data set, once, for every probe; in memory, or kept in files.

What is kept can be read by anyone: NAME.npy holds the features and NAME.labels.npy the labels, both for `numpy.load`
(bf16, which numpy has not, is there as the uint16 of its bits). A kept extraction that was killed goes on where it had
come to: rows are written to hidden files beside the final ones, and a mark is moved behind them once they are on the
disk. NAME.npy appears last, whole.
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from twoview.loaders.errors import reason
from twoview.loaders.files import whole_file
from twoview.methods.normalize import Normalize
from twoview.methods.precision import DTYPES, Precision, autocast
from twoview.methods.trainer import LoaderLike

STORED: dict[Precision, Any] = {"fp32": np.float32, "fp16": np.float16, "bf16": np.uint16}
MARK_SECONDS = 10.0  # of work that a kill may cost


class Features(NamedTuple):
    """x: (N, D) of the precision they were extracted in; label: int64 (N,). On the CPU, in the loader's order.

    Kept ones are copy-on-write memory maps: nothing is read before it is used, and the files never change.
    """

    x: Tensor
    label: Tensor


@dataclass(frozen=True)
class Kept:
    """Where features stay, named by all that they depend on, so that they are never taken for others.

    encoder: the `fingerprint` of encoder and normalization. samples: arrays with an entry a sample, in the loader's
    order, that say which these are: their numbers, and the checksums of their content where the file has them.

    How to use it, with a `Loader` of one view, unshuffled, that drops nothing:

        kept = Kept(folder, fingerprint(encoder, normalize), "cifar10", "train", 32, (indices, file.labels[indices]))
        features = extract(encoder, loader, normalize, device, advance, precision="bf16", kept=kept)
    """

    folder: Path
    encoder: str
    dataset: str
    split: str
    size: int
    samples: Sequence[np.ndarray]

    def path(self, precision: Precision) -> Path:
        content = hashlib.sha256()
        for array in self.samples:
            content.update(f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        what = f"{quote(self.dataset, safe=':')}-{self.split}-{self.size}px-{precision}"
        return self.folder / f"{what}-{self.encoder[:16]}-{content.hexdigest()[:16]}.npy"


def fingerprint(*modules: nn.Module) -> str:
    """SHA-256, in hex, of the modules' structure and of every parameter and buffer, the bits and their names."""
    content = hashlib.sha256()
    for module in modules:
        content.update(repr(module).encode())
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            content.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
            content.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


@torch.no_grad()
def extract(
    encode: Callable[[Tensor], Tensor],
    loader: LoaderLike,
    normalize: Normalize,
    device: torch.device,
    on_batch: Callable[[], None],
    *,
    precision: Precision = "fp32",
    kept: Kept | None = None,
) -> Features:
    """The features of all that the loader gives, computed under autocast to `precision` and stored in it.

    encode: float (B, 3, H, W) -> (B, D), in eval mode already. loader: of one view, without shuffling.
    on_batch: called after each batch, also for those that an earlier, killed extraction had done.
    kept: where the features stay; in memory alone by default. Extracted already, they are opened, and nothing is
    computed; two processes with the same features to extract wait for each other, and one of them works.
    OSError, naming the file, if the disk is full or what is kept is damaged.
    """

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for batch in loader.epoch(0):
            with autocast(device, precision):
                x = encode(normalize(batch.views[0].to(device)))
            yield x.flatten(1).to("cpu", DTYPES[precision]), batch.label.to("cpu")
            on_batch()

    if kept is None:
        rows, labels = zip(*batches(), strict=True)
        return Features(torch.cat(rows), torch.cat(labels))
    path = kept.path(precision)
    with _alone(path):
        if path.exists():
            for _ in range(len(loader)):
                on_batch()
        else:
            _write(path, batches, loader, on_batch, len(kept.samples[0]), precision)
    return load(path, precision)


def load(path: Path, precision: Precision) -> Features:
    """Opens kept features. OSError or ValueError, naming the file, if one is missing or damaged."""
    arrays = []
    for file in (path, _labels_of(path)):
        try:
            arrays.append(np.load(file, mmap_mode="c"))
        except ValueError as error:
            raise ValueError(f"{file} cannot be read as features: {reason(error)}") from None
    x, label = arrays
    if x.dtype != STORED[precision] or x.ndim != 2 or label.shape != x.shape[:1]:
        raise ValueError(f"{path} holds {x.dtype} {x.shape} with {label.shape} labels, not {precision} features")
    return Features(torch.from_numpy(x).view(DTYPES[precision]), torch.from_numpy(label))


def _write(
    path: Path,
    batches: Callable[[], Iterator[tuple[Tensor, Tensor]]],
    loader: LoaderLike,
    on_batch: Callable[[], None],
    count: int,
    precision: Precision,
) -> None:
    """Fills the hidden files, from the mark on if an earlier extraction left one, and gives them their names."""
    part, labels, mark = (path.with_name(f".{path.stem}.{kind}") for kind in ("part", "labels", "mark"))
    row = 0
    if done := _read_mark(mark, loader):
        row = done["rows"]
        for _ in range(done["loader"]["batches"]):
            on_batch()
        x, label = open_memmap(part, "r+"), open_memmap(labels, "r+")
    marked = time.monotonic()
    for rows, their_label in batches():
        end = row + len(rows)
        if end > count:
            raise ValueError(f"{path.name}: the loader gives more than the {count} samples that the features are of")
        if row == 0:
            x = _reserved(part, STORED[precision], (count, rows.shape[1]))
            label = _reserved(labels, np.int64, (count,))
        x[row:end] = rows.view(torch.uint16).numpy() if precision == "bf16" else rows.numpy()
        label[row:end] = their_label.numpy()
        row = end
        if time.monotonic() - marked >= MARK_SECONDS:
            x.flush()
            label.flush()
            with whole_file(mark) as file:
                file.write_text(json.dumps({"rows": row, "loader": loader.state_dict()}))
            marked = time.monotonic()
    if row < count:
        raise ValueError(f"{path.name}: the loader gives {row} samples, not the {count} that the features are of")
    x.flush()
    label.flush()
    mark.unlink(missing_ok=True)
    os.replace(labels, _labels_of(path))
    os.replace(part, path)


def _read_mark(mark: Path, loader: LoaderLike) -> dict[str, Any] | None:
    """How far an earlier extraction came, after the loader has been put there; None to begin anew."""
    try:
        done: dict[str, Any] = json.loads(mark.read_text())
        loader.load_state_dict(done["loader"])
    except (FileNotFoundError, ValueError):  # or one by other batches: their bits may differ
        mark.unlink(missing_ok=True)
        return None
    return done


def _reserved(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A new array in a file. Its room on the disk is taken now: a write to a map on a full disk would be a SIGBUS."""
    array = open_memmap(path, "w+", dtype, shape)
    with open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        except OSError as error:
            path.unlink()
            raise OSError(error.errno, error.strerror, str(path)) from None
    return array


def _labels_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}.labels.npy")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; a killed one's lock is released by the system. OSError, naming the lock, without locks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.stem}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise OSError(error.errno, f"its file system must have locks: {error.strerror}", lock.name) from None
        yield
