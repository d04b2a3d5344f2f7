"""Files, YAML and the words of every refusal."""

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raybench.config.read import MAX_BYTES, digest, json_schema, load
from raybench.config.schema import RunConfig
from raybench.errors import ConfigError

Read = Callable[..., RunConfig]


def refusal(read: Read, text: str | bytes, sets: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, sets)
    assert caught.value.exit_code == 10
    return caught.value.message


def test_a_good_file_is_read(read: Read, good: str) -> None:
    config = read(good)
    assert config.perf[0].batch_sizes == (1, 2, 4)
    assert config.engine.args == {"tp-size": 8, "trust-remote-code": True}
    assert config.targets[1].name == "b200-0.5.21"


def test_a_byte_order_mark_is_no_matter(read: Read, good: str) -> None:
    assert read(b"\xef\xbb\xbf" + good.encode()) == read(good)


# Each: what is replaced in the good file, by what, and how the message begins after the file's name.
WRONG = [
    ("    nodes: 1", "    node: 1", ":7: targets.0.node: expected a known key, found 'node'; did you mean 'nodes'?"),
    ("name: study", "nmae: study", ":1: nmae: expected a known key, found 'nmae'; did you mean 'name'?"),
    ("name: study", "qqqqqq: study", ":1: qqqqqq: expected a known key, found 'qqqqqq'; valid: name, seed, model,"),
    ("    nodes: 1", "    nodes: one", ":7: targets.0.nodes: expected a whole number of at least 1, found the text"),
    ("    nodes: 1", "    nodes: true", ":7: targets.0.nodes: expected a whole number of at least 1, found true"),
    ("    nodes: 1", "    nodes: 0", ":7: targets.0.nodes: expected a whole number of at least 1, found 0"),
    ("    nodes: 1", "    nodes: 1.5", ":7: targets.0.nodes: expected a whole number of at least 1, found 1.5"),
    ("    nodes: 1", "    nodes: '1'", ":7: targets.0.nodes: expected a whole number of at least 1, found the text"),
    ("    nodes: 1", "    nodes:", ":7: targets.0.nodes: expected a whole number of at least 1, found nothing"),
    ("name: study", "name: 5", ":1: name: expected text, found 5; write it in quotes"),
    ("name: study", "name: Study", ":1: name: expected text that matches ^[a-z0-9]"),
    ("name: study", "", ":2: name: this key is missing"),
    ("  path: tiny:trained", "  path: ''", ":3: model.path: expected text of at least 1 character, found"),
    ("[1, 2, 4]", "[]", ":13: perf.0.batch_sizes: expected a list with at least 1 entry, found an empty list"),
    ("[1, 2, 4]", "[1, 0]", ":13: perf.0.batch_sizes.1: expected a whole number of at least 1, found 0"),
    ("[1, 2, 4]", "[1, 1]", ":13: perf.0.batch_sizes: batch sizes must be distinct"),
    ("[1, 2, 4]", "4", ":13: perf.0.batch_sizes: expected a list with at least 1 entry, found 4"),
    ("tp-size: 8", "tp_size: 8", ":11: engine.args: flag 'tp_size' must be the full name"),
    ("tp-size: 8", "port: 8", ":11: engine.args: flag 'port' is set by raybench itself"),
    ("tp-size: 8", "tp-size: [[8]]", ":11: engine.args.tp-size: expected text, a number, true, false, null"),
    ("  args:", "  kind: vllm\n  args:", ":11: engine.kind: expected sglang or external or simulated, found"),
    ("  args:", "  kind: simulatd\n  args:", ":11: engine.kind: expected sglang or external or simulated, found "
     "the text 'simulatd'; did you mean 'simulated'?"),
    ("  args:", "  kind: simulated\n  args:", ":10: engine: engine.simulated belongs to kind simulated"),
    ("  args:", "  environment: autp\n  args:", ":11: engine.environment: expected auto, {python: PATH} or"),
    ("  args:", "  environment: {managed: {version: 0.5.21, device: tpu}}\n  args:",
     ":11: engine.environment.managed.device: expected cpu or cuda, found the text 'tpu'"),
    ("  args:", "  environment: {managed: {version: 0.5.21, devise: cpu}}\n  args:",
     ":11: engine.environment.managed.devise: expected a known key, found 'devise'; did you mean 'device'?"),
    ("  args:", "  environment: {pyton: x}\n  args:", ":11: engine.environment: expected auto, {python: PATH} or"),
    ("  args:", "  env: {A: 1}\n  args:", ":11: engine.env.A: expected text, found 1; write it in quotes"),
    ("  args:", "  startup_timeout_s: .inf\n  args:", ":11: engine.startup_timeout_s: expected a finite number"),
    ("  args:", "  startup_timeout_s: 0\n  args:", ":11: engine.startup_timeout_s: expected a number above 0"),
    ("  args:", "  args: {}\n  args:", ":12: engine.args: expected each key once, found it also on line 11"),
    ("    gpus_per_node: 8", "    gpus_per_node: 8\n    engine: {url: 'http://x'}",
     ":9: targets.0.engine: together with the common engine settings: engine.url belongs"),
    ("b200-0.5.21", "h200", ":4: targets: the name 'h200' is used twice"),
    ("perf:", "pref:", ":12: pref: expected a known key, found 'pref'; did you mean 'perf'?"),
    ("name: study", "name: !x study", ":1: expected a plain value, found the YAML tag '!x'"),
    ("name: study", "name: !!str study", ":1: expected a plain value, found the YAML tag 'tag:yaml.org,2002:str'"),
    ("name: study", "name: 2025-01-01", ":1: name: expected text or a number, found the date 2025-01-01"),
    ("name: study", "name: 2025-13-41", ":1: name: '2025-13-41' cannot be read"),
    ("name: study", "<<: {name: study}", ":1: expected a plain key, found the merge key '<<'"),
    ("name: study", "[a, b]: study", ":1: top level: expected a plain key, found a list or mapping"),
    ("name: study", 'name: "\\ud800"', ":1: name: expected text, found half of a surrogate pair"),
    ("name: study", "seed: 99999999999999999999", ":1: seed: expected a finite number below 2**63"),
    ("model:", "model: &m\n  again: *m", ":3: model.again: expected a tree, found an alias that contains itself"),
    ("model:", "model: *nowhere", ":2: not valid YAML: found undefined alias"),
    ("name: study", "name: [", "not valid YAML"),
    ("name: study", "name: study\n--- \nname: b", "not valid YAML: expected a single document"),
    ("name: study", "name: a\x07b", ":1: not valid YAML: the character U+0007 is not allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "begins"), WRONG, ids=[new.strip() or "missing" for _, new, _ in WRONG])
def test_what_is_wrong_is_said_with_its_place(read: Read, good: str, old: str, new: str, begins: str) -> None:
    assert old in good
    message = refusal(read, good.replace(old, new, 1))
    first = message.splitlines()[0]
    where, _, rest = first.partition("c.yaml")
    assert where.startswith("/")
    assert rest.startswith(begins) if begins.startswith(":") else begins in rest
    assert "pydantic" not in message


def test_the_first_complaint_is_told_and_the_others_have_their_lines(read: Read, good: str) -> None:
    message = refusal(read, good.replace("nodes: 1", "nodes: x").replace("input_tokens: 256", "input_tokens: 1.5"))
    lines = message.splitlines()
    assert "c.yaml:7: targets.0.nodes" in lines[0]
    assert lines[1] == "and 1 more:"
    assert "c.yaml:14: perf.0.input_tokens" in lines[2]


def test_a_long_list_of_complaints_is_cut(read: Read, good: str) -> None:
    many = good + "".join(f"key{i}: 1\n" for i in range(30))
    lines = refusal(read, many).splitlines()
    assert lines[1] == "and 29 more:"
    assert lines[-1] == "  ... and 21 beyond these"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "found an empty file"),
        (b"# only a comment\n", "found an empty file"),
        (b"\x00\x01\x02", "found a binary file"),
        (b"name: \xff\xfe", ":1: expected UTF-8 text, found the byte 0xff"),
        (b"- a\n- b\n", ":1: expected a mapping with the keys name, seed, model"),
        (b"just words", "found the single value 'just words'"),
        (b"[" * 5000, "nested too deeply"),
        (b"{" * 200 + b"}" * 200, "expected a plain key"),
        (b'name: "\\UFFFFFFFF"', "not valid YAML"),
        (b"a: &a [1,1,1,1,1,1,1,1,1,1]\n" + b"".join(
            b"%c: &%c [%s]\n" % (i + 1, i + 1, b",".join([b"*%c" % i] * 10)) for i in range(ord("a"), ord("i"))
        ), "aliases multiply"),
    ],
    ids=["empty", "comment", "binary", "not-utf8", "list", "scalar", "deep", "keys", "escape", "billion-laughs"],
)  # fmt: skip
def test_a_file_that_is_no_configuration(read: Read, content: bytes, words: str) -> None:
    assert words in refusal(read, content)


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").touch()
    with pytest.raises(ConfigError, match=r"quikstart\.yaml: there is no such file; did you mean 'quickstart\.yaml'"):
        load(tmp_path / "quikstart.yaml")
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "nowhere" / "c.yaml")


