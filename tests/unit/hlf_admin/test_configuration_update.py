"""Configuration updates: applying what was computed gives what was asked for."""

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
        target.values["number"].value = bytes([number])
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
    second.values["new"].value = b"new"
    config = configtx_pb2.Config(channel_group=first)
    computed = update.compute("care", config, configtx_pb2.Config(channel_group=second))
    changed = update.apply(config, computed)
    with pytest.raises(ConfigurationInvalid):
        update.apply(changed, computed)
