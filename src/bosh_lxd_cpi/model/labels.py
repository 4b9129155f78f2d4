"""Configuration keys of instances and volumes, and properties of images, that the CPI writes on the server.

All keys of instances and volumes start with `user.bosh`. Metadata from BOSH becomes `user.bosh.<key>`. It cannot
overwrite the keys that the CPI relies on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

PREFIX = "user.bosh."
"""Prefix of all keys but those of a copy."""
DIRECTOR = "user.bosh.director_uuid"
"""UUID of the director that the resource was created for. BOSH's metadata has a `director` too: its name."""
CREATED_AT = "user.bosh.created_at"
"""Time of the creation."""
STATE = "user.bosh.state"
"""State of a VM: one of the three below."""
CREATING, CREATED, FAILED = "creating", "created", "failed"
"""create_vm is running or was interrupted; the VM is complete; the VM is incomplete and kept for inspection."""
DISK_OPTIONS = "user.bosh.disk_options"
"""Names of the volume options that the cloud_properties of a disk set, separated by spaces."""
COPY, COPIED = "user.bosh_copy", "user.bosh_copied"
"""Number of this copy of a volume, and number of the copy that was made from it. Metadata cannot have such a key."""

IMAGE_STEMCELL, IMAGE_DIRECTOR = "bosh.stemcell", "bosh.director"
"""Properties of images: name and version of the stemcell, and the UUID of the director that uploaded it. Images of the
Go CPI have none of them."""

RESERVED = (DIRECTOR, STATE, DISK_OPTIONS)
"""Keys that cleanup and update_disk rely on. Metadata of such a name is written as `user.bosh.tag.<key>`."""
MAX_VALUE_LENGTH = 8192
"""Characters of one metadata value."""
MAX_TOTAL_LENGTH = 128 << 10
"""Characters of all metadata values. Incus 7 accepts requests of 1 MiB, and JSON may need six bytes per character."""


def owner_labels(director: str, created_at: str) -> dict[str, str]:
    """Return the keys that identify the owner of an instance or volume."""
    return {DIRECTOR: director, CREATED_AT: created_at}


def with_disk_options(options: Mapping[str, str]) -> dict[str, str]:
    """Return volume options from cloud_properties, with the key that lists them."""
    return {**options, DISK_OPTIONS: " ".join(sorted(options))} if options else {}


def disk_options(config: Mapping[str, str]) -> set[str]:
    """Return the names of the options of a disk that come from its cloud_properties."""
    return set(config.get(DISK_OPTIONS, "").split())


def metadata_labels(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return metadata from BOSH, values of any JSON type, as keys of an instance or volume.

    Values that are too long are cut off. None is left out. Characters that servers do not accept in keys become `_`.
    """
    labels: dict[str, str] = {}
    remaining = MAX_TOTAL_LENGTH
    for key, value in metadata.items():
        if value is not None:
            labels[_key(key)] = string = _string(value)[: min(MAX_VALUE_LENGTH, remaining)]
            remaining -= len(string)
    return labels


def metadata_of(config: Mapping[str, str]) -> dict[str, str]:
    """Return the values below `user.bosh.` of an instance's or volume's configuration, without this prefix."""
    return {key.removeprefix(PREFIX): value for key, value in config.items() if key.startswith(PREFIX)}


def image_director(image: Mapping[str, Any]) -> str | None:
    """Return the UUID of the director that uploaded an image, or None if this CPI did not upload it."""
    director: str | None = (image.get("properties") or {}).get(IMAGE_DIRECTOR)
    return director


def copy_number(config: Mapping[str, str], key: str) -> int:
    """Return the number that a volume has under the key COPY or COPIED, 0 without one."""
    return int(config.get(key, "0"))


def _key(key: str) -> str:
    label = PREFIX + "".join(character if character.isalnum() or character in "-_." else "_" for character in key)
    return f"{PREFIX}tag.{label.removeprefix(PREFIX)}" if label in RESERVED else label


def _string(value: Any) -> str:
    """Return a string without the parts that servers cut off or replace, so that it can be compared later."""
    if not isinstance(value, str):
        return json.dumps(value, sort_keys=True)
    return value.partition("\0")[0].encode("utf-8", "replace").decode()


def instance_of(metadata: Mapping[str, str]) -> tuple[str, str]:
    """Return deployment and instance. BOSH's metadata has other keys for VMs, for disks and for snapshots."""
    group = metadata.get("instance_group") or metadata.get("job") or metadata.get("compiling", "")
    index = next((metadata[key] for key in ("instance_index", "index", "instance_id", "id") if metadata.get(key)), "")
    instance = "/".join(filter(None, [group, index])) if group else ""
    return metadata.get("deployment", ""), instance
