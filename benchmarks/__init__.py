"""Speeds that the product promises, each measured beside its limit in the same run: `make bench`."""
