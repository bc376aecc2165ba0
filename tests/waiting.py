"""What has the CPU wait for a device, seen without one."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Waiting(TorchDispatchMode):
    """What is called that has the CPU wait for a device, the meta device here."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        name = function.overloadpacket.__name__
        tensors = [value for value in tree_leaves((arguments, options)) if isinstance(value, torch.Tensor)]
        apart = name in ("_to_copy", "copy_") and options.get("device", tensors[0].device) != tensors[-1].device
        waits = apart and not (options.get("non_blocking") or arguments[2:3] == (True,))
        if waits or name in ("_local_scalar_dense", "nonzero", "equal", "_linalg_check_errors"):
            self.calls.append(name)
        return function(*arguments, **options)
