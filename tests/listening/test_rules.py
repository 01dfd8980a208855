"""What a listener may be: refused over REST with the field at fault, within roles and teams, audited."""

from typing import Any

import pytest
from django.contrib.auth.models import Group

from endpoints.access.principal import COMMAND
from endpoints.models import AuditEntry, Credential, System
from endpoints.services import set_secret
from messaging.models import Listener
from tests.listening.certificates import Authority
from tests.messaging.api_client import Api
from tests.messaging.factories import make_key, make_system, make_team

pytestmark = pytest.mark.django_db
RAW: dict[str, Any] = {"kind": "tcp", "port": 9201, "envelope": "none", "system": "dev", "addresses": ["10.0.0.0/8"]}


@pytest.fixture
def admin() -> Api:
    make_system("dev")
    return Api(make_key("admin"))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no port": ({"kind": "tcp"}, "port"),
    "port 0": ({"kind": "tcp", "port": 0}, "port"),
    "port too high": ({"kind": "tcp", "port": 70000}, "port"),
    "our own port": ({"kind": "tcp", "port": 8000}, "port"),
    "a name for a host": ({"kind": "tcp", "port": 9201, "host": "localhost"}, "host"),
    "port of the built-in one": ({"kind": "tcp", "port": 9101}, "port"),
    "everywhere beside the built-in one": ({"kind": "tcp", "port": 9101, "host": "0.0.0.0"}, "host"),
    "unknown kind": ({"kind": "pigeon"}, "kind"),
    "a framing our envelope has not": ({"kind": "tcp", "port": 9201, "framing": "mllp"}, "framing"),
    "no size": ({**RAW, "framing": "fixed"}, "size"),
    "no delimiter": ({**RAW, "framing": "delimiter"}, "delimiter"),
    "a delimiter that is none": ({**RAW, "framing": "delimiter", "delimiter": "hex:0g"}, "delimiter"),
    "tls without a certificate": ({"kind": "tcp", "port": 9201, "tls": True}, "credential"),
    "names without an authority": ({**RAW, "certificates": ["x"]}, "certificates"),
    "nobody sends": ({**RAW, "system": None}, "system"),
    "an unknown system": ({**RAW, "system": "nobody"}, "system"),
    "from nowhere": ({**RAW, "addresses": []}, "addresses"),
    "no network": ({**RAW, "addresses": ["10.0.0.1/8"]}, "addresses"),
    "no list": ({**RAW, "addresses": "10.0.0.0/8"}, "addresses"),
    "IPv4 written as IPv6": ({**RAW, "addresses": ["::ffff:10.0.0.0/104"]}, "addresses"),
    "networks that overlap": ({**RAW, "addresses": ["10.0.0.0/8", "10.1.0.0/16"]}, "addresses"),
    "a system for our envelope": ({"kind": "tcp", "port": 9201, "system": "dev"}, "system"),
    "an unknown target": ({**RAW, "target": "nobody"}, "target"),
    "a target that is none": ({**RAW, "target": "No Body"}, "target"),
    "a content type that is none": ({**RAW, "content_type": "text"}, "content_type"),
    "an ack for our envelope": ({"kind": "tcp", "port": 9201, "ack": "text", "ack_text": "x"}, "ack"),
    "an ack of nothing": ({**RAW, "ack": "text"}, "ack_text"),
    "an HL7 ack in lines": ({**RAW, "ack": "mllp"}, "ack"),
    "fields of a port": ({**RAW, "fields": {"event_type": "payload.$.type"}}, "fields"),
    "a hook with a port": ({"kind": "hook", "system": "dev", "port": 1}, "port"),
    "a hook of nobody": ({"kind": "hook"}, "system"),
    "an unknown signature": ({"kind": "hook", "system": "dev", "signature": "seal"}, "signature"),
    "an unknown field": ({"kind": "hook", "system": "dev", "fields": {"payload": "payload.$"}}, "fields"),
    "a path that is none": ({"kind": "hook", "system": "dev", "fields": {"event_type": "payload.$["}}, "fields"),
    "a slug that is none": ({"slug": "No Slug", "kind": "hook", "system": "dev"}, "slug"),
    "something else": ({"kind": "hook", "system": "dev", "colour": "red"}, "colour"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_served_is_refused_at_its_field(admin: Api, kind: str) -> None:
    """400 that names the field; nothing is stored."""
    body, field = BAD[kind]
    count = Listener.objects.count()
    status, answer = admin.post("listeners/", {"slug": "new", **body})

    assert status == 400, answer
    assert field in {error["field"] for error in answer["errors"]}
    assert Listener.objects.count() == count


def test_listeners_are_made_changed_switched_and_deleted_and_each_is_audited(admin: Api) -> None:
    """The whole life of a row, as the API shows it."""
    status, made = admin.post("listeners/", {"slug": "lab", **RAW, "framing": "mllp", "ack": "mllp"})
    assert status == 201
    assert made["seen"]["state"] == "waiting"
    patched = admin.client.patch("/api/v1/listeners/lab/", {"target": "dev"}, content_type="application/json")
    assert patched.json()["target"] == "dev"
    assert admin.post("listeners/lab/disable/", {})[1]["seen"]["state"] == "disabled"
    assert admin.post("listeners/lab/enable/", {})[1]["enabled"] is True
    assert [row["slug"] for row in admin.results("listeners/", kind="tcp", enabled="true")] == ["lab"]
    assert admin.post("listeners/", {"slug": "lab", "kind": "hook", "system": "dev"})[0] == 409
    assert admin.client.delete("/api/v1/listeners/lab/").status_code == 204

    actions = AuditEntry.objects.filter(object_type="listener").order_by("at").values_list("action", flat=True)
    assert list(actions) == ["create", "update", "disable", "enable", "delete"]


def test_the_ways_in_of_the_contract_are_there_and_closed(admin: Api) -> None:
    """9101 and 9102 on loopback; somebody opens them who wants them open."""
    rows = {row["slug"]: row for row in admin.results("listeners/")}

    assert {(row["kind"], row["host"], row["port"], row["enabled"]) for row in rows.values()} == {
        ("tcp", "127.0.0.1", 9101, False),
        ("udp", "127.0.0.1", 9102, False),
    }


def test_rows_of_one_port_are_for_senders_of_their_own(admin: Api) -> None:
    """The same address and port is shared by networks that do not overlap, and by nothing read in another way."""
    make_system("other")
    assert admin.post("listeners/", {"slug": "a", **RAW})[0] == 201
    fine = {**RAW, "system": "other", "addresses": ["192.168.0.0/16"]}
    overlapping = {**fine, "addresses": ["10.9.0.0/16"]}
    assert admin.post("listeners/", {"slug": "b", **overlapping})[1]["errors"][0]["field"] == "addresses"
    assert admin.post("listeners/", {"slug": "b", **fine, "framing": "length"})[1]["errors"][0]["field"] == "framing"
    assert admin.post("listeners/", {"slug": "b", "kind": "tcp", "port": 9201})[1]["errors"][0]["field"] == "port"
    assert admin.post("listeners/", {"slug": "b", **fine})[0] == 201


def test_roles_and_teams_hold(admin: Api) -> None:
    """Viewers read, operators switch, editors change; rows of other teams are 404, everyone's are not theirs."""
    red, blue = make_team("red"), make_team("blue")
    make_system("reds", owner=red)
    assert admin.post("listeners/", {"slug": "reds-way", **RAW, "system": "reds"})[0] == 201
    editor, operator, viewer = (Api(make_key(role, team=red)) for role in ("editor", "operator", "viewer"))
    stranger = Api(make_key("editor", team=blue))

    assert viewer.get("listeners/reds-way/")[0] == 200
    assert viewer.post("listeners/reds-way/disable/", {})[0] == 403
    assert operator.post("listeners/reds-way/disable/", {})[0] == 200
    assert operator.post("listeners/", {"slug": "n", **RAW, "system": "reds"})[0] == 403
    assert stranger.get("listeners/reds-way/")[0] == 404
    assert stranger.post("listeners/reds-way/enable/", {})[0] == 404
    assert stranger.post("listeners/", {"slug": "n", **RAW, "port": 9301, "system": "reds"})[0] == 400
    assert editor.post("listeners/", {"slug": "n", "kind": "tcp", "port": 9301})[0] == 403
    assert editor.post("listeners/tcp/enable/", {})[0] == 403
    assert editor.post("listeners/", {"slug": "n", **RAW, "port": 9301, "system": "reds"})[0] == 201


def test_a_credential_must_be_of_the_kind_and_owner(admin: Api) -> None:
    """A server's certificate is of kind mtls, a hook's secret of kind hmac; another team's is not found."""
    authority = Authority()
    cert = authority.certificate("localhost")
    secrets: dict[str, tuple[str, dict[str, Any], Group | None]] = {
        "cert": ("mtls", {"cert": cert.cert, "key": cert.key}, None),
        "secret": ("hmac", {"secret": "s"}, None),
        "reds-secret": ("hmac", {"secret": "s"}, make_team("red")),
    }
    for name, (kind, data, owner) in secrets.items():
        set_secret(Credential(name=name, kind=kind, owner=owner), data, by=COMMAND)
    hook = {"slug": "hook", "kind": "hook", "system": "dev", "signature": "github"}

    assert (
        admin.post("listeners/", {"slug": "t", "kind": "tcp", "port": 9301, "tls": True, "credential": "secret"})[0]
        == 400
    )
    assert (
        admin.post("listeners/", {"slug": "t", "kind": "tcp", "port": 9301, "tls": True, "credential": "cert"})[0]
        == 201
    )
    assert admin.post("listeners/", {**hook, "credential": "cert"})[0] == 400
    assert admin.post("listeners/", {**hook, "credential": "reds-secret"})[0] == 400
    assert admin.post("listeners/", {**hook, "credential": "secret"})[0] == 201


def test_signing_keys_are_admins_and_of_their_team(admin: Api) -> None:
    """The secret is in one answer and in no other; a third living key is refused until one is revoked."""
    make_system("reds", owner=make_team("red"))
    status, made = admin.post("systems/reds/signing-keys/", {})
    assert status == 201
    assert made["secret"]
    assert all("secret" not in row for row in admin.results("systems/reds/signing-keys/"))
    assert admin.post("systems/reds/signing-keys/", {})[0] == 201
    assert admin.post("systems/reds/signing-keys/", {})[0] == 409
    assert admin.post(f"systems/reds/signing-keys/{made['id']}/revoke/", {})[1]["revoked_at"]
    assert admin.post("systems/reds/signing-keys/", {})[0] == 201
    assert Api(make_key("admin", team=make_team("blue"))).get("systems/reds/signing-keys/")[0] == 404
    assert Api(make_key("editor")).get("systems/reds/signing-keys/")[0] == 403
    assert System.objects.get(slug="reds").signing_keys.count() == 3


def test_signing_keys_of_a_system_that_is_nobodys_are_left_to_who_sees_all(admin: Api) -> None:
    """A team sees such a system, and neither makes its keys nor stops them."""
    make_system("nobodys")
    team = Api(make_key("admin", team=make_team("blue")))
    made = admin.post("systems/nobodys/signing-keys/", {})[1]
    revoke = f"systems/nobodys/signing-keys/{made['id']}/revoke/"

    assert team.post("systems/nobodys/signing-keys/", {})[0] == 403
    assert team.post(revoke, {})[0] == 403
    assert not System.objects.get(slug="nobodys").signing_keys.exclude(revoked_at=None).exists()
    assert admin.post(revoke, {})[1]["revoked_at"]
