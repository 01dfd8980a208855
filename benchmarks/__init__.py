"""Speeds that the product promises, each measured beside its limit in the same run: `make bench`."""

import os

os.environ.setdefault("TEST_COLD_STARTS", "1")  # what is measured starts as users start it
