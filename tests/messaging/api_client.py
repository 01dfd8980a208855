"""A caller of the REST API that insists on problems where something fails."""

from typing import Any

from django.test import Client


class Api:
    """A caller with one key: answers as (status, body); the body of an error must be a problem."""

    def __init__(self, key: str) -> None:
        self.client = Client(headers={"X-API-Key": key})

    def get(self, path: str, **query: Any) -> tuple[int, Any]:
        return self._answer(self.client.get(self._at(path), query))

    def post(self, path: str, data: Any = None) -> tuple[int, Any]:
        return self._answer(self.client.post(self._at(path), data, content_type="application/json"))

    def patch(self, path: str, data: Any) -> tuple[int, Any]:
        return self._answer(self.client.patch(self._at(path), data, content_type="application/json"))

    def delete(self, path: str) -> tuple[int, Any]:
        return self._answer(self.client.delete(self._at(path)))

    def results(self, path: str, **query: Any) -> list[Any]:
        status, body = self.get(path, **query)
        assert status == 200, body
        return list(body["results"])

    @staticmethod
    def _at(path: str) -> str:
        return path if path.startswith(("/", "http")) else f"/api/v1/{path}"

    @staticmethod
    def _answer(response: Any) -> tuple[int, Any]:
        if response.status_code < 400:
            is_json = response.headers.get("Content-Type") == "application/json"
            return response.status_code, response.json() if is_json else response.content.decode()
        assert response.headers["Content-Type"] == "application/problem+json"
        body = response.json()
        assert {"type", "title", "status", "code", "detail", "errors"} <= body.keys()
        assert body["status"] == response.status_code
        return response.status_code, body
