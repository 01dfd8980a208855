"""Packs as such: listed with what they need, run as they come, installed as suites of one's own."""

import re
import socket
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from endpoints.access.principal import COMMAND
from examples.communication.server import CommunicationServer
from testing.document.reader import read_suite
from testing.models import Run, Suite
from testing.packs import PACKS
from testing.packs.documents import FOLDER, everything, find, written_for
from testing.services import runs
from tests.endpoints.conftest import Caller
from tests.endpoints.conftest import caller as caller  # a fixture
from tests.packs.doors import register_doors
from tests.packs.harness import RunPack, Served
from tests.servers.ports import free_port
from tests.testing.conftest import register

DOCS = Path(__file__).parents[2] / "docs" / "packs"


@pytest.mark.parametrize("name", sorted(PACKS))
def test_each_pack_says_what_it_needs(name: str) -> None:
    """Its suite is good, has its name and label, and its row tells of every system that it names."""
    found = find(name)

    assert found.suite.slug == name
    assert found.label in found.suite.labels
    assert set(found.suite.systems) == set(found.pack.targets)
    assert len({case.name for case in found.suite.cases}) >= found.suite.gate.min_cases > 0


@pytest.mark.parametrize("name", sorted(PACKS))
def test_each_pack_is_described(name: str) -> None:
    """Its page names every alias, every case and every variable, and the list of packs leads to it."""
    page = (DOCS / f"{name}.md").read_text()
    found = find(name)

    words = set(re.findall(r"`([^`\n]+)`", page))
    assert {*found.suite.systems, *found.suite.vars, *(case.name for case in found.suite.cases)} <= words
    assert f"({name}.md)" in (DOCS / "README.md").read_text()


@pytest.mark.parametrize("name", sorted(PACKS))
def test_each_case_of_a_pack_can_fail(name: str) -> None:
    """Its table says by what: a case that no row fails would show nothing."""
    table = import_module(f"tests.packs.test_{name.replace('-', '_')}").MUTATIONS

    assert {case for row in table for case in row.fails} == {case.name for case in find(name).suite.cases}


def test_no_folder_is_left_out_of_the_table() -> None:
    assert (
        {path.parent.name for path in FOLDER.glob("*/suite.yaml")} == set(PACKS) == {each.name for each in everything()}
    )


def test_only_what_was_asked_for_is_written_anew() -> None:
    """Systems and slug change; every other character stays."""
    found = find("communication")
    written = written_for(found, {"http": "shop/orders"}, "shop-talks")
    suite = read_suite(written)

    assert (suite.slug, suite.systems["http"]) == ("shop-talks", "shop/orders")
    before = found.suite.text.splitlines()
    changed = [(old, new) for old, new in zip(before, written.splitlines(), strict=True) if old != new]
    assert [new.replace("shop-talks", "communication") for _, new in changed[:1]] == [changed[0][0]]
    assert len(changed) == 2


def test_a_pack_that_misses_its_system_says_what_it_needs(run_pack: RunPack) -> None:
    done = run_pack("communication")

    assert done.code == 2
    assert "http: communication" in done.out
    assert "The pack needs http (http or https): GET /health answers 200" in done.out


def test_an_unknown_pack_names_the_nearest(run_pack: RunPack) -> None:
    done = run_pack("comunication")

    assert done.code == 2
    assert "did you mean 'communication'?" in done.out


def test_a_packs_name_alone_is_told_how_to_be_run(run_pack: RunPack) -> None:
    with pytest.raises(CommandError, match="there is a pack: pack:agent-events"):
        call_command("run_suite", "agent-events")


def test_a_pack_runs_against_another_system(run_pack: RunPack, admin: Caller) -> None:
    """`--system` puts one's own system in the place of the pack's; nothing is installed by that."""
    server = CommunicationServer(free_port(), tcp_port=free_port(), udp_port=free_port(socket.SOCK_DGRAM))
    with Served(server):
        register_doors(admin, "shop", server)
        doors = ("http=shop", "ws=shop/ws", "tcp=shop/tcp", "udp=shop/udp")
        done = run_pack("communication", *(f"--system={door}" for door in doors))

    assert (done.code, done.report["systems"]["http"]) == (0, "shop")
    assert not Suite.objects.exists()


