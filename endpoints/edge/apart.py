"""The one thread of a process for what would hold up its event loop: more would leave the loop too few turns."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

LONG = 16 * 1024  # bytes to look through, once for each that asks: longer is not for the loop
_thread = ThreadPoolExecutor(1, "apart")


async def apart(call: Callable[..., T], *arguments: object) -> T:
    """Return what `call`, which computes and asks nobody, returns; raises what it raises."""
    return await asyncio.get_running_loop().run_in_executor(_thread, call, *arguments)
