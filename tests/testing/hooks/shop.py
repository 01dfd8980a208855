"""Hooks that do whatever their params say: pass, fail, raise, hang, print, connect."""

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import Any


class CaseHooks:
    """Judges `params["number"]`; `params["do"]` names what else happens while it executes."""

    async def setup(self, context: Any) -> bool:
        context.values["began"] = True
        return True

    async def execute(self, context: Any) -> bool:
        do = context.params.get("do", "nothing")
        return bool(await getattr(self, f"do_{do}")(context))

    async def validate(self, context: Any) -> bool:
        assert context.params.get("number", 1) < 100, "the number is too large"
        return context.params.get("number", 1) > 0

    async def cleanup(self, context: Any) -> bool:
        if mark := context.params.get("mark"):
            Path(mark).write_text("cleaned")  # noqa: ASYNC240
        return not context.params.get("dirty")

    async def do_nothing(self, context: Any) -> bool:
        context.values["system"] = context.systems.get("api")
        return True

    async def do_tell(self, context: Any) -> bool:
        print("printed", os.environ.get("SECRET_KEY"), os.environ.get("DATABASE_URL"), context.params["say"])
        context.values["environment"] = sorted(os.environ)
        return True

    async def do_raise(self, context: Any) -> bool:
        raise ConnectionResetError("the line broke")

    async def do_block(self, context: Any) -> bool:
        while True:
            time.sleep(1)  # noqa: ASYNC251  # as bad as it can be

    async def do_wait(self, context: Any) -> bool:
        await asyncio.sleep(600)
        return True

    async def do_connect(self, context: Any) -> bool:
        socket.create_connection((context.params["host"], context.params["port"]), timeout=5).close()
        return True

    async def do_exit(self, context: Any) -> bool:
        os._exit(3)
