"""Several processes train as one: under torchrun, with gloo on the CPU."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
import torch
from pathlib import Path
from loaders.samplers import share
from loaders.views import View
from methods import backbones, ranks
from methods.backbones import Backbone
from methods.normalise import Normalise
from methods.optim import Optim
from methods.simclr import SimCLR, SimCLROptions
from methods.trainer import Trainer

torch.set_num_threads(1)
CPU = torch.device("cpu")

class Noise:
    "Four batches of 32 images, two views each; every rank takes its share of the rows."

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
            views = tuple(torch.randint(0, 256, (32, 3, 16, 16), generator=pixels).to(torch.uint8)[rows] for _ in "ab")
            label = torch.zeros(32, dtype=torch.int64)[rows]
            yield type("Batch", (), {"views": views, "masks": (), "label": label})()

with ranks.process_group(CPU):
    torch.manual_seed(0)
    encoder = backbones.build(Backbone(width=8))
    method = SimCLR(SimCLROptions(hidden=16, projection=8), encoder, (View(16), View(16)), 2)
    trainer = Trainer(method, Optim(lr=0.01), epochs=2, normalise=Normalise((0.5,) * 3, (0.25,) * 3), device=CPU,
                      precision="fp32", sync_batchnorm=True)
    trainer.fit(Noise(), Path(sys.argv[1]), {})
    weights = torch.cat([p.detach().flatten() for p in method.encoder.state_dict().values()]).sum().item()
    everyone = ranks.of_all_ranks(weights)
    if ranks.rank() == 0:
        print(json.dumps({"losses": trainer.history.losses, "weights": everyone}))
"""


def train(path, ranks):
    path.with_suffix(".py").write_text(PROGRAM)
    start = [sys.executable] if ranks == 1 else [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words = [*start, *([] if ranks == 1 else [f"--nproc-per-node={ranks}"]), str(path.with_suffix(".py")), str(path)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_two_ranks_train_as_one_process_on_the_joined_batch(tmp_path):
    """Gathered embeddings, BatchNorm over both ranks, averaged gradients: the loss curve is the same within 1e-5."""
    alone, joined = train(tmp_path / "one.pt", 1), train(tmp_path / "two.pt", 2)
    assert len(joined["losses"]) == 8
    assert joined["losses"] == pytest.approx(alone["losses"], abs=1e-5)
    assert joined["weights"][0] == joined["weights"][1] == pytest.approx(alone["weights"][0], rel=1e-4)
