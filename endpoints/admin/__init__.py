"""The registry's pages: systems, endpoints, credentials, keys, people and the audit."""

from endpoints.admin import access, notices, registry, signing

__all__ = ["access", "notices", "registry", "signing"]
