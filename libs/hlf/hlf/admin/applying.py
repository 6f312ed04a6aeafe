"""What an orderer makes of a configuration update (`common/configtx/update.go`, `configmap.go`).

A configuration is looked at as a flat map of its elements, keyed as Fabric names them in its errors:
`[Group]  /Channel/Application`, `[Value]  /Channel/Orderer/BatchSize`, `[Policy] /Channel/Admins`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, NoReturn

from fabric_protos.common import configtx_pb2

from hlf.admin.errors import ConfigurationInvalid

Authorize = Callable[[str, str], None]
"""(element, path of the policy that must allow its change); raises what makes the update fail."""

ROOT = "/Channel"
_GROUP, _VALUE, _POLICY = "[Group]  ", "[Value]  ", "[Policy] "
_NAME = re.compile(r"[a-zA-Z0-9.-]{1,249}")
_REPAIRING = f"{_VALUE}{ROOT}/Orderer/Capabilities"
_REPAIRED_MOD_POLICY = "Admins"


class _Element(NamedTuple):
    """A group, value or policy; `group_path` is where a relative mod_policy is looked up."""

    message: Any
    group_path: str

    @property
    def mod_policy_path(self) -> str:
        policy = self.message.mod_policy
        return policy if policy.startswith("/") else f"{self.group_path}/{policy}"


_Elements = Mapping[str, _Element]


def apply(config: Any, update: Any, authorize: Authorize | None = None) -> Any:
    """The `common.Config` after a `common.ConfigUpdate`, its sequence one higher.

    `authorize` is asked for every existing element that changes. ConfigurationInvalid, in Fabric's words, when the
    update was computed from another configuration, when it would change nothing or when it is not consistent.
    """
    current = _elements(config.channel_group, "configuration")
    read = _elements(update.read_set, "ReadSet")
    write = _elements(update.write_set, "WriteSet")
    _verify_read_set(current, read)
    changed = {key: element for key, element in write.items() if not _is_read(element, read.get(key))}
    _verify_changes(current, changed, authorize)
    proposed = {**current, **changed}
    return configtx_pb2.Config(sequence=config.sequence + 1, channel_group=_rebuilt(ROOT, proposed))


def _elements(group: Any, what: str) -> dict[str, _Element]:
    found = {}
    for prefix, path, name, element in _walk(group, "", ROOT.removeprefix("/")):
        if _NAME.fullmatch(name) is None:
            _fail(f"error mapping {what}: illegal characters in key: {prefix}: config ID '{name}'")
        found[f"{prefix}{path}/{name}"] = element
    return found


def _walk(group: Any, path: str, name: str) -> Iterator[tuple[str, str, str, _Element]]:
    own = f"{path}/{name}"
    yield _GROUP, path, name, _Element(group, own)
    for key, value in group.values.items():
        yield _VALUE, own, key, _Element(value, own)
    for key, policy in group.policies.items():
        yield _POLICY, own, key, _Element(policy, own)
    for key, child in group.groups.items():
        yield from _walk(child, own, key)


def _is_read(element: _Element, read: _Element | None) -> bool:
    return read is not None and read.message.version == element.message.version


def _verify_read_set(current: _Elements, read: _Elements) -> None:
    for key, element in read.items():
        if key not in current:
            _fail(
                f"error validating ReadSet: existing config does not contain element for {key} but was in the read set"
            )
        wanted, found = element.message.version, current[key].message.version
        if wanted != found:
            _fail(
                f"error validating ReadSet: proposed update requires that key {key} be at version {wanted}, but it is "
                f"currently at version {found}"
            )


def _verify_changes(current: _Elements, changed: _Elements, authorize: Authorize | None) -> None:
    if not changed:
        _fail("error validating DeltaSet: delta set was empty -- update would have no effect")
    for key, element in changed.items():
        _verify_mod_policy(key, element.message.mod_policy)
        version = element.message.version
        existing = current.get(key)
        if existing is None:
            if version != 0:
                _fail(
                    f"error validating DeltaSet: attempted to set key {key} to version {version}, but key does not "
                    "exist"
                )
            continue
        if version != existing.message.version + 1:
            _fail(
                f"error validating DeltaSet: attempt to set key {key} to version {version}, but key is at version "
                f"{existing.message.version}"
            )
        if authorize is not None:
            authorize(key, existing.mod_policy_path)


def _verify_mod_policy(key: str, mod_policy: str) -> None:
    if not mod_policy:
        _fail(f"error validating DeltaSet: invalid mod_policy for element {key}: mod_policy not set")
    for position, part in enumerate(mod_policy.removeprefix("/").split("/")):
        if _NAME.fullmatch(part) is None:
            _fail(
                f"error validating DeltaSet: invalid mod_policy for element {key}: path element at {position} is "
                f"invalid: config ID '{part}' contains illegal characters"
            )


def _rebuilt(path: str, elements: _Elements) -> Any:
    """The group at `path`: it has the members that its own element lists, so nothing gets in without the group's
    version and policy."""
    listed = elements[_GROUP + path].message
    group = configtx_pb2.ConfigGroup(version=listed.version, mod_policy=listed.mod_policy)
    for name in listed.groups:
        group.groups[name].CopyFrom(_rebuilt(f"{path}/{name}", elements))
    for name in listed.values:
        group.values[name].CopyFrom(elements[f"{_VALUE}{path}/{name}"].message)
    for name in listed.policies:
        group.policies[name].CopyFrom(elements[f"{_POLICY}{path}/{name}"].message)
    if _REPAIRING in elements:
        _repair(group)
    return group


def _repair(group: Any) -> None:
    """As Fabric does with channels that have capabilities: what had no mod_policy gets one."""
    for element in (group, *group.values.values(), *group.policies.values()):
        element.mod_policy = element.mod_policy or _REPAIRED_MOD_POLICY


def _fail(problem: str) -> NoReturn:
    raise ConfigurationInvalid([problem])
