"""How the C library treats freed memory, which takes up to a quarter of a small network's time on a CPU."""

import ctypes

# mallopt's numbers, from glibc's malloc.h, and what they are set to
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST, KEPT = 32 << 20, 1 << 30  # bytes; glibc allows no larger MMAP_THRESHOLD


def keep_freed_memory() -> bool:
    """Keep the memory of freed tensors for the next ones, up to 1 GB, instead of giving it back to the system.

    A network call allocates and frees hundreds of tensors of a megabyte. By default glibc takes each of them from the
    system, which hands out zeroed pages, one fault every 4 kB, and gives it back at once. To be called by a program as
    it starts, not by a library. Returns whether it was possible: elsewhere than on Linux with glibc it is not.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # Windows has no such handle, macOS and musl no such function
        return False
    return bool(mallopt(MMAP_THRESHOLD, LARGEST) and mallopt(TRIM_THRESHOLD, KEPT))
