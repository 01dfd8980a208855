"""What a test needs and this machine lacks: the test is skipped by name; with CI set that is a failure."""

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """End the test: `reason` names what is missing, and how to get it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def not_installed(what: str, package: str) -> NoReturn:
    """End the test for want of a program or module; see `missing`."""
    missing(f"{what}: not installed; run `make services`, or install {package}")
