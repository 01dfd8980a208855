"""What is true of an observation: subjects, operators, and results that say expected, actual and where."""

from testing.assertions.judge import Assertion, Check, compile_assertion, judge
from testing.assertions.observation import MISSING, Missing, Observation

__all__ = ["MISSING", "Assertion", "Check", "Missing", "Observation", "compile_assertion", "judge"]
