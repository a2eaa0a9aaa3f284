"""A text on the command line is taken as it stands."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from helpers import PROJECT
from throughline.commands.arguments import for_hydra
from throughline.commands.compare import Compare
from throughline.commands.compose import composed, load
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
    config = read("train", Config, "data=table", f"data.path={word}", f"data.symbol={word}", f"logger.group={word}")
    assert (config.data.path, config.data.symbol, config.logger.group) == (word, word, word)


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
    assert for_hydra(["-m", "data.path=[a.txt,b.txt],c.txt"], Config) == ["-m", "data.path=[a.txt,b.txt],c.txt"]
    assert for_hydra(["data.path=fox.txt", "hydra.run.dir=out/${now:%H}", "hydra.sweep.dir=a b(1)"], Config) == [
        *("data.path=fox.txt", "hydra.run.dir=out/${now:%H}", "hydra.sweep.dir='a b(1)'"),
    ]


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `train.py` says on stderr about a command line that it refuses before it runs."""
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    with pytest.raises(SystemExit) as exit:
        composed("train", Config, lambda cfg: pytest.fail("it was run"), None)
    assert exit.value.code == 2
    return capsys.readouterr().err


FIT = "--resolve and --package belong to --cfg: give --cfg job as well"
LAUNCHERS = "basic, joblib, submitit_local, submitit_slurm"
ONE = "give only one of --run, --multirun, --cfg, --info and --shell-completion"
NOTHING = "--multirun: there is nothing to combine; give several values, for example seed=1,2"
CHOICES = "a group of choices cannot be null or empty: give one of the names that `--help` lists"
SEVERAL = "several values need -m, which trains with each of them"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("-p nothing", FIT),
        ("--resolve", FIT),
        ("-m seed=1,2 --cfg job", ONE),
        ("--run -m seed=1,2", ONE),
        ("-m", NOTHING),
        ("--multirun -cd .", NOTHING),
        ("seed=1,2", f"seed=1,2: {SEVERAL}"),
        ("data=text,stdlib", f"data=text,stdlib: {SEVERAL}"),
        ("seed=choice(1,2)", f"seed=choice(1,2): {SEVERAL}"),
        ("=5", "=5: give KEY=VALUE"),
        ("hydra.run.dir=", "hydra.run.dir=: the path is empty"),
        ("output_root=", "output_root=: the path is empty"),
        ("-m seed=1,2 hydra.sweep.dir=", "hydra.sweep.dir=: the path is empty"),
        ("model=null", CHOICES),
        ("model=5", CHOICES),
        ("model={a:1}", "model: give one of the choices that `--help` lists"),
        ("modle=lstm256", "modle: there is no such setting; did you mean model?"),
        ("a.b.c=1", "a.b.c: there is no such setting; `--cfg job` shows every key"),
        (
            "hydra/launcher=ray -m seed=1,2",
            f"hydra/launcher=ray: not installed: pip install -e '.[ray]'; installed are {LAUNCHERS}",
        ),
        (
            "hydra/sweeper=ax -m seed=1,2",
            "hydra/sweeper=ax: not installed: pip install hydra-ax-sweeper; installed are basic, throughline",
        ),
        (
            "hydra/sweeper=optuna -m seed=1,2",
            "hydra/sweeper=optuna: needs an Optuna of 2021; sweep=optuna searches with the present one",
        ),
        ("hydra/launcher=jobib -m seed=1,2", f"hydra/launcher=jobib: did you mean joblib? allowed are {LAUNCHERS}"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    arguments: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(monkeypatch, capsys, *arguments.split()) == f"error: {line}\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("--unknown-flag", "train.py: error: unrecognized arguments: --unknown-flag"),
        ("--cfg", "train.py: error: argument --cfg/-c: expected one argument"),
        ("-cd", "train.py: error: argument --config-dir/-cd: expected one argument"),
    ],
)
def test_a_wrong_option_is_one_line(
    arguments: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(monkeypatch, capsys, arguments) == f"{line}\n"


def test_a_package_that_is_not_there_ends_with_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(monkeypatch, capsys, "--cfg", "job", "-p", "nothing") == "package 'nothing' not found in config\n"


CORE = b"_target_: throughline.model.settings.LSTM\n"
CIRCLE = "YAML files go round in a circle: a value or a defaults list holds itself"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (CORE + b"\thidden_size: 5\n", "{file}: line 2: found character '\\t' that cannot start any token"),
        (CORE + b"  hidden_size: 5\n", "{file}: line 2: mapping values are not allowed here"),
        (CORE + b"dropout: 0.1\ndropout: 0.2\n", "{file}: line 3: found duplicate key dropout"),
        (CORE + b"name: 'a\n", "{file}: line 3: found unexpected end of stream"),
        (CORE + b"name: !own 5\n", "{file}: line 2: could not determine a constructor for the tag '!own'"),
        (b"# gr\xf6\n", "{file}: 'utf-8' codec can't decode byte 0xf6 in position 4: invalid start byte"),
        (b"5\n", "{file}: Invalid loaded object type: int"),
        (b"defaults: 5\n", "Invalid defaults list in 'model/own', defaults must be a list (got int)"),
        (b"defaults: [own]\n", CIRCLE),
        (CORE + b"hidden_size: &a [*a]\n", CIRCLE),
        (
            b"defaults: [nothing]\n",
            "model=nothing: allowed are gru256, layernormlstm256, lstm128, lstm256, lstm256x2, lstm512, mingru256, "
            "minlstm256",
        ),
    ],
)
def test_a_mistake_in_a_users_file_is_one_line(
    content: bytes, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "model" / "own.yaml"
    file.parent.mkdir()
    file.write_bytes(content)
    told = refused(monkeypatch, capsys, "model=own", "-cd", str(tmp_path))
    assert told == f"error: {line.format(file=file)}\n"
