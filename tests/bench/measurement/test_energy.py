"""Joules from a fake NVML and from fake RAPL files; None if there is nothing to read."""

from types import SimpleNamespace

import pytest
import torch

from twoview.bench.measurement import energy


class NVMLError(Exception):
    pass


def fake_nvml(millijoules: list[int], fails: str = "") -> SimpleNamespace:
    """A GPU named GPU-1 whose counter shows the numbers in turn; `fails` names the call that does not work."""

    def call(name, value):
        if name == fails:
            raise NVMLError(name)
        return value() if callable(value) else value

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: call("init", None),
        nvmlDeviceGetHandleByUUID=lambda uuid: call("uuid", {"GPU-1": "handle"}.__getitem__(uuid)),
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: call("energy", lambda: millijoules.pop(0)),
    )


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1"))
    return torch.device("cuda")


def test_joules_of_a_gpu_are_the_difference_of_its_counter(monkeypatch, gpu):
    monkeypatch.setattr(energy, "nvml", fake_nvml([5000, 5000, 7500, 9000]))
    meter = energy.Energy(gpu)
    assert meter.joules == 2.5 and meter.joules == 4.0


@pytest.mark.parametrize("fails", ["init", "uuid", "energy"])
def test_a_gpu_without_a_counter_has_no_joules(monkeypatch, gpu, fails):
    monkeypatch.setattr(energy, "nvml", fake_nvml([1, 2, 3], fails))
    assert energy.Energy(gpu).joules is None


def test_without_nvidia_ml_py_there_are_no_joules(monkeypatch, gpu):
    monkeypatch.setattr(energy, "nvml", None)
    assert energy.Energy(gpu).joules is None


def package(folder, number, microjoules):
    path = folder / f"intel-rapl:{number}"
    path.mkdir(exist_ok=True)
    (path / "name").write_text(f"package-{number}\n")
    (path / "max_energy_range_uj").write_text("9999999\n")
    (path / "energy_uj").write_text(f"{microjoules}\n")


def test_joules_of_all_packages_are_summed_across_a_counter_wrap(monkeypatch, tmp_path):
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    package(tmp_path, 0, 9_000_000)
    package(tmp_path, 1, 0)
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of package 0
    meter = energy.Energy(torch.device("cpu"))
    package(tmp_path, 0, 500_000)
    package(tmp_path, 1, 2_000_000)
    assert meter.joules == pytest.approx(1.5 + 2.0)


def test_without_rapl_there_are_no_joules(monkeypatch, tmp_path):
    monkeypatch.setattr(energy, "RAPL", tmp_path / "nowhere")
    assert energy.Energy(torch.device("cpu")).joules is None
