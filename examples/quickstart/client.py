"""The few calls the example makes to the control plane's REST API, with a key read from a file."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

TIMEOUT_S = 15


class Refused(Exception):
    """The control plane answered something other than 2xx."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:300]}")
        self.status = status


class Client:
    """Talks JSON to `<url>/api/v1/`; the key file is read each time, since the key may be renewed under us."""

    def __init__(self, url: str, key_file: Path) -> None:
        self._base = f"{url.rstrip('/')}/api/v1/"
        self._key_file = key_file
        self._session = aiohttp.ClientSession(trust_env=False)

    async def close(self) -> None:
        await self._session.close()

    async def get(self, path: str, timeout_s: float = TIMEOUT_S) -> Any:
        return await self._ask("GET", path, timeout_s=timeout_s)

    async def post(self, path: str, body: Any) -> Any:
        return await self._ask("POST", path, body)

    async def patch(self, path: str, body: Any) -> Any:
        return await self._ask("PATCH", path, body)

    @asynccontextmanager
    async def connect(self, system: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Yield a connection to the gateway, as `system`; raises OSError, ClientError."""
        url = self._base.removesuffix("api/v1/") + "ws/v1/gateway/"
        async with self._session.ws_connect(url, heartbeat=None) as socket:
            token = self._key_file.read_text().strip()
            await socket.send_json({"type": "auth", "token": token, "system": system})
            yield socket

    async def _ask(self, method: str, path: str, body: Any = None, timeout_s: float = TIMEOUT_S) -> Any:
        """Return the answer's JSON; raises Refused, or OSError when nobody answers."""
        headers = {"Authorization": f"Bearer {self._key_file.read_text().strip()}"}
        try:
            timeout = aiohttp.ClientTimeout(total=timeout_s)
            url = self._base + path
            async with self._session.request(method, url, json=body, headers=headers, timeout=timeout) as answer:
                if answer.status >= 300:
                    raise Refused(answer.status, await answer.text())
                return await answer.json()
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise OSError(f"no answer from the control plane: {exc}") from exc