def test_a_folder_a_huge_file_and_a_name_with_a_zero(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found a folder"):
        load(tmp_path)
    huge = tmp_path / "huge.yaml"
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ConfigError, match=f"found a file of {MAX_BYTES + 1} bytes"):
        load(huge)
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "a\0b")
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        load(tmp_path / ("x" * 400))


def test_equal_settings_have_one_digest_whatever_their_form(read: Read, good: str) -> None:
    other = good.replace("nodes: 1", "nodes: 0x1").replace("[1, 2, 4]", "\n    - 1\n    - 2\n    - 4")
    assert digest(read(good)) == digest(read(other))
    assert digest(read(good)) != digest(read(good, ["seed=1"]))


def test_the_schema_is_json_schema_with_a_meaning_for_every_key(good: str) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(good), schema)
    for name, model in [("RunConfig", schema), *schema["$defs"].items()]:  # type: ignore[union-attr]
        for key, value in model.get("properties", {}).items():  # type: ignore[union-attr]
            assert value.get("description"), f"{name}.{key} has no meaning"
    json.dumps(schema)


yaml_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def outcome(path: Path, content: bytes, sets: tuple[str, ...] = ()) -> RunConfig | ConfigError:
    path.write_bytes(content)
    try:
        return load(path, sets)
    except ConfigError as error:
        return error


