"""Every YAML file builds, and the error for a wrong value names its key."""

from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from helpers import PROJECT, composed, config
from throughline.commands.compare import Compare
from throughline.commands.compose import _command_settings
from throughline.commands.dashboard import Dashboard
from throughline.commands.evaluate import Evaluate
from throughline.commands.export import Export
from throughline.commands.generate import Generate
from throughline.config import Budget, Config, Schedule, all_readings
from throughline.data.codecs.bytes import Bytes
from throughline.evaluation.readings.carried import Carried
from throughline.evaluation.readings.dynamic import Dynamic
from throughline.evaluation.readings.reset import Reset
from throughline.plumbing.errors import UserError
from throughline.settings import defaults, kinds, target_class

REQUIRED = {name: {"path": "x"} for name in ("text", "shakespeare", "lines", "table", "array", "tokens")}
"""Values that a file leaves to the user."""


def choices() -> list[tuple[str, str]]:
    files = (PROJECT / "conf").glob("*/*.yaml")
    return sorted(
        (file.parent.name, file.stem)
        for file in files
        if file.parent.name not in ("hydra", "launcher", "experiment", "debug")
        and file.stem not in ("auto", "grid")
        and file.parts[-2:] != ("callbacks", "none.yaml")
    )


def said(file: Path) -> dict[str, Any]:
    """The values in a YAML file, and those in the files of its group on which it builds."""
    values: Any = OmegaConf.to_container(OmegaConf.load(file))
    bases = values.pop("defaults", [])
    return {key: value for base in bases for key, value in said(file.with_stem(base)).items()} | values


@pytest.mark.parametrize(("group", "choice"), [choice for choice in choices() if choice != ("codec", "auto")])
def test_every_choice_builds_with_the_values_of_its_file(group: str, choice: str) -> None:
    required = REQUIRED.get(choice, {})
    built = config(f"{group}={choice}", *(f"{group}.{key}={value}" for key, value in required.items()))
    settings, plain = getattr(built, group), built.to_plain()[group]
    expected = said(PROJECT / "conf" / group / f"{choice}.yaml") | required
    if group in ("readings", "callbacks"):  # several may be chosen, so each is a value under its name
        settings, plain, expected = settings[choice], plain[choice], expected[choice]
    expected = expected["sweep"] if group == "sweep" else expected
    target = expected.pop("_target_", None)
    assert target in (None, f"{type(settings).__module__}.{type(settings).__name__}")
    assert expected or target
    assert {key: plain[key] for key in expected} == expected
    assert settings == type(settings)(**expected)  # the class has the defaults for omitted keys


def test_the_codec_is_chosen_by_the_data_unless_it_is_given() -> None:
    assert config().codec is config("codec=auto").codec is None
    assert config("codec=auto").to_plain()["codec"] == {"name": "auto"}
    assert config("codec=bytes").codec == Bytes()


def test_several_readings_are_chosen_and_two_are_always_there() -> None:
    assert [reading.name for reading in config().all_readings] == ["carried", "reset"]
    for chosen in ("readings=dynamic", "readings=[carried,dynamic]", "readings=[dynamic,reset,carried]"):
        assert [reading.name for reading in config(chosen).all_readings] == ["carried", "reset", "dynamic"]
    assert config("readings=dynamic", "readings.dynamic.lr=0.5").readings == {"dynamic": Dynamic(lr=0.5)}


def test_the_files_are_those_of_every_group() -> None:
    assert {group for group, _ in choices()} == {
        *("callbacks", "codec", "data", "head", "logger", "model", "optimizer", "readings", "regime", "schedule", "sweep"),
    }


def test_a_run_is_told_what_its_file_says() -> None:
    values: Any = OmegaConf.to_container(OmegaConf.load(PROJECT / "conf" / "train.yaml"))
    groups = {next(iter(group)) for group in values.pop("defaults") if group != "_self_"}
    plain = config().to_plain()
    assert values == {"_target_": "throughline.config.Config", "output_root": "${project:outputs}"}
    assert groups - {"hydra", "launcher", "experiment", "debug"} <= plain.keys() == {f.name for f in fields(Config)}


