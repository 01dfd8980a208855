"""What a command cannot take is refused in one sentence that says what it takes, before anything happens."""

from pathlib import Path

import pytest
from django.core.management import CommandError, call_command


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("seed_history", "-5"), "use a whole number, 1 or more"),
        (("seed_history", "5", "--dead", "1001"), "use a whole number, from 0 to 1000"),
        (("seed_history", "5", "--days", "soon"), "use a whole number, 1 or more"),
        (("listen_tcp", "--port", "99999"), "use a whole number, from 0 to 65535"),
        (("listen_tcp", "--connections", "0"), "use a whole number, 1 or more"),
        (("listen_udp", "--port", "-1"), "use a whole number, from 0 to 65535"),
        (("up", "--port", "70000"), "use a whole number, from 1 to 65535"),
    ],
    ids=" ".join,
)
def test_a_number_out_of_its_bounds_is_told_them(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        call_command(*words)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff\n")
    return {"none": tmp_path / "none.yaml", "bytes": tmp_path / "bytes.yaml", "folder": tmp_path}


@pytest.mark.parametrize(
    ("words", "file", "told"),
    [
        (("draft_suite", "any", "--openapi"), "none", "none.yaml: No such file or directory"),
        (("draft_suite", "any", "--openapi"), "bytes", "bytes.yaml: it is no UTF-8 text (byte 4)"),
        (("apply",), "bytes", "bytes.yaml (line 1, column 4): not valid UTF-8"),
        (("import_results",), "none", "none.yaml: No such file or directory"),
        (("import_results",), "folder", ": Is a directory"),
    ],
    ids=str,
)
@pytest.mark.django_db
def test_a_file_that_cannot_be_read_is_named_once_with_the_reason(
    words: tuple[str, ...], file: str, told: str, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises((CommandError, SystemExit)) as refused:
        call_command(*words, str(files[file]))

    said = str(refused.value) + capsys.readouterr().err
    assert told in said
    assert said.count(files[file].name) == 1
    assert "Errno" not in said
