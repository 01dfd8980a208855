"""Serve until Ctrl-C, whole or broken in stated ways."""

from examples.agent_events.server import AgentEventsServer
from examples.agent_events.switches import SWITCHES
from examples.serving import serve

if __name__ == "__main__":
    serve(AgentEventsServer, SWITCHES, "agent_events")
