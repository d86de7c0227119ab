"""Kept features: bit-equal however often the extraction was killed, and never confused with others."""

import os
import signal
import stat

import numpy as np
import pytest
import torch
from torch import nn

from twoview.loaders.loader import Batch
from twoview.methods.normalize import Normalize
from twoview.methods.probes import features as module
from twoview.methods.probes.features import Kept, extract, fingerprint, load

CPU = torch.device("cpu")
NORMALIZE = Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.2))


class Images:
    """A loader of 25 images in batches of 4 that can resume within an epoch, like `Loader`."""

    def __init__(self, batch=4):
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(0, 256, (25, 3, 4, 4), dtype=torch.uint8, generator=generator)
        self.batch, self.reached, self.given = batch, 0, []

    def __len__(self):
        return -(-25 // self.batch)

    def epoch(self, epoch):
        for number in range(self.reached, len(self)):
            index = torch.arange(number * self.batch, min(25, (number + 1) * self.batch))
            self.reached = number + 1
            self.given.append(number)
            yield Batch((self.pixels[index],), index % 3, index)

    def state_dict(self):
        return {"epoch": 0, "batches": self.reached, "batch": self.batch}

    def load_state_dict(self, state):
        if state["batch"] != self.batch:
            raise ValueError("another batch")
        self.reached = state["batches"]


@pytest.fixture(autouse=True)
def mark_after_every_batch(monkeypatch):
    monkeypatch.setattr(module, "MARK_SECONDS", 0)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten()).eval()


def kept_in(folder, encoder, **other):
    what = {"dataset": "digits", "split": "train", "size": 4, "samples": (np.arange(25),)} | other
    return Kept(folder, fingerprint(encoder, NORMALIZE), **what)


def run(encoder, loader, **options):
    calls = []
    found = extract(encoder, loader, NORMALIZE, CPU, lambda: calls.append(1), **options)
    assert len(calls) == len(loader)
    return found


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("fp16", torch.half), ("bf16", torch.bfloat16)]
)
def test_what_is_kept_is_what_memory_holds(tmp_path, encoder, precision, dtype):
    there = run(encoder, Images(), precision=precision)
    kept = kept_in(tmp_path, encoder)
    first = run(encoder, Images(), precision=precision, kept=kept)
    assert there.x.dtype == first.x.dtype == dtype and there.x.shape == (25, 20)
    assert (
        first.x.equal(there.x) and first.label.equal(there.label) and there.label.tolist() == [i % 3 for i in range(25)]
    )
    with torch.no_grad():
        plain = encoder(NORMALIZE(Images().pixels))
    assert torch.allclose(there.x.float(), plain, atol={"fp32": 1e-6, "fp16": 5e-3, "bf16": 4e-2}[precision])
    again = Images()
    assert run(encoder, again, precision=precision, kept=kept).x.equal(there.x) and again.given == []
    assert kept.path(precision).name in os.listdir(tmp_path)
    assert not [name for name in os.listdir(tmp_path) if name.endswith((".part", ".mark"))]


def test_a_killed_extraction_goes_on_to_the_same_bits(tmp_path, encoder, one_thread):
    """The process is killed by SIGKILL repeatedly, each time one batch later."""
    whole = run(encoder, Images())
    kept = kept_in(tmp_path, encoder)
    for deadly in range(2, 7):
        if (child := os.fork()) == 0:
            seen = []

            def dying(x, seen=seen):
                seen.append(1)
                if len(seen) == 2:  # a batch is done, its mark is written
                    os.kill(os.getpid(), signal.SIGKILL)
                return encoder(x)

            extract(dying, Images(), NORMALIZE, CPU, lambda: None, kept=kept)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and not kept.path("fp32").exists(), deadly
    rest = Images()
    found = run(encoder, rest, kept=kept)
    assert rest.given == [5, 6] and found.x.equal(whole.x) and found.label.equal(whole.label)


def test_an_extraction_by_other_batches_begins_anew(tmp_path, encoder):
    kept = kept_in(tmp_path, encoder)

    def failing(x):
        failing.left -= 1
        if not failing.left:
            raise KeyboardInterrupt
        return encoder(x)

    failing.left = 4
    with pytest.raises(KeyboardInterrupt):
        extract(failing, Images(), NORMALIZE, CPU, lambda: None, kept=kept)
    other = Images(batch=10)
    assert run(encoder, other, kept=kept).x.equal(run(encoder, Images(batch=10)).x) and other.given == [0, 1, 2]


def test_every_thing_they_depend_on_is_in_their_name(tmp_path, encoder):
    other = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Flatten()).eval()
    renormalized = Kept(
        tmp_path,
        fingerprint(encoder, Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.3))),
        "digits",
        "train",
        4,
        (np.arange(25),),
    )
    keys = [
        kept_in(tmp_path, encoder),
        kept_in(tmp_path, other),
        renormalized,
        kept_in(tmp_path, encoder, dataset="hf:some/digits"),
        kept_in(tmp_path, encoder, split="test"),
        kept_in(tmp_path, encoder, size=8),
        kept_in(tmp_path, encoder, samples=(np.arange(1, 26),)),
        kept_in(tmp_path, encoder, samples=(np.arange(25), np.ones(25, np.uint64))),
    ]
    names = [key.path(precision).name for key in keys for precision in ("fp32", "fp16", "bf16")]
    assert len(set(names)) == len(names) and not any("/" in name for name in names)
    with torch.no_grad():
        encoder[1].running_mean += 1e-6
    assert kept_in(tmp_path, encoder).path("fp32").name not in names, "a buffer counts too"
    assert fingerprint(nn.Sequential(nn.ReLU())) != fingerprint(nn.Sequential(nn.GELU())), "and so does the structure"


def test_the_files_are_numpys_and_are_not_changed_by_who_reads_them(tmp_path, encoder):
    kept = kept_in(tmp_path, encoder)
    found = run(encoder, Images(), precision="fp16", kept=kept)
    path = kept.path("fp16")
    before = path.read_bytes()
    found.x.zero_()
    assert path.read_bytes() == before and np.load(path).any() and np.load(path).dtype == np.float16
    assert np.load(path.with_name(path.stem + ".labels.npy")).tolist() == [i % 3 for i in range(25)]
    assert stat.S_ISREG(path.stat().st_mode)


def test_damage_and_wrong_numbers_are_named(tmp_path, encoder):
    for count, complaint in ((24, "must give 24 samples, got more"), (26, "must give 26 samples, got 25")):
        with pytest.raises(ValueError, match=complaint):
            run(encoder, Images(), kept=kept_in(tmp_path, encoder, samples=(np.arange(count),)))
    kept = kept_in(tmp_path, encoder)
    run(encoder, Images(), kept=kept)
    path = kept.path("fp32")
    with pytest.raises(ValueError, match=r"holds float32 .* not bf16 features"):
        load(path, "bf16")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="cannot be read as features"):
        load(path, "fp32")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.npy", "fp32")


def test_a_full_disk_is_named_before_the_first_row(tmp_path, encoder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as error:
        run(encoder, Images(), kept=kept_in(tmp_path, encoder))
    assert error.value.filename.endswith(".part")
