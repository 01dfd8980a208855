"""A log line is an event with fields and never a secret."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from controlplane import logs

LOGGER = "tests.written"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a logger of this test writes, formatted as in production."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=logs.renderers(as_json=True), foreign_pre_chain=logs.SHARED)
    )
    logger = logging.getLogger(LOGGER)
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


def test_production_logs_one_json_object_a_line(written: io.StringIO) -> None:
    """Ours and libraries' lines look alike."""
    structlog.get_logger(LOGGER).warning("delivery.dead", delivery_id="d1", attempts=3)
    logging.getLogger(LOGGER).error("it broke: %s", "here")

    ours, theirs = map(json.loads, written.getvalue().splitlines())
    assert (ours["event"], ours["delivery_id"], ours["level"]) == ("delivery.dead", "d1", "warning")
    assert (theirs["event"], theirs["logger"]) == ("it broke: here", LOGGER)


def test_secrets_are_masked_in_fields_and_sentences(written: io.StringIO) -> None:
    """By the name of the field, and by their look, also inside a traceback."""
    key = "cp_" + "0" * 32 + "_canary"
    structlog.get_logger(LOGGER).warning("call", authorization="canary", url="http://u:canary@h/")
    logging.getLogger(LOGGER).error("refused %s and Bearer canary", key)
    try:
        raise ValueError(f"no such key: {key}")
    except ValueError:
        structlog.get_logger(LOGGER).exception("broke")

    assert len(written.getvalue().splitlines()) == 3
    assert "canary" not in written.getvalue()
