"""The ways in which this server can be broken: each is one fault that such servers are known for."""

SWITCHES = {
    "down": "nothing listens",
    "forgets-to-finish": "agent_completed is never told",
    "thinks-silently": "agent_thinking is never told",
    "tells-backwards": "from the second tool on, tool_completed comes before its tool_executing",
    "mistakes-users": "who has the beginning of another user's name gets that user's events, too",
    "obeys-strangers": "any user can interrupt any run",
    "one-at-a-time": "an agent begins only when the one before it has completed",
    "mixes-agents": "with several at work, an event may carry the name of another agent",
    "cannot-stop": "an agent that is interrupted works on",
    "forgets-runs": "an agent that was interrupted cannot be resumed",
    "does-it-again": "an agent that is resumed runs the tools again that it had completed",
    "loses-while-away": "what happens while the user is not connected is not kept",
    "tells-twice": "who comes back gets everything again, from the first event on",
    "floods": "events are sent without credit",
    "stalls": "credit that is given later is not heard",
    "hides-failures": "a tool that failed is told as a success",
    "takes-offence": "a frame that is not understood closes the connection",
}
