"""What of a GPU can be had without one: tensors with its device and no values, its compilers, and who waits for it."""

from contextlib import contextmanager
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda")


@torch.no_grad()
def moved(mode, tensor):
    """A tensor's like on the GPU, inside the FakeTensorMode."""
    return mode.from_tensor(tensor).to(GPU)


class Watch(TorchDispatchMode):
    """Inside a FakeTensorMode, which by itself refuses looks at values on the GPU and shapes that depend on them.

    fetched: shapes of what was copied to the host, which waits for each. sent: shapes of what was copied to the GPU
    from page-locked memory behind the host's back. waited: shapes of what was copied there in any other way.
    A look at a value on the host finds 1.
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
    """torch's compiler, keeping nothing and finding nothing that was kept, and without a processor's vectors: which of
    them there are takes it seconds to find out, and a thread of a GPU has none.
    """
    from torch._inductor import config, cpu_vec_isa
    from torch._inductor.utils import fresh_cache

    with (
        fresh_cache(),
        config.patch(compile_threads=1),
        mock.patch.object(cpu_vec_isa, "valid_vec_isa_list", list),
    ):
        yield
