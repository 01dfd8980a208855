"""The complete report: everything that was kept of a run."""

from collections.abc import Mapping
from typing import Any

import orjson


def json_report(run: Mapping[str, Any]) -> bytes:
    """Return the run as indented JSON."""
    return orjson.dumps(run, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
