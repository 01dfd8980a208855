"""The client that docs/protocols/gateway.md shows, as it stands there but for the address and the key."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.gateway_client import awaited, gateway_door, send
from tests.stack import Stack
from tests.warm import ROOT

pytestmark = pytest.mark.timeout(180)


def shown(stack: Stack, key: str) -> str:
    """Return the Python client of the document, for this stack."""
    text = (ROOT / "docs" / "protocols" / "gateway.md").read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    return code.replace("127.0.0.1:8000", f"127.0.0.1:{stack.port}").replace("cp_...", key)


@pytest.mark.parametrize("end", ["terminate", "kill"])
def test_the_client_of_the_document_comes_back_when_the_server_does(
    make_stack: Callable[..., Stack], tmp_path: Path, end: str
) -> None:
    """Whether the line was closed in order or broke: what is sent to it then is acknowledged, and asked is answered."""
    stack = make_stack()
    stack.start("web")
    stack.register("erp", "http://127.0.0.1:9")
    gateway_door(stack, "crm")
    program = tmp_path / "client.py"
    program.write_text(shown(stack, stack.key("operator", system="crm")))
    with (tmp_path / "said").open("w") as said:
        client = subprocess.Popen([sys.executable, "-u", program], stdout=said, stderr=subprocess.STDOUT)
    try:
        awaited(stack, send(stack, "crm"), state="delivered")
        getattr(stack, end)("web")
        stack.start("web")
        awaited(stack, send(stack, "crm", message_type="request"), state="delivered")
        assert client.poll() is None
    finally:
        client.kill()
        client.wait()

    text = (tmp_path / "said").read_text()
    assert [word for word in ("accepted", "duplicate") if f'"status": "{word}"' in text.replace("'", '"')] == [
        "accepted",
        "duplicate",
    ]
    assert "Traceback" not in text
