"""Configuration updates: applying what was computed gives what was asked for."""

from collections.abc import Callable
from typing import Any

import pytest
from fabric_protos.common import configtx_pb2, policies_pb2
from hlf.admin import update
from hlf.admin.errors import ConfigurationInvalid
from hypothesis import given
from hypothesis import strategies as st

names = st.sampled_from(["a", "b", "c", "d"])
contents = st.binary(max_size=3)
mod_policies = st.sampled_from(["Admins", "Writers"])


def build_group(mod_policy: str, values: dict[str, bytes], policies: dict[str, bytes], groups: dict[str, Any]) -> Any:
    group = configtx_pb2.ConfigGroup(mod_policy=mod_policy)
    for name, value in values.items():
        group.values[name].CopyFrom(configtx_pb2.ConfigValue(value=value, mod_policy="Admins"))
    for name, value in policies.items():
        policy = policies_pb2.Policy(type=1, value=value)
        group.policies[name].CopyFrom(configtx_pb2.ConfigPolicy(policy=policy, mod_policy="Admins"))
    for name, child in groups.items():
        group.groups[name].CopyFrom(child)
    return group


def groups_of(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    leaves = st.dictionaries(names, contents, max_size=3)
    return st.builds(build_group, mod_policies, leaves, leaves, st.dictionaries(names, children, max_size=3))


groups = st.recursive(groups_of(st.nothing()), groups_of, max_leaves=8)


def with_versions_removed(group: Any) -> Any:
    copy = configtx_pb2.ConfigGroup()
    copy.CopyFrom(group)
    copy.version = 0
    for element in (*copy.values.values(), *copy.policies.values()):
        element.version = 0
    for name in list(copy.groups):
        copy.groups[name].CopyFrom(with_versions_removed(group.groups[name]))
    return copy


@given(st.lists(groups, min_size=2, max_size=4))
def test_applying_computed_updates_one_after_another_gives_each_target(targets: list[Any]) -> None:
    config = configtx_pb2.Config(channel_group=targets[0])
    for number, target in enumerate(targets[1:]):
        target.values["number"].CopyFrom(configtx_pb2.ConfigValue(value=bytes([number]), mod_policy="Admins"))
        config = update.apply(config, update.compute("care", config, configtx_pb2.Config(channel_group=target)))
        assert with_versions_removed(config.channel_group) == with_versions_removed(target)
    assert config.sequence == len(targets) - 1


@given(groups)
def test_a_configuration_that_does_not_differ_makes_no_update(group: Any) -> None:
    config = configtx_pb2.Config(channel_group=group)
    with pytest.raises(ConfigurationInvalid, match="already as asked for"):
        update.compute("care", config, config)


@given(groups, groups)
def test_an_update_cannot_be_applied_a_second_time(first: Any, second: Any) -> None:
    second.values["new"].CopyFrom(configtx_pb2.ConfigValue(value=b"new", mod_policy="Admins"))
    config = configtx_pb2.Config(channel_group=first)
    computed = update.compute("care", config, configtx_pb2.Config(channel_group=second))
    changed = update.apply(config, computed)
    with pytest.raises(ConfigurationInvalid):
        update.apply(changed, computed)


def small_config() -> Any:
    """Two groups below the channel's, and a value in each."""
    child = build_group("Admins", {"v": b"1"}, {}, {"inner": build_group("Admins", {"w": b"1"}, {}, {})})
    return configtx_pb2.Config(sequence=7, channel_group=build_group("Admins", {"top": b"1"}, {}, {"child": child}))


def change(config: Any, edit: Callable[[Any], object]) -> Any:
    target = configtx_pb2.Config()
    target.CopyFrom(config)
    edit(target.channel_group)
    return update.compute("care", config, target)


def set_inner(group: Any, value: bytes = b"2") -> None:
    group.groups["child"].groups["inner"].values["w"].value = value


def test_every_changed_element_is_put_before_the_policy_that_guards_it() -> None:
    def edit(group: Any) -> None:
        set_inner(group)
        group.groups["child"].groups["new"].CopyFrom(build_group("Admins", {"x": b"1"}, {}, {}))
        group.values["top"].value = b"2"

    config = small_config()
    config.channel_group.values["top"].mod_policy = "/Channel/child/Admins"
    asked: list[tuple[str, str]] = []
    update.apply(config, change(config, edit), lambda *pair: asked.append(pair))
    assert sorted(asked) == [
        ("[Group]  /Channel/child", "/Channel/child/Admins"),
        ("[Value]  /Channel/child/inner/w", "/Channel/child/inner/Admins"),
        ("[Value]  /Channel/top", "/Channel/child/Admins"),
    ]


def test_a_refusal_ends_the_update() -> None:
    def refuse(element: str, policy: str) -> None:
        raise ConfigurationInvalid([f"policy for {element} not satisfied"])

    config = small_config()
    with pytest.raises(ConfigurationInvalid, match=r"\[Value\]  /Channel/child/inner/w not satisfied"):
        update.apply(config, change(config, set_inner), refuse)


def new_member_without_its_groups_version(computed: Any) -> None:
    """The group says that nothing about it changes, so nobody is asked for the new member."""
    child = computed.write_set.groups["child"]
    child.groups["stranger"].CopyFrom(build_group("Admins", {}, {}, {}))


def test_a_member_that_its_group_does_not_list_does_not_get_in() -> None:
    config = small_config()
    computed = change(config, set_inner)
    new_member_without_its_groups_version(computed)
    assert "stranger" not in update.apply(config, computed).channel_group.groups["child"].groups


def remove_mod_policy(computed: Any) -> None:
    computed.write_set.groups["child"].groups["inner"].values["w"].mod_policy = ""


def skip_a_version(computed: Any) -> None:
    computed.write_set.groups["child"].groups["inner"].values["w"].version = 5


def invent_a_version(computed: Any) -> None:
    computed.write_set.values["unknown"].CopyFrom(configtx_pb2.ConfigValue(version=3, mod_policy="Admins"))


def read_something_unknown(computed: Any) -> None:
    computed.read_set.values["unknown"].version = 0


def read_an_old_version(computed: Any) -> None:
    computed.read_set.groups["child"].version = 4


def change_nothing(computed: Any) -> None:
    computed.write_set.groups.clear()


def name_with_a_slash(computed: Any) -> None:
    computed.write_set.values["a/b"].CopyFrom(configtx_pb2.ConfigValue(mod_policy="Admins"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove_mod_policy, "invalid mod_policy for element [Value]  /Channel/child/inner/w: mod_policy not set"),
        (skip_a_version, "attempt to set key [Value]  /Channel/child/inner/w to version 5, but key is at version 0"),
        (invent_a_version, "attempted to set key [Value]  /Channel/unknown to version 3, but key does not exist"),
        (read_something_unknown, "existing config does not contain element for [Value]  /Channel/unknown"),
        (read_an_old_version, "requires that key [Group]  /Channel/child be at version 4, but it is currently at"),
        (change_nothing, "delta set was empty"),
        (name_with_a_slash, "illegal characters in key"),
    ],
)
def test_an_inconsistent_update_is_refused_in_fabrics_words(spoil: Callable[[Any], None], message: str) -> None:
    config = small_config()
    computed = change(config, set_inner)
    spoil(computed)
    with pytest.raises(ConfigurationInvalid) as caught:
        update.apply(config, computed)
    assert message in str(caught.value)


def test_elements_without_a_mod_policy_get_one_with_the_first_update_as_in_fabric() -> None:
    config = small_config()
    group = config.channel_group
    group.groups["Orderer"].CopyFrom(build_group("Admins", {"Capabilities": b"", "forgotten": b""}, {}, {}))
    group.groups["Orderer"].values["forgotten"].mod_policy = ""
    changed = update.apply(config, change(config, set_inner)).channel_group
    assert changed.groups["Orderer"].values["forgotten"].mod_policy == "Admins"
