"""A WebSocket server that tells what agents do, to try the `agent-events` pack against.

`python -m examples.agent_events [--port N] [--break SWITCH]`; the frames stand in docs/packs/agent-events.md.
"""
