"""Requests made of an OpenAPI document, and what may be wrong with their answers; no network."""