fuzz = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)


@fuzz
@given(content=st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_configuration_or_one_message(tmp_path: Path, content: bytes) -> None:
    assert isinstance(outcome(tmp_path / "f.yaml", content), RunConfig | ConfigError)


@fuzz
@given(text=st.text(alphabet="&*!%@|>-?:,[]{}#'\"\\ \n\tab01.~<=", max_size=60))
def test_any_yaml_punctuation_is_a_configuration_or_one_message(tmp_path: Path, text: str) -> None:
    assert isinstance(outcome(tmp_path / "f.yaml", text.encode()), RunConfig | ConfigError)


@fuzz
@given(data=st.data())
def test_any_value_in_any_place_is_accepted_or_refused_in_words(tmp_path: Path, good: str, data: st.DataObject) -> None:
    tree = yaml.safe_load(good)
    here, steps = tree, []
    while True:
        key = data.draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        steps.append(key)
        if not isinstance(here[key], dict | list) or not here[key] or data.draw(st.booleans()):
            break
        here = here[key]
    here[key] = data.draw(yaml_like)
    result = outcome(tmp_path / "f.yaml", yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))
    if isinstance(result, ConfigError):
        assert "f.yaml" in result.message
        assert "validation error" not in result.message


@fuzz
@given(assignment=st.text(max_size=40) | st.from_regex(r"(targets|perf|engine)(\.[a-z0-9_-]{0,6}){0,4}=.{0,12}"))
def test_any_assignment_is_accepted_or_refused_in_words(tmp_path: Path, good: str, assignment: str) -> None:
    result = outcome(tmp_path / "f.yaml", good.encode(), (assignment,))
    assert isinstance(result, RunConfig | ConfigError)