def test_packs_over_rest(admin: Caller, caller: Callable[..., Caller]) -> None:
    """Listed, shown, run and installed; what is installed is the caller's suite, and listed with the pack."""
    register(admin, "shop", "http://127.0.0.1:9")
    listed = admin("GET", "packs/").json["results"]
    assert [each["name"] for each in listed] == sorted(PACKS)
    shown = admin("GET", "packs/communication/").json
    target = next(each for each in shown["targets"] if each["alias"] == "http")
    assert (target["system"], shown["text"]) == ("communication", find("communication").suite.text)
    assert (shown["installed"], "http-sends" in shown["cases"]) == ([], True)
    assert admin("GET", "packs/nothing/").status == 404

    systems = dict.fromkeys(find("communication").suite.systems, "shop")
    made = admin("POST", "packs/communication/install/", {"systems": systems, "slug": "shop-talks"})
    assert (made.status, made.json["slug"], made.json["version"]) == (201, "shop-talks", 1), made.body
    assert admin("POST", "packs/communication/install/", {"systems": systems, "slug": "shop-talks"}).status == 409
    assert admin("GET", "packs/communication/").json["installed"] == [{"slug": "shop-talks", "version": 1}]
    assert admin("GET", "suites/?label=pack:communication").json["results"][0]["slug"] == "shop-talks"
    assert admin("POST", "suites/shop-talks/run/", {}).status == 202

    started = admin("POST", "packs/communication/run/", {"systems": systems})
    assert (started.status, started.json["suite"]) == (202, "communication")
    assert runs.by_id(started.json["id"]).document.text == find("communication").suite.text


BAD = (
    ("install", {"systems": {"nobody": "shop"}}, 422),
    ("install", {"systems": {"http": "nowhere"}}, 422),
    ("install", {"systems": {"http": "shop}\nvars: {x"}}, 422),
    ("install", {"slug": "No Slug\n"}, 422),
    ("install", {"slug": 7, "x": 1}, 400),
    ("install", {"systems": []}, 400),
    ("run", {"systems": {"http": "nowhere"}}, 422),
    ("run", {"vars": {"nothing": 1}}, 422),
)


def test_packs_refuse_what_does_not_fit(admin: Caller, caller: Callable[..., Caller]) -> None:
    """With nothing made; and roles hold as they do for suites."""
    register(admin, "shop", "http://127.0.0.1:9")
    found = [admin("POST", f"packs/communication/{action}/", body).status for action, body, _ in BAD]

    assert found == [status for _, _, status in BAD]
    assert caller("operator")("POST", "packs/communication/install/", {}).status == 403
    assert caller("viewer")("POST", "packs/communication/run/", {}).status == 403
    assert caller("viewer")("GET", "packs/").status == 200
    assert not Suite.objects.exists()
    assert not Run.objects.exists()


def test_the_command_lists_shows_and_installs(admin: Caller, capsys: pytest.CaptureFixture[str]) -> None:
    register(admin, "communication", "http://127.0.0.1:9")
    for name in {name.partition("/")[0] for name in find("communication").suite.systems.values()} - {"communication"}:
        register(admin, name, "http://127.0.0.1:9")
    call_command("packs", "install", "communication", "--slug", "talks")
    call_command("packs", "list")
    call_command("packs", "show", "communication")
    said = capsys.readouterr().out

    assert "installed as suite 'talks'; run it: controlplane run_suite talks" in said
    assert "installed as talks" in said
    assert find("communication").suite.text in said
    with pytest.raises(CommandError, match="there is a suite 'talks' already"):
        call_command("packs", "install", "communication", "--slug", "talks")
    assert Suite.objects.get().versions.get().created_by == COMMAND.label
