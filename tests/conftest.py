import pytest
import torch

from diffusion_core.schedules import SCHEDULES

torch.set_num_threads(1)


@pytest.fixture(params=SCHEDULES)
def schedule(request):
    """Every schedule."""
    return SCHEDULES[request.param]()


@pytest.fixture(params=[name for name in SCHEDULES if name != "discrete"])
def smooth(request):
    """Every schedule with a smooth drift: that of `Discrete` jumps at each level, where orders of convergence end."""
    return SCHEDULES[request.param]()
