"""Figures and words that several parts of this app agree on."""

# Why the engine pauses an endpoint that answered 410; incidents know it by this.
GONE = "it answered that it is gone for good (410); see the dead letter"
# Why an incident opens; part of the outside interface.
CAUSES = ("breaker", "late", "dead", "gone", "dying", "silent")