def test_a_file_is_silent_about_defaults() -> None:
    """Hydra reads our files by our own class. This class adds omitted keys; the test notices when it no longer does."""
    assert config().to_plain() == {**Config().to_plain(), "output_root": str(PROJECT / "outputs"), "readings": ANY}
    assert config().all_readings == Config().all_readings
    cfg: Any = OmegaConf.to_container(composed("regime=padded", "model=lstm512", "readings=dynamic"))
    assert cfg["regime"].pop("_target_").endswith("Padded")
    assert cfg["regime"] == {"batch_size": 32, "max_length": 256, "padding": "post", "bucket": 32}
    assert cfg["model"]["hidden_size"] == 512
    assert cfg["trainer"]["checkpoint_seconds"] == 300.0
    assert cfg["readings"]["dynamic"]["bptt"] == 32
    for file in (PROJECT / "conf").glob("*/*.yaml"):  # a default written in two places may differ one day
        values: Any = OmegaConf.to_container(OmegaConf.load(file))
        if "_target_" in values and not file.stem.endswith("256"):  # their names contain the number
            cls = target_class(
                file.parent.name, kinds(Config.__annotations__[file.parent.name])[0], values.pop("_target_"), []
            )
            assert {key for key, value in values.items() if defaults(cls)[key] == value} == set(), file


@pytest.mark.parametrize(
    ("overrides", "differences"),
    [
        ((), {}),
        (("data=shakespeare", "data.path=a"), {"data": "text", "data.path": "a", "data.separator": "\n\n"}),
        (("model.hidden_size=24", "regime.streams=4"), {"model.hidden_size": 24, "regime.streams": 4}),
        (
            ("callbacks=[ema,early_stopping]", "callbacks.ema.decay=0.9"),
            {"callbacks": "[ema,early_stopping]", "callbacks.ema.decay": 0.9},
        ),
        (("callbacks=none",), {}),
        (("regime=segments", "seed=2", "readings=dynamic"), {"regime": "segments", "seed": 2, "readings": "dynamic"}),
        (("codec=bytes", "logger=none"), {"codec": "bytes", "logger.name": "none"}),
        (
            ("schedule=constant", "budget.seconds=3"),
            {"schedule.name": "constant", "schedule.warmup": 0.0, "budget.seconds": 3.0},
        ),
    ],
)
def test_the_differences_from_the_defaults(overrides: tuple[str, ...], differences: dict[str, Any]) -> None:
    assert config(*overrides).differences() == differences


