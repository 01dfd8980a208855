"""Peers that this project did not write: started as processes, skipped by name where their tool is missing."""
