"""Incidents: what is judged to be broken, and who is told of it."""
