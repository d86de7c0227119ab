"""Several processes train as one: under torchrun, with gloo on the CPU."""

import functools
import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
import numpy as np
import torch
from pathlib import Path
from twoview.loaders import masks
from twoview.loaders.samplers import share
from twoview.loaders.views import View
from twoview.methods import backbones, checkpoint, ranks
from twoview.methods.backbones import Backbone
from twoview.methods.normalize import Normalize
from twoview.methods.optim import Optim
from twoview.methods.pmsn import PMSN, PMSNOptions
from twoview.methods.simclr import SimCLR, SimCLROptions
from twoview.methods.trainer import Trainer
from twoview.methods.vit import ViT

torch.set_num_threads(1)
CPU = torch.device("cpu")

class Noise:
    "Four batches of 32 images, all views and masks of a method; every rank takes its share of the rows."

    def __init__(self, method):
        self.method = method

    def __len__(self):
        return 4

    def state_dict(self):
        return {"epoch": 0, "batches": 0}

    def load_state_dict(self, state):
        pass

    def epoch(self, epoch):
        for number in range(4):
            pixels = torch.Generator().manual_seed(10 * epoch + number)
            rows = share(32, 32 // ranks.world(), ranks.rank(), ranks.world(), True)[0]
            shapes = [(32, 3, view.size, view.size) for view in self.method.views]
            views = tuple(torch.randint(0, 256, s, generator=pixels).to(torch.uint8)[rows] for s in shapes)
            kept = tuple(torch.from_numpy(masks.draw(m, np.arange(32), 0, epoch))[rows] for m in self.method.masks)
            label = (torch.arange(32) % 3)[rows]
            yield type("Batch", (), {"views": views, "masks": kept, "label": label})()

def simclr():
    options = SimCLROptions(hidden=16, projection=8)
    return SimCLR(options, backbones.build(Backbone(width=8)), (View(16), View(16)), 3)

def pmsn():
    options = PMSNOptions(hidden=16, projection=8, prototypes=12, focal_views=2, patch_drop=0.5, sinkhorn=3,
                          prior="classes", momentum=0.9)
    return PMSN(options, ViT(16, 1, 2, patch=4, size=16), (View(16), View(16), View(8)), 3)

def main():
    found = {}
    for build, settings in ((simclr, Optim(lr=0.01)), (pmsn, Optim(lr=0.1, final_weight_decay=0.1, clip_norm=0.1))):
        torch.manual_seed(0)
        method = build()
        trainer = Trainer(method, settings, epochs=2, normalize=Normalize((0.5,) * 3, (0.25,) * 3), device=CPU,
                          precision="fp32", sync_batchnorm=True, accumulate=int(sys.argv[2]))
        trainer.fit(Noise(method), Path(sys.argv[1]), {})
        weights = torch.cat([p.detach().flatten() for p in method.state_dict().values()]).abs().sum().item()
        everyone = ranks.gather_objects(weights)
        found[build.__name__] = {"losses": trainer.history.losses, "weights": everyone}
    here = torch.get_rng_state()
    torch.manual_seed(99)
    trainer.resume(checkpoint.load(Path(sys.argv[1])))
    found["resumed"] = ranks.gather_objects(torch.equal(torch.get_rng_state(), here))
    found["drawn"] = ranks.gather_objects(torch.rand(()).item())  # as drop path draws
    if ranks.rank() == 0:
        print(json.dumps(found))

with ranks.process_group(CPU):
    main()
"""


@functools.cache
def train(path, ranks, accumulate=1):
    path.with_suffix(".py").write_text(PROGRAM)
    start = [sys.executable] if ranks == 1 else [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words = [*start, *([] if ranks == 1 else [f"--nproc-per-node={ranks}"]), str(path.with_suffix(".py")), str(path)]
    words.append(str(accumulate))
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


def test_two_ranks_train_as_one_process_on_the_joined_batch(folder):
    """Gathered embeddings, BatchNorm over both ranks, averaged gradients: the loss curve is the same within 1e-5.

    With PMSN, the ranks must also agree on the mean assignment, Sinkhorn, counted classes, separate prototypes and a
    clipped gradient.
    """
    one, two = train(folder / "one.pt", 1), train(folder / "two.pt", 2)
    for alone, joined in ((one[name], two[name]) for name in ("simclr", "pmsn")):
        assert len(joined["losses"]) == 8
        assert joined["losses"] == pytest.approx(alone["losses"], rel=1e-5, abs=1e-5)
        assert joined["weights"][0] == joined["weights"][1] == pytest.approx(alone["weights"][0], rel=1e-4)
    assert two["resumed"] == [True, True] and two["drawn"][0] != two["drawn"][1]
    assert two["drawn"][0] == one["drawn"][0], "the first rank draws as one process does"


@pytest.mark.long
def test_two_ranks_see_their_batches_in_parts(folder):
    """DDP reduces each gradient once, and synchronized BatchNorm runs again with the parts of both ranks.

    PMSN, which has BatchNorm only in its head, has the loss curve of the whole batch. SimCLR's encoder is normalized by
    the statistics of parts, which must be the same on both ranks.
    """
    one, parts = train(folder / "one.pt", 1), train(folder / "parts.pt", 2, accumulate=4)
    assert parts["pmsn"]["losses"] == pytest.approx(one["pmsn"]["losses"], rel=1e-5, abs=1e-5)
    assert parts["pmsn"]["weights"][0] == pytest.approx(one["pmsn"]["weights"][0], rel=1e-4)
    for name in ("simclr", "pmsn"):
        assert parts[name]["weights"][0] == parts[name]["weights"][1]
    assert parts["simclr"]["losses"] == pytest.approx(one["simclr"]["losses"], rel=0.1)