@pytest.mark.parametrize("file", sorted((PROJECT / "conf" / "regime").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_regime_is_called_as_its_file_is(file: Path) -> None:
    assert config(f"regime={file.stem}").regime.name == file.stem.rstrip("0123456789")  # stateful8 has 8 streams


@pytest.mark.parametrize("file", sorted((PROJECT / "conf" / "model").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_model_is_called_as_its_file_is(file: Path) -> None:
    assert config(f"model={file.stem}").model.name == file.stem


@pytest.mark.parametrize(
    "experiment", sorted((PROJECT / "conf" / "experiment").glob("regimes*.yaml")), ids=lambda file: file.stem
)
def test_every_member_of_an_experiment_builds(experiment: Path) -> None:
    cfg = composed(f"experiment={experiment.stem}", hydra=True)
    params = cfg.hydra.sweeper.params
    members = [config(f"experiment={experiment.stem}", f"regime={name}").regime for name in params.regime.split(",")]
    shapes = [(member.name, getattr(member, "streams", None)) for member in members]
    assert shapes[0] == ("onestep", 1)
    assert shapes[1:4] == [("windowed", None), ("padded", None), ("segments", None)]
    assert shapes[4:] == [("stateful", 1), ("stateful", 8), ("stateful", 32), ("stateful", 64), ("stateful", 128)]
    assert params.seed == "1,2,3"
    assert cfg.logger.group == experiment.stem
    assert (cfg.budget.seconds is None) != (cfg.budget.tokens is None)


def test_the_defaults() -> None:
    default = config()
    assert default.name == "lstm256-stateful-s1"
    assert (default.regime.streams, default.regime.bptt) == (64, 32)
    assert default.output_root == str(PROJECT / "outputs")
    assert default.max_epochs == Budget.DEFAULT_EPOCHS
    assert config("budget.seconds=1").max_epochs is None
    assert config("budget.seconds=1", "trainer.max_epochs=3").max_epochs == 3


def test_the_other_scripts() -> None:
    assert config("checkpoint=x", name="evaluate", cls=Evaluate).checkpoint == "x"
    assert config("checkpoint=x", name="generate", cls=Generate).num_sequences == 1
    assert config("checkpoint=x", name="export", cls=Export).onnx is True
    assert config("runs=a", name="compare", cls=Compare).folders == ["a"]
    assert config("runs=[a,b]", name="compare", cls=Compare).folders == ["a", "b"]
    assert config(name="dashboard", cls=Dashboard).out == str(PROJECT / "outputs" / "workspace.json")


def test_plain_is_plain() -> None:
    def leaves(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [leaf for v in value.values() for leaf in leaves(v)]
        return [leaf for v in value for leaf in leaves(v)] if isinstance(value, list) else [value]

    plain = config("tags=[a,b]").to_plain()
    rest = {"bptt_start": None, "bptt_epochs": 4, "reset_probability": 0.02, "sequences": "auto"}
    assert plain["regime"] == {"name": "stateful", "streams": 64, "bptt": 32, "rotate": False, **rest}
    assert {type(leaf) for leaf in leaves(plain)} <= {int, float, str, bool, type(None)}


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("regime.bptt=abc", "regime.bptt='abc': input should be a valid integer"),
        ("regime.bptt=0", "regime.bptt=0: input should be greater than 0"),
        ("regime.bptt=1.5", "regime.bptt=1.5: input should be a valid integer"),
        ("optimizer.lr=1e-3x", "optimizer.lr='1e-3x': input should be a valid number"),
        ("optimizer.lr=nan", "optimizer.lr=nan: input should be a finite number"),
        ("model.hidden_size=-5", "model.hidden_size=-5: input should be greater than 0"),
        ("model.dropout=1", "model.dropout=1: input should be less than 1"),
        ("model.input=bytes", "model.input='bytes': input should be 'embedding' or 'onehot'"),
        ("+model.foo=1", "model.foo is not a key of model: allowed are hidden_size, num_layers, input, "),
        ("+foo=1", "foo is not a key of the config: allowed are data, codec, model, head, regime, "),
        ("~regime.bptt", None),
        ("~optimizer.lr", None),
        ("~regime", None),
        ("readings.carried=5", "readings.carried=5: give a group of keys"),
        ("+readings.own._target_=os.system", "readings.own._target_='os.system': allowed are throughline.evaluation."),
        ("optimizer=rmsprop optimizer.alpha=1", "optimizer.alpha=1: input should be less than 1"),
        ("data=text", "data.path is required: give it as data.path=..."),
        ("seed=-1", "seed=-1: input should be greater than or equal to 0"),
        ("regime._target_=os.system", "regime._target_='os.system': allowed are throughline.regimes.onestep.Onestep, "),
        (
            "data._target_=throughline.regimes.stateful.Stateful",
            "data._target_='throughline.regimes.stateful.Stateful': ",
        ),
        ("regime=onestep regime.bptt=2", "regime.bptt=2: input should be 1"),
        ("optimizer=sgd +optimizer.betas=[0.9,0.99]", "optimizer.betas is not a key of optimizer: allowed are lr, weight_"),
        ("trainer.val_checks=3 trainer.val_check_interval=4", "trainer: val_check_interval=4 and val_checks=3: give one"),
        ("budget=5", "budget=5: give a group of keys, for example budget.tokens=..."),
    ],
)
def test_a_wrong_value_is_answered_by_its_name(override: str, line: str | None) -> None:
    if line is None:
        assert config(*override.split())
        return
    with pytest.raises(UserError) as error:
        config(*override.split())
    assert str(error.value).startswith(line)
    assert len(str(error.value).splitlines()) == 1


def test_every_wrong_value_gets_its_line() -> None:
    with pytest.raises(UserError) as error:
        config("regime.bptt=0", "model.hidden_size=x", "seed=1")
    assert [line.split("=")[0] for line in str(error.value).splitlines()] == ["model.hidden_size", "regime.bptt"]


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (Schedule("constant", warmup=0.0), [1, 1, 1, 1]),
        (Schedule("cosine", warmup=0.0), [1, 0.8535533905932737, 0.5, 0]),
        (Schedule("cosine", warmup=0.5, floor=0.1), [0.01, 0.5, 1, 0.1]),
    ],
)
def test_the_schedule_goes_by_the_share_of_the_budget(schedule: Schedule, factors: list[float]) -> None:
    assert [schedule.factor(spent) for spent in (0, 0.25, 0.5, 1)] == pytest.approx(factors)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "+readings.again={_target_: throughline.evaluation.readings.dynamic.Dynamic}",
            "readings: the name dynamic is already taken",
        ),
    ],
)
def test_readings_that_cannot_be_told_apart_are_refused(override: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        _ = config("readings=dynamic", override).all_readings
    assert len(config("readings=dynamic").all_readings) == 3


def test_a_reading_that_is_derived_from_another_is_read_too() -> None:
    class Halved(Carried):
        suffix = "_halved"

    assert [type(reading) for reading in all_readings({"mine": Halved()})] == [Carried, Reset, Halved]


def test_a_file_that_names_no_settings_of_a_command_is_read_as_it_is() -> None:
    for target in ("throughline.runs.folders.shown", "throughline.commands.nothing.X", "os.system", None, 5):
        assert _command_settings(target) is None
    assert _command_settings("throughline.commands.evaluate.Evaluate") is Evaluate


def test_files_of_a_users_folder_keep_what_they_inherit_and_what_they_require(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    target = "_target_: throughline.model.settings.LSTM\n"
    (tmp_path / "model" / "small.yaml").write_text(f"{target}hidden_size: 64\n")
    (tmp_path / "model" / "drop.yaml").write_text(f"defaults: [small]\n{target}dropout: 0.1\n")
    (tmp_path / "model" / "open.yaml").write_text(f"{target}hidden_size: ???\n")
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        search = f"hydra.searchpath=[file://{tmp_path}]"
        drop = compose("train", overrides=[search, "model=drop"]).model
        assert (drop.hidden_size, drop.dropout, drop.num_layers) == (64, 0.1, 1)
        assert OmegaConf.is_missing(compose("train", overrides=[search, "model=open"]).model, "hidden_size")


@pytest.mark.parametrize(
    "file",
    [file for group in ("experiment", "debug", "launcher") for file in sorted((PROJECT / "conf" / group).glob("*.yaml"))],
    ids=lambda file: f"{file.parent.name}={file.stem}",
)
def test_every_preset_composes_and_builds(file: Path) -> None:
    chosen = f"{file.parent.name}={file.stem}"
    assert file.read_text(encoding="utf-8").startswith("# @package _global_\n# ")  # it says what it shows
    if file.parent.name == "launcher":
        if file.stem == "ray":
            pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")
        cfg = composed("regime=segments", chosen, hydra=True)
        assert cfg.hydra.launcher._target_.rpartition(".")[2] != "BasicLauncher"
    else:
        assert config(chosen) != config()


def test_the_search_of_wandb_names_our_settings() -> None:
    sweep: Any = OmegaConf.to_container(OmegaConf.load(PROJECT / "conf" / "wandb_sweep.yaml"), resolve=False)
    assert sweep["metric"] == {"name": "val/nll", "goal": "minimize"}
    for key, values in sweep["parameters"].items():
        several = values.get("values") or [values[name] for name in ("value", "min", "max") if name in values]
        for value in several:
            assert config(f"{key}={value}")


def test_one_average_is_enough() -> None:
    with pytest.raises(UserError, match=r"^callbacks: ema, swa and nt_asgd are averages of the weights; give one$"):
        config("callbacks=[ema,swa]")
