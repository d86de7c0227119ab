"""W processes, each with a part of a batch, have the loss and the gradient of one process with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes
from torch.nn.parallel import DistributedDataParallel

from tests.support.definitions import CASES, prototypes
from twoview.methods.losses import log_sum
from twoview.methods.losses.balanced import class_means
from twoview.methods.losses.msn import msn, targets
from twoview.methods.losses.priors import power_law
from twoview.methods.ranks import mean_over_ranks

HERE = Path(__file__).parent
BATCH, WIDTH = 8, 6
WORLDS = (2, 4)


def whole_batch():
    torch.manual_seed(0)
    return (*torch.randn(2, BATCH, WIDTH, dtype=torch.float64), torch.arange(BATCH) % 3)


def projector():
    torch.manual_seed(1)
    return torch.nn.Linear(WIDTH, WIDTH, bias=False).double()


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Return the folder with the ranks' results. One process imports torch, and forks all of them."""
    folder = tmp_path_factory.mktemp("ranks")
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[2])}
    subprocess.run([sys.executable, __file__, str(folder)], env=alone, check=True)
    return folder


@pytest.fixture(scope="module", params=WORLDS)
def ranks(request, worlds):
    """Return every rank's results: name -> (loss, gradient of the weights)."""
    return [torch.load(worlds / f"{rank}-of-{request.param}.pt") for rank in range(request.param)]


@pytest.mark.parametrize("name", CASES)
def test_the_mean_of_the_ranks_is_the_loss_of_the_joined_batch(name, ranks):
    z1, z2, label = whole_batch()
    model = projector()
    loss = CASES[name].ours(model(z1), model(z2), label)
    loss.backward()
    assert torch.allclose(torch.stack([rank[name][0] for rank in ranks]).mean(), loss, rtol=1e-10)
    for rank in ranks:
        assert torch.allclose(rank[name][1], model.weight.grad, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["class_means", "tiled", "prototypes"])
def test_on_each_rank(name, ranks):
    """Class means over all ranks, the tiled path against gathered columns, and the gradient of MSN's prototypes."""
    assert all(rank[name] for rank in ranks)


def prototype_gradient(z1, z2):
    q = prototypes(z1).requires_grad_()
    target = targets(z2, q, power_law(len(q)), iterations=3)
    msn(z1[None], target, q, power_law(len(q)))["loss"].backward()
    return q.grad


def be_a_rank(rank, world, folder):
    torch.set_num_threads(1)
    whole = whole_batch()
    means = class_means(whole[0], whole[2])
    gradient = prototype_gradient(*whole[:2])
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting-of-{world}", world_size=world, rank=rank)
    part = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    z1, z2, label = (tensor[part] for tensor in whole)

    def step(name):
        model = DistributedDataParallel(projector())
        loss = CASES[name].ours(*model(torch.cat([z1, z2])).chunk(2), label)
        loss.backward()
        return loss.detach(), model.module.weight.grad

    found = {name: step(name) for name in CASES}
    found["class_means"] = torch.allclose(class_means(z1, label), means[part])
    found["prototypes"] = torch.allclose(mean_over_ranks(prototype_gradient(z1, z2)), gradient)
    log_sum.DENSE_PAIRS, log_sum.TILE_PAIRS = 0, 3 * 2 * BATCH
    found["tiled"] = all(map(torch.allclose, step("mixed_kernel"), found["mixed_kernel"]))
    torch.save(found, Path(folder) / f"{rank}-of-{world}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    for world in WORLDS:
        start_processes(be_a_rank, (world, sys.argv[1]), world, start_method="fork")
