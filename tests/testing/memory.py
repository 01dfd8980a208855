"""How much memory this process took at most while something ran, libraries in C included."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 2**20
OWN = Path("/proc/self")


class Growth:
    """`bytes` beyond what there was before, at the highest point."""

    bytes = 0


@contextmanager
def growth() -> Iterator[Growth]:
    """Measure the peak of resident memory, which the kernel counts from here on (proc(5), clear_refs)."""
    found = Growth()
    gc.collect()
    (OWN / "clear_refs").write_text("5")
    before = _of("VmRSS")
    yield found
    found.bytes = _of("VmHWM") - before


def _of(name: str) -> int:
    lines = (OWN / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
