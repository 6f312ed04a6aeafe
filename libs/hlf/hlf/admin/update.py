"""The difference between two channel configurations, and what becomes of it.

`compute` says what must be signed to come from one configuration to another, as `internal/configtxlator/update` does;
`apply` is its inverse and what an orderer does with an update (`common/configtx/update.go`). An element's version
counts its changes: a changed element is sent with the next version and its mod_policy; a group whose members change
lists those that stay by version alone.
"""

from typing import Any

from fabric_protos.common import configtx_pb2

from hlf.admin.errors import ConfigurationInvalid


def compute(channel: str, original: Any, updated: Any) -> Any:
    """The `common.ConfigUpdate` that turns `common.Config` `original` into `updated` (whose versions are ignored).

    ConfigurationInvalid when they do not differ.
    """
    changed, read_set, write_set = _group_update(original.channel_group, updated.channel_group)
    if not changed:
        raise ConfigurationInvalid(["the configuration is already as asked for"])
    return configtx_pb2.ConfigUpdate(channel_id=channel, read_set=read_set, write_set=write_set)


def apply(config: Any, update: Any) -> Any:
    """The `common.Config` after `update`, its sequence one higher.

    ConfigurationInvalid when the update was computed from another configuration: an element that it read has another
    version by now, or one that it writes is not one version ahead. Says nothing about signatures.
    """
    _check_read(config.channel_group, update.read_set, "/Channel")
    group = _applied(config.channel_group, update.read_set, update.write_set, "/Channel")
    return configtx_pb2.Config(sequence=config.sequence + 1, channel_group=group)


def changed_elements(config: Any, update: Any) -> list[tuple[str, str]]:
    """What an update changes, as pairs of the element's path and the path of the policy that must allow it."""
    return list(_changes(config.channel_group, update.write_set, "/Channel", "/Channel"))


def _group_update(original: Any, updated: Any) -> tuple[bool, Any, Any]:
    read, write = configtx_pb2.ConfigGroup(version=original.version), configtx_pb2.ConfigGroup(version=original.version)
    same = configtx_pb2.ConfigGroup()
    members_changed = original.mod_policy != updated.mod_policy
    for kind in ("policies", "values"):
        members_changed |= _leaves(
            getattr(original, kind), getattr(updated, kind), *(getattr(g, kind) for g in (write, same))
        )
    members_changed |= _children(original.groups, updated.groups, read.groups, write.groups, same.groups)
    if members_changed:
        for target in (read, write):
            target.MergeFrom(same)
        write.version = original.version + 1
        write.mod_policy = updated.mod_policy
    changed = members_changed or any(len(part) for part in (write.policies, write.values, write.groups))
    return changed, read, write


def _leaves(original: Any, updated: Any, write: Any, same: Any) -> bool:
    for name, element in original.items():
        if name not in updated:
            continue
        if _content(element) == _content(updated[name]):
            same[name].version = element.version
        else:
            write[name].CopyFrom(updated[name])
            write[name].version = element.version + 1
    for name in set(updated) - set(original):
        write[name].CopyFrom(updated[name])
        write[name].version = 0
    return set(original) != set(updated)


def _children(original: Any, updated: Any, read: Any, write: Any, same: Any) -> bool:
    for name in set(original) & set(updated):
        changed, child_read, child_write = _group_update(original[name], updated[name])
        if changed:
            read[name].CopyFrom(child_read)
            write[name].CopyFrom(child_write)
        else:
            same[name].version = original[name].version
    for name in set(updated) - set(original):
        write[name].CopyFrom(_as_new(updated[name]))
    return set(original) != set(updated)


def _as_new(group: Any) -> Any:
    new = configtx_pb2.ConfigGroup()
    new.CopyFrom(group)
    new.version = 0
    for element in (*new.values.values(), *new.policies.values()):
        element.version = 0
    for name in list(new.groups):
        new.groups[name].CopyFrom(_as_new(group.groups[name]))
    return new


def _content(element: Any) -> Any:
    copy = type(element)()
    copy.CopyFrom(element)
    copy.version = 0
    return copy


def _check_read(group: Any, read_set: Any, path: str) -> None:
    if group.version != read_set.version:
        raise ConfigurationInvalid([f"{path} has changed since the update was made"])
    for kind in ("values", "policies"):
        current, read = getattr(group, kind), getattr(read_set, kind)
        for name, element in read.items():
            if name not in current or current[name].version != element.version:
                raise ConfigurationInvalid([f"{path}/{name} has changed since the update was made"])
    for name, child in read_set.groups.items():
        if name not in group.groups:
            raise ConfigurationInvalid([f"{path}/{name} is gone since the update was made"])
        _check_read(group.groups[name], child, f"{path}/{name}")


def _applied(current: Any, read: Any, write: Any, path: str) -> Any:
    """What is in the write set at the version that was read stays as it is; everything else there must be the next."""
    result = configtx_pb2.ConfigGroup()
    if write.version == read.version:
        result.CopyFrom(current)
    else:
        _check_next(current.version, write.version, path)
        result.version, result.mod_policy = write.version, write.mod_policy
    for kind in ("values", "policies"):
        _apply_leaves(*(getattr(group, kind) for group in (current, read, write, result)), path=path)
    for name, child in write.groups.items():
        child_path = f"{path}/{name}"
        if name in read.groups:
            result.groups[name].CopyFrom(_applied(current.groups[name], read.groups[name], child, child_path))
        else:
            _check_next(current.groups[name].version if name in current.groups else None, child.version, child_path)
            result.groups[name].CopyFrom(child)
    return result


def _apply_leaves(current: Any, read: Any, write: Any, result: Any, *, path: str) -> None:
    for name, element in write.items():
        if name in read and element.version == read[name].version:
            result[name].CopyFrom(current[name])
        else:
            _check_next(current[name].version if name in current else None, element.version, f"{path}/{name}")
            result[name].CopyFrom(element)


def _check_next(current: int | None, written: int, path: str) -> None:
    expected = 0 if current is None else current + 1
    if written != expected:
        raise ConfigurationInvalid([f"{path}: the update writes version {written}, and the next is {expected}"])


def _changes(current: Any, write: Any, path: str, policy_path: str) -> Any:
    if write.version != current.version:
        yield path, _policy_path(policy_path, current.mod_policy)
    for kind in ("values", "policies"):
        present = getattr(current, kind)
        for name, element in sorted(getattr(write, kind).items()):
            if name in present and element.version != present[name].version:
                yield f"{path}/{name}", _policy_path(policy_path, present[name].mod_policy)
    for name, child in sorted(write.groups.items()):
        if name in current.groups:
            yield from _changes(current.groups[name], child, f"{path}/{name}", f"{policy_path}/{name}")


def _policy_path(group_path: str, mod_policy: str) -> str:
    return mod_policy if mod_policy.startswith("/") else f"{group_path}/{mod_policy}"
