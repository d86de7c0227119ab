"""The peak counts from the moment of its request."""

import numpy as np
import torch
from torch import nn

from twoview.bench.measurement import memory
from twoview.bench.measurement.memory import Holdings, PeakMemory, bytes_of, held_by, host_mib, split


def test_the_peak_includes_freed_memory_and_restarts():
    before = PeakMemory()
    held = np.ones(200 * 2**20, np.uint8)
    peak = before.host_mib
    del held
    after = PeakMemory().host_mib
    assert peak > after + 150, "200 MiB were held, then freed"
    assert before.device_mib is None or before.device_reserved_mib >= before.device_mib >= 0


def test_a_peak_may_be_requested_before_the_gpu_is_used(monkeypatch):
    """torch refuses to reset the peaks of a GPU that this process has not used yet."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    peak = PeakMemory()
    assert peak.device_mib == peak.device_reserved_mib == 0


def test_without_a_resettable_peak_the_process_peak_is_used(monkeypatch, tmp_path):
    (tmp_path / "status").write_text("VmRSS:\t  2048 kB\n")
    (tmp_path / "clear_refs").mkdir()  # which cannot be written
    before = host_mib("VmHWM")
    monkeypatch.setattr(memory, "PROC", tmp_path)
    assert PeakMemory().host_mib >= before - 1 > 0 and host_mib("VmRSS") == 2


def test_the_memory_of_a_method_and_its_optimizer_is_counted():
    net = nn.Sequential(nn.Linear(10, 20, bias=False), nn.BatchNorm1d(20), nn.Linear(20, 5, bias=False))
    net[2].requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad])
    assert held_by(net, optimizer) == Holdings(weights=4 * 240, averages=4 * 100, buffers=4 * 40 + 8)
    net(torch.ones(3, 10)).sum().backward()
    optimizer.step()
    held = held_by(net, optimizer)
    assert held.gradients == 4 * 240
    assert held.optimizer == 2 * 4 * 240 + 3 * 4, "two moments a weight, and the step of each of three tensors"


def test_a_storage_counts_once():
    x = torch.zeros(100)
    assert bytes_of([x, x[:50], x.view(10, 10)]) == 400


def test_the_rest_of_the_peak_is_activations():
    held = Holdings(weights=100, gradients=100)
    whole = split(1000, held, [torch.zeros(100, dtype=torch.uint8)], [torch.zeros(100)])
    assert whole.activations == 300 and sum(whole) == 1000
