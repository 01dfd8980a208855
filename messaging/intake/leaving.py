"""Work for a caller who waits for its answer, and may hang up meanwhile."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from endpoints.errors import ControlPlaneError
from messaging.intake.bodies import ClientGone, Receive

Found = TypeVar("Found")


async def unless_gone(
    work: Coroutine[Any, Any, Found], receive: Receive, give_back: Callable[[Found], object] = lambda _: None
) -> Found:
    """Return what was found; raises ClientGone, with all of it given back, when the caller hung up before.

    The body must have been read: what still comes of it is thrown away.
    """
    doing, gone = asyncio.ensure_future(work), asyncio.ensure_future(_hung_up(receive))
    try:
        await asyncio.wait((doing, gone), return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            raise ClientGone
        return doing.result()
    except (ClientGone, asyncio.CancelledError):
        if doing.done() and not doing.cancelled() and doing.exception() is None:
            give_back(doing.result())
        raise
    finally:
        for task in (doing, gone):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, ControlPlaneError):
                await task


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
