"""The views' Triton code for an H100, generated without one: the number of kernels per batch, and that they compile.

torch's compiler gets tensors that have the GPU's device and no values, and a GPU's properties when it asks for them. It
stops before loading the code. It caches these properties, so this runs in a separate process.
"""

import re
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.absent_gpu import GPU
from twoview.loaders.presets import PRESETS, preset
from twoview.loaders.render import Renderer
from twoview.loaders.resident import compiled

pytestmark = pytest.mark.skipif(not find_spec("triton"), reason="Triton is not here: it comes with torch for CUDA")

H100 = SimpleNamespace(
    name="NVIDIA H100",
    type="cuda",
    index=0,
    major=9,
    minor=0,
    warp_size=32,
    multi_processor_count=132,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    regs_per_multiprocessor=65536,
    shared_memory_per_block=48 * 2**10,
    shared_memory_per_block_optin=227 * 2**10,
    total_memory=80 * 2**30,
    L2_cache_size=50 * 2**20,
)


class Generated(Exception):
    pass


def pretend():
    """Make this process believe that it has an H100."""
    from torch._dynamo import device_interface
    from torch._inductor.runtime import triton_helpers
    from triton.backends.compiler import GPUTarget
    from triton.runtime.driver import driver

    class Interface(device_interface.CudaInterface):
        class Worker(device_interface.CudaInterface.Worker):
            current_device = staticmethod(lambda: 0)
            get_device_properties = staticmethod(lambda device=None: H100)

        current_device = staticmethod(lambda: 0)
        device_count = staticmethod(lambda: 1)
        get_compute_capability = staticmethod(lambda device=None: 90)
        get_device_properties = staticmethod(lambda device=None: H100)
        is_available = staticmethod(lambda: True)
        is_triton_capable = staticmethod(lambda device=None: True)
        raise_if_triton_unavailable = staticmethod(lambda device=None: None)

    device_interface.get_registered_device_interfaces()
    device_interface.register_interface_for_device("cuda", Interface)
    torch.cuda.get_device_properties = lambda device=None: H100
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    driver.set_active(SimpleNamespace(get_current_target=lambda: GPUTarget("cuda", 90, 32)))
    triton_helpers.set_driver_to_gpu = lambda: None


def generated(name, size, batch, images=50_000):
    """Return the code for a batch of these views of images of 32 pixels."""
    from torch._inductor import config
    from torch._inductor.graph import GraphLowering

    code = []

    def stop(graph):
        code.append(graph.codegen()[0].value)
        raise Generated

    with FakeTensorMode():
        renderer = Renderer(preset(name, size), 32, 32, GPU)
        drawn = torch.from_numpy(renderer.draw(np.arange(batch), 0, 0)).to(GPU)
        pixels = torch.empty(images, 32, 32, 3, dtype=torch.uint8, device=GPU)
        places = torch.empty(batch, dtype=torch.int64, device=GPU)
    with (
        mock.patch.object(GraphLowering, "compile_to_module", stop),
        config.patch(joint_graph_constant_folding=False),  # which is by computing them, on the GPU
        pytest.raises(Exception, match="Generated"),
    ):
        compiled(renderer)(pixels, places, drawn)
    return code[0]


def kernels(name, size, batch, assembled):
    """Return, for a batch: kernels, launches, other calls, and the kernels with machine code if requested."""
    from torch._inductor.codecache import PyCodeCache
    from torch._inductor.runtime.cache_dir_utils import triton_cache_dir
    from torch._inductor.utils import fresh_cache

    pretend()
    with fresh_cache():
        code = generated(name, size, batch)
        sources = re.findall(r"async_compile\.triton\('\w+', '''(.*?)'''", code, re.S)
        launches = len(re.findall(r"^ +triton_\w+\.run\(", code, re.M))
        others = re.findall(r"(?:extern_kernels|torch\.ops|aten)\.[\w.]+\(", code)
    made = 0
    for source in sources if assembled else ():
        with fresh_cache():
            module = PyCodeCache.load(source)
            [kernel] = [value for value in vars(module).values() if hasattr(value, "precompile")]
            kernel.precompile(warm_cache_only=True)
            files = list(Path(triton_cache_dir(0)).rglob("*.cubin"))
            made += bool(files) and all(".target sm_90" in f.with_suffix(".ptx").read_text() for f in files)
    return len(sources), launches, others, made


def in_fresh_process(*work):
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(kernels, *work).result()


@pytest.mark.long
def test_a_batch_of_simclrs_views_of_cifar_is_four_launches():
    """A launch takes the host a few microseconds in which it could launch the training step.

    All values between two kernels go through the GPU's memory. Without fusion, the same views take hundreds of
    launches.
    """
    made, launches, others, _ = in_fresh_process("simclr-cifar", 32, 512, False)
    assert 0 < made <= launches <= 4 and others == []


@pytest.mark.long
@pytest.mark.parametrize("name", PRESETS)
def test_every_presets_kernels_are_few_and_compile_to_machine_code(name):
    """Views with a blur take three more kernels, and each additional view size its own."""
    kinds = len({view.size for view in preset(name, 32)})
    made, launches, others, assembled = in_fresh_process(name, 32, 512, True)
    assert 0 < made == assembled <= launches <= 8 * kinds and others == []
