"""`--set`."""

from collections.abc import Callable

import pytest

from raybench.config.schema import RunConfig
from raybench.errors import ConfigError

Read = Callable[..., RunConfig]


@pytest.mark.parametrize(
    ("assignment", "value_of", "value"),
    [
        ("name=other", lambda c: c.name, "other"),
        ("seed=7", lambda c: c.seed, 7),
        ("targets.0.nodes=2", lambda c: c.targets[0].nodes, 2),
        ("targets.h200.nodes=3", lambda c: c.targets[0].nodes, 3),
        ("targets.b200-0.5.21.nodes=4", lambda c: c.targets[1].nodes, 4),
        ("targets.h200.engine.args.ep-size=2", lambda c: c.targets[0].engine.args, {"ep-size": 2}),
        ("perf.0.batch_sizes=[8, 16]", lambda c: c.perf[0].batch_sizes, (8, 16)),
        ("perf.0.batch_sizes.1=3", lambda c: c.perf[0].batch_sizes, (1, 3, 4)),
        ("engine.env={A: 'b=c'}", lambda c: c.engine.env, {"A": "b=c"}),
        ("engine.args.tp-size=", lambda c: c.engine.args["tp-size"], None),
        ("engine.environment.managed={version: 0.5.21, device: cpu}",
         lambda c: c.engine.environment.managed.device, "cpu"),
        ("publish.wandb.mode=disabled", lambda c: c.publish.wandb.mode, "disabled"),
    ],
)  # fmt: skip
def test_a_setting_is_laid_over_the_file(
    read: Read, good: str, assignment: str, value_of: Callable[[RunConfig], object], value: object
) -> None:
    assert value_of(read(good, [assignment])) == value


def test_later_settings_win_and_see_earlier_ones(read: Read, good: str) -> None:
    config = read(good, ["targets.h200.name=first", "targets.first.nodes=2", "targets.first.nodes=5"])
    assert (config.targets[0].name, config.targets[0].nodes) == ("first", 5)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("nonsense", "--set nonsense: expected KEY.PATH=VALUE"),
        ("=1", "--set =1: expected KEY.PATH=VALUE"),
        ("a..b=1", "--set a..b=1: expected KEY.PATH=VALUE"),
        ("targets.h200.node=2", "--set targets.h200.node=2: targets.0.node: expected a known key, found "
         "'node'; did you mean 'nodes'?"),
        ("targets.h200.nodes=two", "--set targets.h200.nodes=two: targets.0.nodes: expected a whole number"),
        ("targets.h100.nodes=2", "--set targets.h100.nodes=2: targets has no entry named 'h100'; did you mean 'h200'?"),
        ("targets.9.nodes=2", "--set targets.9.nodes=2: targets has 2 entries, counted from 0; there is no 9"),
        ("name.x=2", "--set name.x=2: name holds a plain value"),
        ("enginee.kind=sglang", "--set enginee.kind=sglang: enginee: expected a known key, found 'enginee'; did you "
         "mean 'engine'?"),
        ("engin=1", "--set engin=1: engin: expected a known key, found 'engin'; did you mean 'engine'?"),
        ("name=[", "--set name=[: not valid YAML"),
        ("name=!x y", "--set name=!x y: expected a plain value, found the YAML tag"),
        ("perf.0.batch_sizes=[1, 0]", "--set perf.0.batch_sizes=[1, 0]: perf.0.batch_sizes.1: expected a"),
        ("engine.environment=conda", "--set engine.environment=conda: engine.environment: expected auto, {python"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_named(read: Read, good: str, assignment: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(good, [assignment])
    assert caught.value.message.startswith(words)
