"""Features: the outputs of a frozen encoder for a dataset, computed once for all probes, in memory or kept in files.

Kept features are ordinary numpy files: NAME.npy holds the features and NAME.labels.npy the labels, both readable with
`numpy.load` (numpy has no bf16, so bf16 features are stored as the uint16 of the same bits). A kept extraction that was
killed is resumed where it stopped: rows are written to hidden files next to the final ones, and a mark file says how
many of them are safely on the disk. NAME.npy gets its name last, once it is complete.
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

# The numpy dtype in which features of a precision are stored.
STORED: dict[Precision, Any] = {"fp32": np.float32, "fp16": np.float16, "bf16": np.uint16}
MARK_SECONDS = 10.0  # between two updates of the mark: about as much work as a kill can cost


class Features(NamedTuple):
    """Features and their labels, on the CPU, in the loader's order.

    x: (N, D), in the precision in which the features were extracted. label: int64 (N,).
    Kept features are copy-on-write memory maps: nothing is read before it is used, and the files never change.
    """

    x: Tensor
    label: Tensor


@dataclass(frozen=True)
class Kept:
    """Where features are kept. The file name contains all that they depend on, so they are never mistaken for others.

    encoder: the `fingerprint` of encoder and normalization. size: side of a view, in pixels. samples: arrays with one
    entry per sample, in the loader's order, that identify the samples: their numbers and labels, and the checksums of
    their content where the beton file has them.

    Usage, with a `Loader` of one view that neither shuffles nor drops the last batch:

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
        """Return the path of the features in this precision, whether or not the file exists yet."""
        content = hashlib.sha256()
        for array in self.samples:
            content.update(f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        what = f"{quote(self.dataset, safe=':')}-{self.split}-{self.size}px-{precision}"
        return self.folder / f"{what}-{self.encoder[:16]}-{content.hexdigest()[:16]}.npy"


def fingerprint(*modules: nn.Module) -> str:
    """Return the SHA-256, in hex, of the modules' structure and of the name and bits of each parameter and buffer."""
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
    """Return the features of all samples of the loader, computed under autocast to `precision` and stored in it.

    encode: maps float (B, 3, H, W) to (B, D), and is in eval mode already. loader: of one view, without shuffling.
    on_batch: called after each batch, also for the batches that an earlier, killed extraction had finished.
    kept: where the features are kept; by default they are in memory only. Features that were extracted before are
    opened, and nothing is computed. If two processes want the same features, one extracts them and the other waits.
    Raises OSError, naming the file, if the disk is full; ValueError or OSError, naming the file, if a kept file is
    damaged; and ValueError if the loader gives more or fewer samples than `kept` has.
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
    """Open kept features. Raises OSError or ValueError, naming the file, if one is missing or damaged."""
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
    """Extract into the hidden files, from the mark on if an earlier extraction left one, and rename them at the end.

    count: expected number of samples.
    """
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
            raise ValueError(f"{path.name}: the loader must give {count} samples, got more")
        if row == 0:
            x = _reserved(part, STORED[precision], (count, rows.shape[1]))
            label = _reserved(labels, np.int64, (count,))
        x[row:end] = rows.view(torch.uint16).numpy() if precision == "bf16" else rows.numpy()
        label[row:end] = their_label.numpy()
        row = end
        # The mark is written only after the rows before it are on the disk.
        if time.monotonic() - marked >= MARK_SECONDS:
            x.flush()
            label.flush()
            with whole_file(mark) as file:
                file.write_text(json.dumps({"rows": row, "loader": loader.state_dict()}))
            marked = time.monotonic()
    if row < count:
        raise ValueError(f"{path.name}: the loader must give {count} samples, got {row}")
    x.flush()
    label.flush()
    # The features get their final name last: where it exists, all of it and its labels are complete.
    mark.unlink(missing_ok=True)
    os.replace(labels, _labels_of(path))
    os.replace(part, path)


def _read_mark(mark: Path, loader: LoaderLike) -> dict[str, Any] | None:
    """Return how far an earlier extraction came and move the loader there; None if extraction must start anew."""
    try:
        done: dict[str, Any] = json.loads(mark.read_text())
        loader.load_state_dict(done["loader"])
    except (FileNotFoundError, ValueError):  # no mark, or one made with another batch size: its bits may differ
        mark.unlink(missing_ok=True)
        return None
    return done


def _reserved(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Create an array in a file and reserve its disk space now: writing to a memory map on a full disk is a SIGBUS."""
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
    """Let one process at a time into the block; the system releases a killed process's lock.

    Raises OSError, naming the lock file, if the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.stem}.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise OSError(error.errno, f"its file system must support locks: {error.strerror}", lock.name) from None
        yield
