"""Which kinds of steps there are: one row each."""

from functools import cache

from django.utils.module_loading import import_string

from testing.steps.base import StepAction

STEPS = {
    "http": "testing.steps.http.HttpStep",
    "graphql": "testing.steps.graphql.GraphqlStep",
    "message": "testing.steps.message.MessageStep",
    "dns": "testing.steps.dns.DnsStep",
    "tls": "testing.steps.tls.TlsStep",
    "websocket": "testing.steps.websocket.WebsocketStep",
    "tcp": "testing.steps.tcp.TcpStep",
    "udp": "testing.steps.udp.UdpStep",
    "stream": "testing.steps.stream.StreamStep",
    "probe": "testing.steps.probe.ProbeStep",
    "sql": "testing.steps.sql.SqlStep",
    "redis": "testing.steps.redis.RedisStep",
    "promql": "testing.steps.promql.PromqlStep",
    "grafana": "testing.steps.grafana.GrafanaStep",
    "openapi": "testing.steps.openapi.OpenapiStep",
    "python": "testing.steps.python.PythonStep",
    "call": "testing.steps.call.CallStep",
    "wait": "testing.steps.wait.WaitStep",
    "group": "testing.steps.group.GroupStep",
}


@cache
def step_class(kind: str) -> type[StepAction]:
    """Return the class of a kind that is in the table."""
    found: type[StepAction] = import_string(STEPS[kind])
    return found
