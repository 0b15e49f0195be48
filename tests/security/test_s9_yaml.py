"""Number 9.2: YAML is read safely, and neither a tenant nor a repository gets more from it than its keys."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from carrel.declare.document import MAX_ALIASES, Unreadable, read
from carrel.declare.load import check, load_tree
from carrel.declare.schema import KINDS
from carrel.declare.tenant import OVERLAY_KEYS
from carrel.ids import TenantId
from carrel.reconcile.record import Record
from carrel.reconcile.world import World
from tests.fakes.declarations import declare


def errors(path: Path, name: str = "acme.yaml") -> list[str]:
    return [str(problem) for problem in check(path) if problem.file == name and problem.severity == "error"]


@pytest.mark.parametrize(
    "text",
    ["a: !!python/object/apply:os.system [id]", "a: !!python/name:os.system", "!!python/object:x.Y {}", "a: !custom 1",
     "a: !!timestamp 2030-01-01", "a: !!binary aGk=", "a: !<tag:x> [1]", "a: !!set {b}", "!!map\na: !!int '1'"],
)  # fmt: skip
def test_S9_02_no_tag_is_taken(tmp_path: Path, text: str) -> None:
    path = declare(tmp_path, acme=text + "\n")
    assert any("tags" in line for line in errors(path))


def test_S9_02_twin_plain_yaml_is(tmp_path: Path) -> None:
    assert errors(declare(tmp_path, acme="display_name: !!str 12\n")) == []


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "- - ", "a:\n"])
def test_S9_02_deep_nesting_ends_in_an_error_and_not_in_the_process(opening: str) -> None:
    """In a process of its own: a reader that recurses in C would take this one with it."""
    program = (
        "from carrel.declare.document import read, Unreadable\n"
        "import sys\n"
        "text = sys.stdin.read()\n"
        "try:\n    read(text)\nexcept Unreadable as error:\n    print(error.message)\n"
    )
    deeper = "".join(" " * depth + opening for depth in range(700))
    text = deeper if opening.endswith("\n") else opening * 60_000
    done = subprocess.run([sys.executable, "-c", program], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_S9_02_aliases_cannot_be_multiplied() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for above, name in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{above}'] * 10)}]\n"
    with pytest.raises(Unreadable):
        read(bomb)
    with pytest.raises(Unreadable, match="aliases"):
        read("a: &a 1\nb: [" + "*a, " * (MAX_ALIASES + 1) + "]\n")
    with pytest.raises(Unreadable, match="itself"):
        read("a: &a {b: *a}\n")


def test_S9_02_twin_a_few_aliases_are_fine() -> None:
    assert read("a: &a [1]\nb: *a\n").values == {"a": (1,), "b": (1,)}


def test_S9_02_size_is_capped(tmp_path: Path) -> None:
    path = declare(tmp_path, acme="# " + "x" * (256 * 1024))
    assert "over 256 KiB" in errors(path)[0]
    assert errors(declare(tmp_path, acme="# " + "x" * (255 * 1024))) == []


def test_S9_02_a_key_that_is_there_twice_is_refused_at_any_depth(tmp_path: Path) -> None:
    for text in ("suspended: true\nsuspended: false\n", "quotas: {tokens_per_day: 1, tokens_per_day: 2}\n",
                 '{"plan": "a", "plan": "b"}\n'):  # fmt: skip
        assert any("there twice" in line for line in errors(declare(tmp_path, acme=text)))


def test_S9_02_unknown_keys_are_refused_everywhere(tmp_path: Path) -> None:
    for text in (
        "nope: 1\n",
        "agents: {a: {nope: 1}}\n",
        "sandbox: {bind: [/]}\n",
        "quotas: {tokens_per_day: {x: 1}}\n",
    ):
        assert any("unknown key" in line for line in errors(declare(tmp_path, acme=text)))


def test_S9_02_no_key_can_set_bind_paths_filters_or_a_proxy_bypass() -> None:
    # A mode's `seccomp` names a profile of the operator's, which only takes calls away; no tenant's own file has it.
    assert "sandbox" not in OVERLAY_KEYS
    words = ("bind", "mount", "seccomp", "filter", "proxy", "capabilit", "privileged", "args", "command", "user", "uid")
    for kind, (_, model) in KINDS.items():
        for name in keys(model, set()) - {"seccomp"}:
            assert not any(word in name for word in words), f"{kind}: {name}"


def keys(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[str]:
    found = set(model.model_fields)
    seen.add(model)
    for definition in model.model_json_schema().get("$defs", {}).values():
        found.update(definition.get("properties", {}))
    return found


def test_S9_02_a_file_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    path = declare(tmp_path / "d")
    (tmp_path / "secret").write_text("display_name: secret\n")
    (path / "acme.yaml").symlink_to(tmp_path / "secret")
    assert "symbolic link" in errors(path)[0]
    assert load_tree(path).tenants[TenantId("acme")].config is None


@pytest.mark.parametrize("key", ["display_name", "plan", "agents: {main: {system_prompt", "nope"])
def test_S9_02_a_secret_in_yaml_is_an_error_that_does_not_repeat_it(tmp_path: Path, key: str) -> None:
    secret = "sk-ant-api03-" + "Zq8r" * 8
    path = declare(tmp_path, acme=f"{key}: {secret}{'}}' if '{' in key else ''}\n")
    found = errors(path)
    assert any("looks like a secret" in line for line in found)
    assert not any("Zq8r" in line for line in found)


def test_S9_02_an_overlay_cannot_widen_what_the_operator_set(tmp_path: Path) -> None:
    path, state = declare(tmp_path / "d", acme="packages: [jq]\n"), tmp_path / "state"
    record = Record.open(state)
    world = World(path, state, record)
    snapshot, _ = world.start()
    root = snapshot.tenant(TenantId("acme")).root
    for overlay in (b"quotas: {tokens_per_day: null}\n", b"suspended: false\n", b"sandbox: {memory_bytes: 1}\n",
                    b"tokens: []\n", b"models: ['*']\n", b"plan: pro\n", b"egress: {inject: []}\n",
                    b"packages: [not-allowed]\n", b"agents: {main: {max_turns: 200}}\n"):  # fmt: skip
        root.replace("config.yaml", overlay)
        snapshot, _ = world.refresh(world.loader.changed())
        acme = snapshot.tenant(TenantId("acme"))
        assert acme.problem is not None, overlay
        assert acme.problem.startswith("acme/config.yaml:1:"), overlay
        assert acme.config.packages == ("jq",)
    root.replace("config.yaml", b"packages: [ripgrep]\n")
    snapshot, _ = world.refresh(world.loader.changed())
    assert snapshot.tenant(TenantId("acme")).config.packages == ("ripgrep",)
    record.close()
