"""W processes, each with its part of a batch, have the loss and the gradient of one process with the whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from definitions import CASES

HERE = Path(__file__).parent
BATCH, WIDTH = 8, 6


def whole_batch():
    torch.manual_seed(0)
    return (*torch.randn(2, BATCH, WIDTH, dtype=torch.float64), torch.arange(BATCH) % 3)


def projector():
    torch.manual_seed(1)
    return torch.nn.Linear(WIDTH, WIDTH, bias=False).double()


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    """What every rank found: name -> (loss, gradient of the weights)."""
    folder = tmp_path_factory.mktemp(f"{request.param}-ranks")
    command = [sys.executable, __file__, str(request.param), str(folder)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[2])}
    processes = [subprocess.Popen([*command, str(rank)], env=alone) for rank in range(request.param)]
    try:
        assert [process.wait(120) for process in processes] == [0] * request.param
    finally:
        for process in processes:
            process.kill()
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


@pytest.mark.parametrize("name", CASES)
def test_the_mean_of_the_ranks_is_the_loss_of_the_joined_batch(name, ranks):
    z1, z2, label = whole_batch()
    model = projector()
    loss = CASES[name].ours(model(z1), model(z2), label)
    loss.backward()
    assert torch.allclose(torch.stack([rank[name][0] for rank in ranks]).mean(), loss, rtol=1e-10)
    for rank in ranks:
        assert torch.allclose(rank[name][1], model.weight.grad, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["class_means", "tiled"])
def test_on_each_rank(name, ranks):
    """Class means over all ranks, and the tiled path against gathered columns."""
    assert all(rank[name] for rank in ranks)


def be_a_rank(world, folder, rank):
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    from methods.losses import log_sum
    from methods.losses.balanced import class_means
    from methods.losses.gather import gather

    torch.set_num_threads(1)
    whole = whole_batch()
    means = class_means(whole[0], whole[2])
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", world_size=world, rank=rank)
    part = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    z1, z2, label = (tensor[part] for tensor in whole)
    found = {}
    for name, case in CASES.items():
        model = DistributedDataParallel(projector())
        loss = case.ours(*model(torch.cat([z1, z2])).chunk(2), label)
        loss.backward()
        found[name] = loss.detach(), model.module.weight.grad
    found["class_means"] = torch.allclose(class_means(z1, label), means[part])
    assert torch.equal(gather(label), whole[2])
    log_sum.DENSE_PAIRS, log_sum.TILE_PAIRS = 0, 3 * 2 * BATCH
    model = DistributedDataParallel(projector())
    tiled = CASES["mixed_kernel"].ours(*model(torch.cat([z1, z2])).chunk(2), label)
    tiled.backward()
    dense = found["mixed_kernel"]
    found["tiled"] = torch.allclose(tiled, dense[0]) and torch.allclose(model.module.weight.grad, dense[1])
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    be_a_rank(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
