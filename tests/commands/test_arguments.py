"""A text on the command line is taken as it stands."""

from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from helpers import PROJECT
from throughline.commands.arguments import for_hydra
from throughline.commands.compare import Compare
from throughline.commands.compose import load
from throughline.commands.generate import Generate
from throughline.config import Config

WORDS = [
    *("größe.txt", "数据.txt", "bob's.txt", "c#/a.txt", "my text (1).txt", "lr=0.1,run.txt", "a\\b", "a\\'b", "a\\", "'"),
    *("''", '"x"', "${x}", "\\${x}", "a${oc.env:HOME}", "123", "true", "1e5", "[a", " lead", "trail ", "{a}", "a:b", "a,b"),
    *("null2", "nul\n", "@x", "*", "?", "!", "%", "a=b=c", "\t", "`", "|", "<>", "\u00e9\u202e", "choice(a)", "a\\\\'b"),
    *(
        "x\\\\",
        "\\$x",
        "'${x}'",
        "-m",
        "~x",
        "+a",
        "range(1,3)",
        "glob(*)",
        "None",
        "0x10",
        "a;b",
        "a&b",
        "(a)",
        "a]",
        "seed=1",
    ),
]


def read(name: str, cls: type[Any], *arguments: str) -> Any:
    overrides = for_hydra(list(arguments), cls)
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return load(compose(name, overrides=overrides), cls)


@pytest.mark.parametrize("word", WORDS)
def test_a_path_a_name_and_a_prompt_are_taken_as_they_stand(word: str) -> None:
    assert read("generate", Generate, f"checkpoint={word}").checkpoint == word
    config = read("train", Config, "data=events", f"data.path={word}", f"data.column={word}", f"logger.group={word}")
    assert (config.data.path, config.data.column, config.logger.group) == (word, word, word)


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("\\n", "\n"),
        ("a\\tb", "a\tb"),
        ("\\\\n", "\\n"),
        ("\\x41\\u4e2d", "A\u4e2d"),
        ("\\d+", "\\d+"),
        ("\\", "\\"),
        ('it\'s "so"', 'it\'s "so"'),
        ("for (int i = 0; i < n; ++i) {", "for (int i = 0; i < n; ++i) {"),
        ("null ", "null "),
    ],
)
def test_escapes_in_a_prompt_and_a_separator_mean_what_they_say(typed: str, text: str) -> None:
    assert read("generate", Generate, "checkpoint=x", f"prompt={typed}").prompt == text
    config = read("train", Config, "data=text", "data.path=x", f"data.separator={typed}")
    assert config.data.separator == text


def test_null_and_lists_are_read_by_hydra() -> None:
    assert read("generate", Generate, "checkpoint=x", "prompt=null").prompt is None
    assert read("compare", Compare, "runs=[a,b c]").folders == ["a", "b c"]
    assert read("compare", Compare, "runs=a,b c").folders == ["a,b c"]


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert read("generate", Generate, "checkpoint=~/a b.ckpt").checkpoint == "/home/ada/a b.ckpt"
    assert read("generate", Generate, "checkpoint=a~/b.ckpt").checkpoint == "a~/b.ckpt"


def test_with_m_a_comma_separates_values_and_options_may_stand_anywhere() -> None:
    typed = ["model=lstm128", "-m", "data.path=a b.txt,c#.txt", "-cd", "mine", "seed=1,2", "--cfg=job"]
    assert for_hydra(typed, Config) == [
        *("-m", "-cd", "mine", "--cfg=job", "model=lstm128", "data.path=a b.txt,'c#.txt'", "seed=1,2"),
    ]
    assert for_hydra(["data.path=fox.txt", "hydra.run.dir=out/${now:%H}", "hydra.sweep.dir=a b(1)"], Config) == [
        *("data.path=fox.txt", "hydra.run.dir=out/${now:%H}", "hydra.sweep.dir='a b(1)'"),
    ]
