"""The difference between two channel configurations, and what becomes of it.

`compute` says what must be signed to come from one configuration to another, as `internal/configtxlator/update` does;
`apply` is its inverse and what an orderer does with an update (`common/configtx/update.go`). An element's version
counts its changes: a changed element is sent with the next version and its mod_policy; a group whose members change
lists those that stay by version alone.
"""

from typing import Any

from fabric_protos.common import configtx_pb2

from hlf.admin.applying import apply
from hlf.admin.errors import ConfigurationInvalid

__all__ = ["apply", "changed_elements", "compute"]


def compute(channel: str, original: Any, updated: Any) -> Any:
    """The `common.ConfigUpdate` that turns `common.Config` `original` into `updated` (whose versions are ignored).

    ConfigurationInvalid when they do not differ.
    """
    changed, read_set, write_set = _group_update(original.channel_group, updated.channel_group)
    if not changed:
        raise ConfigurationInvalid(["the configuration is already as asked for"])
    return configtx_pb2.ConfigUpdate(channel_id=channel, read_set=read_set, write_set=write_set)


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
