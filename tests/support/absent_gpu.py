"""What works without a GPU: tensors with its device and no values, its compilers, and a record of waits for it."""

from contextlib import contextmanager
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda")


@torch.no_grad()
def moved(mode, tensor):
    """A fake tensor on the GPU like the given one, inside the FakeTensorMode."""
    return mode.from_tensor(tensor).to(GPU)


class Watch(TorchDispatchMode):
    """Records copies in a FakeTensorMode, which itself refuses to read values on the GPU or shapes that depend on them.

    fetched: shapes of copies to the host, which waits for each. sent: shapes of copies to the GPU from page-locked
    memory, for which the host does not wait. waited: shapes of all other copies to the GPU. Values that are read on the
    host are 1.
    """

    def __init__(self):
        super().__init__()
        self.fetched, self.sent, self.waited, self._locked = [], [], [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if function is torch.ops.aten._pin_memory.default:
            self._locked.append(args[0].clone())
            return self._locked[-1]
        if function is torch.ops.aten._local_scalar_dense.default and given[0].device.type == "cpu":
            return 1
        out = function(*args, **kwargs)
        made = {leaf.device.type for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)}
        if "cpu" in made and any(tensor.device.type == "cuda" for tensor in given):
            self.fetched.append(tuple(out.shape))
        if "cuda" in made:
            copied = function in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
            for tensor in given:
                if tensor.device.type == "cpu" and (tensor.ndim or copied):
                    free = kwargs.get("non_blocking") and any(tensor is locked for locked in self._locked)
                    (self.sent if free else self.waited).append(tuple(tensor.shape))
        return out


@contextmanager
def scalar_inductor():
    """torch's compiler with an empty cache, and without the CPU's vector instructions, which it takes seconds to detect
    and which a GPU does not have.
    """
    from torch._inductor import config, cpu_vec_isa
    from torch._inductor.utils import fresh_cache

    with (
        fresh_cache(),
        config.patch(compile_threads=1),
        mock.patch.object(cpu_vec_isa, "valid_vec_isa_list", list),
    ):
        yield
