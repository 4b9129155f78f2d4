"""Typed views of the server's documents.

A view keeps the whole document, with keys that it does not know, so that a PUT can send it back. Reading a field that
is missing or has another type raises UnexpectedResponse with the endpoint and the name of the field.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast, overload

from bosh_lxd_cpi.errors import UnexpectedResponse
from bosh_lxd_cpi.lxd.envelope import Response, shape

Value = TypeVar("Value")
REPLACEABLE = ("architecture", "config", "description", "ephemeral", "profiles", "stateful")
"""The fields of an instance that PUT takes, besides its devices."""


class Field(Generic[Value]):
    """A field of a document. Without a default it is required; with one, null and a missing field mean the default.

    `of` has the types of the values in it: one type for each level of objects or arrays.
    """

    def __init__(self, kind: type[Value], default: Value | None = None, *, of: tuple[type, ...] = ()) -> None:
        self._default, self._kinds = default, (kind, *of)

    def __set_name__(self, owner: type[Resource], name: str) -> None:
        self._name = name.rstrip("_")

    @overload
    def __get__(self, resource: None, owner: type[Resource]) -> Field[Value]: ...

    @overload
    def __get__(self, resource: Resource, owner: type[Resource]) -> Value: ...

    def __get__(self, resource: Resource | None, owner: type[Resource]) -> Value | Field[Value]:
        if resource is None:
            return self
        value: Any = resource.document.get(self._name)
        if value is None and self._default is not None:
            return self._default
        if problem := _mismatch(value, self._kinds):
            raise UnexpectedResponse(f"{resource.endpoint}: the field {self._name} of the response {problem}")
        return cast("Value", value)


def _mismatch(value: Any, kinds: tuple[type, ...]) -> str:
    """Return how a value differs from the types of its levels, or an empty string."""
    if not isinstance(value, kinds[0]):
        return f"is {shape(value)}, not {shape(kinds[0]())}"
    items: Any = value.values() if isinstance(value, dict) else value
    problems = (_mismatch(item, kinds[1:]) for item in items) if kinds[1:] else iter(())
    problem = next(filter(None, problems), "")
    return f"has a value that {problem}" if problem.startswith("is ") else problem


class Resource:
    """A document of the server. `endpoint` is the path that it came from, `etag` its version or empty."""

    def __init__(self, document: Any, *, endpoint: str, etag: str = "") -> None:
        if not isinstance(document, dict):
            raise UnexpectedResponse(f"{endpoint}: the response is {shape(document)}, not an object")
        self.document: dict[str, Any] = document
        self.endpoint, self.etag = endpoint, etag


Kind = TypeVar("Kind", bound=Resource)


def single(kind: type[Kind], response: Response, endpoint: str) -> Kind:
    """Return the view of a response with one document."""
    return kind(response.metadata, endpoint=endpoint, etag=response.etag)


def several(kind: type[Kind], response: Response, endpoint: str) -> list[Kind]:
    """Return the views of a response with an array of documents."""
    documents = response.metadata if response.metadata is not None else []
    if not isinstance(documents, list):
        raise UnexpectedResponse(f"{endpoint}: the response is {shape(documents)}, not an array")
    return [kind(document, endpoint=endpoint) for document in documents]


class Server(Resource):
    """GET /1.0."""

    auth = Field(str, "")
    environment = Field(dict, {})
    config = Field(dict, {}, of=(str,))
    api_extensions = Field(list, [], of=(str,))

    @property
    def certificate(self) -> str:
        """PEM text of the server's certificate."""
        certificate = self.environment.get("certificate")
        if not isinstance(certificate, str):
            raise UnexpectedResponse(f"{self.endpoint}: the field environment.certificate of the response is missing")
        return certificate


