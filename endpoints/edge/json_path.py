"""JSONPath (RFC 9535) as far as it ends in time, whatever the path and whatever the document.

Paths are asked of every message or answer, in a loop that serves everybody. So the
functions `match` and `search` are left out, whose regular expressions may take for
ever, and one descendant segment (`..`) is allowed: each more would multiply the
work by the depth of the document.
"""

from functools import lru_cache

from jsonpath import CompoundJSONPath, JSONPath, JSONPathEnvironment, JSONPathError

__all__ = ["JSONPathError", "compile_path"]

_PATHS = JSONPathEnvironment(strict=True)
for _name in ("match", "search"):
    del _PATHS.function_extensions[_name]


@lru_cache(maxsize=1024)
def compile_path(text: str) -> JSONPath | CompoundJSONPath:
    """Return the compiled path; raises JSONPathError for what is none, or could take too long."""
    if text.count("..") > 1:
        raise JSONPathError("only one '..' is allowed")
    return _PATHS.compile(text)
