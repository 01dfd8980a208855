"""The lines of a system's Connect tab are run as they are shown, against a control plane that runs."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from endpoints.models import Endpoint, System
from messaging.services import connecting, snippets
from tests.stack import ROOT, Databases, Stack, wait_for


@pytest.fixture
def database_url(sqlite_databases: Databases) -> Any:
    """Yield a fresh database: lines that are shown are the same on either."""
    with sqlite_databases.fresh() as url:
        yield url


@pytest.fixture
def shell(stack: Stack, tmp_path: Path, settings: Any) -> Any:
    """Return what runs a line as a person would, with `controlplane` on the path."""
    settings.PUBLIC_URL = stack.url
    for slug in ("webshop", "depot"):
        stack.register(slug, system_fields={"accepts_from": ["*"]})
    command = tmp_path / "bin" / "controlplane"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(ROOT / "manage.py")])} "$@"\n')
    command.chmod(0o755)
    env = {**stack.env, "PATH": f"{command.parent}:{os.environ['PATH']}"}

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def lines(protocol: str) -> dict[str, str]:
    """Return the code that is shown for a system with an endpoint of `protocol`, by its title."""
    endpoint = Endpoint(protocol=protocol, interface="main")
    [reception] = connecting.receiving(System(slug="depot"), [endpoint])
    return {snippet.title: snippet.code for snippet in reception.snippets}


def test_a_system_that_fetches_is_registered_sent_to_and_fetched_for(stack: Stack, shell: Any, tmp_path: Path) -> None:
    """Register, send from another system by its own key, fetch and acknowledge: nothing of it is made up."""
    told = lines("pull")
    shell(told["Register pull"])
    (tmp_path / "order.xml").write_text("<order/>")
    [raw] = snippets.sending_raw(System(slug="depot"))
    shell(raw.code.replace("SOURCE", "webshop"))
    key, fetch, take, _ = told["curl"].split("\n\n")

    read = "import json; print(json.load(open('got.json'))['results'][0]['delivery_id'])"
    fetched = f'{fetch} > got.json\nID=$({sys.executable} -c "{read}")'
    told_of = shell(f"{key}\n{fetched}\n{take.replace('DELIVERY_ID', '$ID')}")
    assert '"state":"delivered"' in told_of
    assert stack.sql("SELECT m.payload FROM messaging_message m") == [(b"<order/>",)]


def test_python_of_the_tab_needs_nothing_else_and_delivers(stack: Stack, shell: Any) -> None:
    """One program sends, one fetches: both with the standard library alone."""
    told = lines("pull")
    shell(told["Register pull"])
    [curl, python, _] = snippets.sending(System(slug="webshop"))
    key = curl.code.partition("\n\n")[0]
    shell(f"{key}\n{sys.executable} -I -S - <<'END'\n{python.code.replace('TARGET', 'depot')}\nEND")

    once = told["Python"].replace("while True:", "for _ in range(1):")
    key = told["curl"].partition("\n\n")[0]
    assert shell(f"{key}\n{sys.executable} -I -S - <<'END'\n{once}\nEND") == "{'order': 4711}\n"
    assert stack.sql("SELECT state FROM messaging_delivery") == [("delivered",)]


def test_the_client_of_the_gateway_takes_what_is_due(stack: Stack, shell: Any) -> None:
    told = lines("gateway")
    shell(told["Register gateway"])
    [curl, *_] = snippets.sending(System(slug="webshop"))
    shell(curl.code.replace("TARGET", "depot"))
    program = told["Python (pip install websockets)"]

    shell(
        f"{told['Key']}\n{sys.executable} - > got.txt <<'END' &\n{program}\nEND\n"
        "for _ in $(seq 200); do test -s got.txt && break; sleep .1; done; sleep .5; kill %1; cat got.txt"
    )
    wait_for(lambda: stack.sql("SELECT state FROM messaging_delivery") == [("delivered",)], 10)


def test_an_address_is_registered_with_a_secret_that_is_there(stack: Stack, shell: Any) -> None:
    shell(lines("https")["Register the address"].replace("curl -X", "curl -f -X"))

    [endpoint] = stack.api("GET", "endpoints/?system=depot").json()["results"]
    assert endpoint["config"] == {"signing_credential": "depot-signing"}
