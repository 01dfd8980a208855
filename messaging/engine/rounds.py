"""What must be done every so often, whatever else goes on: one loop that looks after the time of each."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

EVERY_S = 0.25

Act = Callable[[], Awaitable[None]]


async def make_rounds(each: Callable[[float], Awaitable[None]], schedule: Sequence[tuple[float, Act]]) -> None:
    """Call `each` with the seconds since the last round, then what of `schedule` (seconds, act) is due; for ever."""
    last = dict.fromkeys(range(len(schedule)), float("-inf"))  # at once: what the last one left may be over
    before = time.monotonic()
    while True:
        await asyncio.sleep(EVERY_S)
        now = time.monotonic()
        await each(now - before)
        before = now
        for index, (every_s, act) in enumerate(schedule):
            if now - last[index] > every_s - EVERY_S / 2:  # the nearest time we pass here
                last[index] = now
                await act()
