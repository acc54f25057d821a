"""What makes a GPU slow, found without one: launches of the fused kernel, and waits of the CPU for the device."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sfmts.kernels._sfm.gpu.layout import FUSED_LAUNCHES
from tests.test_kernels import make_case

VIEWS = {"permute", "slice", "view", "transpose", "select", "unbind", "unsqueeze", "_unsafe_view", "empty_like"}


class Launches(TorchDispatchMode):
    """Counts operations that would launch something on a GPU."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket.__name__ not in VIEWS
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("mode", "most"), [({"frequencies": "fixed"}, FUSED_LAUNCHES), ({"frequencies": "adaptive"}, 68)]
)
def test_launches_of_a_step_of_the_fused_kernel(mode, most):
    counts = []
    for steps in (20, 40):
        case = make_case(lengths=(steps,) * 3, dtype=torch.float32, **mode)
        with Launches() as launches:
            case.run("fused")[0].sum().backward()
        counts.append(launches.count)
    assert 0.8 * most < (counts[1] - counts[0]) / 20 <= most
