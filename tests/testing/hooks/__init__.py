"""Hooks as an operator writes them, for the tests of `python` steps."""
