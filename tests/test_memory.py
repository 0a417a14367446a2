"""Freed memory is kept where the C library can, and refused politely where not."""

import ctypes
import platform
import subprocess
import sys

import pytest

from diffusion_core import memory

FAULTS = """
import resource, torch
from diffusion_core.memory import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
for k in range(101):
    if k == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    some = [torch.zeros(1 << 20) for _ in range(8)]  # 4 MB each, 1024 pages
    del some
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    """Page faults of a hundred rounds of eight tensors of 4 MB, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_the_pages_of_freed_tensors_are_used_again():
    assert faults(keep=True) < 8 * 1024  # what one round touches, a hundred times


@pytest.mark.parametrize("error", (OSError, TypeError, AttributeError))
def test_elsewhere_nothing_happens(monkeypatch, error):
    def absent(_):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", absent)
    assert memory.keep_freed_memory() is False
