import os
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from helpers import composed
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import content, json_values, printable, yaml_values


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain, täglich, 日本語, \u3000\u00a0", "plain, täglich, 日本語, \u3000\u00a0"),
        ("\x1b[31m\x00\x9b\x7f", r"\x1b[31m\x00\x9b\x7f"),
        ("a\nb\tc\rd\u2028e\x85f", r"a\nb\tc\rd\u2028e\x85f"),
        ("\u202egnp.exe\u200b", r"\u202egnp.exe\u200b"),
        (os.fsdecode(b"\xff"), r"\udcff"),
        (Path("a\x1b"), r"a\x1b"),
    ],
)
def test_what_is_no_sign_is_shown_as_an_escape(given: object, shown: str) -> None:
    assert printable(given) == shown
    assert printable(given).encode()
    assert printable(shown) == shown


def test_a_long_line_is_cut_off() -> None:
    assert (printable("abcdef", most=6), printable("abcdefg", most=6)) == ("abcdef", "abc...")


def test_yaml_is_read_as_omegaconf_reads_it(tmp_path: Path) -> None:
    texts = [
        "1e-3",
        "2026-01-01",
        "yes",
        "=",
        "<<",
        "1:30",
        "${oc.env:HOME}",
        "~",
        "0x10",
        "1_000",
        "",
        " a",
        "#",
        "null",
        ".nan",
    ]
    cfg = OmegaConf.merge(OmegaConf.create({"texts": texts, "numbers": [1e-9, 1e300, 10**20, -0.5, True, None]}), composed())
    OmegaConf.save(cfg, tmp_path / "config.yaml")
    plain = yaml_values(tmp_path / "config.yaml", 2**20)
    assert plain == OmegaConf.to_container(cfg, resolve=False)
    assert plain["texts"] == texts
    assert "${" in (tmp_path / "config.yaml").read_text()
    assert list(map(type, plain["numbers"])) == [float, float, int, float, bool, type(None)]


def test_a_file_may_be_as_large_as_allowed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"[123]")
    assert content(tmp_path / "file", 5) == b"[123]"
    assert json_values(tmp_path / "file", 5) == [123]
    with pytest.raises(UserError) as error:
        content(tmp_path / "file", 4)
    assert str(error.value) == f"{tmp_path}/file: larger than 4 bytes"
    with pytest.raises(UserError, match=r"/status: larger than 10 bytes$"):  # its size is said to be 0
        content(Path("/proc/self/status"), 10)


def test_messages_are_printable(tmp_path: Path) -> None:
    for read in (lambda path: content(path, 9), lambda path: yaml_values(path, 9), lambda path: json_values(path, 9)):
        with pytest.raises(UserError) as error:
            read(tmp_path / "a\x1b\nb")
        assert str(error.value) == rf"{tmp_path}/a\x1b\nb: No such file or directory"