class Instance(Resource):
    name = Field(str)
    status = Field(str)
    description = Field(str, "")
    location = Field(str, "")
    created_at = Field(str, "")
    config = Field(dict, {}, of=(str,))
    expanded_config = Field(dict, {}, of=(str,))
    devices = Field(dict, {}, of=(dict, str))
    expanded_devices = Field(dict, {}, of=(dict, str))

    @property
    def is_readable(self) -> bool:
        """Whether the cluster member of the instance responds. Otherwise the list has little more than its name."""
        return self.document.get("config") is not None

    def replacement(self, devices: dict[str, Any]) -> dict[str, Any]:
        """Return the body of a PUT that changes nothing but the devices."""
        missing = [key for key in REPLACEABLE if key not in self.document]
        if missing:
            raise UnexpectedResponse(f"{self.endpoint}: the field {missing[0]} of the response is missing")
        return {**{key: self.document[key] for key in REPLACEABLE}, "devices": devices}


class Volume(Resource):
    name = Field(str)
    type = Field(str, "custom")
    content_type = Field(str, "")
    description = Field(str, "")
    location = Field(str, "")
    created_at = Field(str, "")
    config = Field(dict, {}, of=(str,))
    used_by = Field(list, [], of=(str,))

    @property
    def users(self) -> list[str]:
        """Names of the instances that use the volume, running or stopped."""
        paths = [str(url).partition("?")[0] for url in self.used_by]
        return [path.rsplit("/", 1)[1] for path in paths if "/instances/" in path or "/virtual-machines/" in path]


class Snapshot(Resource):
    name = Field(str)
    description = Field(str, "")
    created_at = Field(str, "")


class Image(Resource):
    fingerprint = Field(str)
    type = Field(str, "")
    size = Field(int, 0)
    uploaded_at = Field(str, "")
    properties = Field(dict, {}, of=(str,))
    aliases = Field(list, [], of=(dict,))

    @property
    def alias_descriptions(self) -> dict[str, str]:
        """Descriptions of the image's aliases by name."""
        return {str(alias.get("name", "")): str(alias.get("description", "")) for alias in self.aliases}

    @property
    def alias_names(self) -> list[str]:
        """Names of the image's aliases."""
        return list(self.alias_descriptions)


class ImageAlias(Resource):
    target = Field(str)
    description = Field(str, "")


class Network(Resource):
    name = Field(str)
    type = Field(str, "")
    status = Field(str, "")
    managed = Field(bool, False)
    config = Field(dict, {}, of=(str,))


class StoragePool(Resource):
    name = Field(str)
    driver = Field(str, "")
    status = Field(str, "")
    config = Field(dict, {}, of=(str,))
    locations = Field(list, [], of=(str,))

    @property
    def is_readable(self) -> bool:
        """Whether the client certificate may read the configuration. Restricted certificates may not."""
        return self.document.get("config") is not None


class PoolSpace(Resource):
    space = Field(dict, {}, of=(int,))

    @property
    def total(self) -> int:
        """Bytes, or 0 if the driver does not know."""
        return int(self.space.get("total", 0))

    @property
    def free(self) -> int:
        """Bytes."""
        return max(0, self.total - int(self.space.get("used", 0)))


class Project(Resource):
    name = Field(str)
    config = Field(dict, {}, of=(str,))


class Profile(Resource):
    name = Field(str)
    config = Field(dict, {}, of=(str,))
    devices = Field(dict, {}, of=(dict, str))


class ClusterMember(Resource):
    server_name = Field(str)
    url = Field(str, "")
    status = Field(str, "")
    message = Field(str, "")
    roles = Field(list, [], of=(str,))
    groups = Field(list, [], of=(str,))

    @property
    def is_online(self) -> bool:
        return self.status == "Online"

    @property
    def is_evacuated(self) -> bool:
        return self.status == "Evacuated"


class Operation(Resource):
    """An operation in the background."""

    id = Field(str)
    status = Field(str, "")
    status_code = Field(int, 0)
    err = Field(str, "")
    err_code = Field(int, 0)
    metadata = Field(dict, {})
    resources = Field(dict, {}, of=(list, str))
    class_ = Field(str, "")

    @property
    def path(self) -> str:
        """Path of the operation."""
        return f"/1.0/operations/{self.id}"

    @property
    def object_urls(self) -> list[str]:
        """URLs of the objects that the operation works on. LXD 6.8 and later have one URL in the metadata instead."""
        urls = [str(url) for group in self.resources.values() for url in group]
        return [*urls, str(self.metadata.get("entity_url") or "")]
