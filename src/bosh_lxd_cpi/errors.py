"""The exceptions of this package. Each class is one error type of BOSH.

    CpiError                            Bosh::Clouds::CpiError
    ├── BadRequest
    ├── ConfigError
    ├── MethodNotImplemented            Bosh::Clouds::NotImplemented
    ├── NotSupported                    Bosh::Clouds::NotSupported
    └── CloudError                      Bosh::Clouds::CloudError
        ├── InvalidProperties
        ├── InvalidStemcell
        ├── VMNotFound                  Bosh::Clouds::VMNotFound
        ├── DiskNotFound                Bosh::Clouds::DiskNotFound
        ├── StemcellNotFound
        ├── VMCreationFailed            Bosh::Clouds::VMCreationFailed
        ├── DeadlineExceeded
        ├── ThrottleTimeout
        ├── LockUnavailable
        └── ServerError
            ├── NoDiskSpace             Bosh::Clouds::NoDiskSpace
            ├── Unreachable
            ├── NoResponse
            ├── UnexpectedResponse
            ├── OperationNotFound
            ├── TlsHandshakeFailed
            ├── CertificateMismatch
            ├── CertificateNotVerified
            ├── CertificateNotTrusted
            ├── Forbidden
            ├── NotFound
            ├── AlreadyExists
            ├── AlreadyInState
            ├── PreconditionFailed
            ├── Busy
            ├── MemberUnavailable
            ├── InUse
            ├── Ambiguous
            ├── AddressTaken
            └── AgentNotRunning

    Interrupted                         a signal stopped the call; a BaseException, so that no handler swallows it

The types are those of the director's lib/clouds/errors.rb. The director maps any other type to UnknownError.
"""

from __future__ import annotations


class CpiError(Exception):
    """An error with a brief, a detail for the log, and a code with fields that selects the hint in `hints`.

    `brief` says what happened to which object. `code` is a key of `hints.HINTS`, or empty. `fields` are strings that
    fill the placeholders of the hint.
    """

    type = "Bosh::Clouds::CpiError"
    ok_to_retry = False
    transient = False
    """Whether the same call may succeed later without any change by an operator."""

    def __init__(self, brief: str, *, detail: str = "", code: str = "", **fields: str) -> None:
        super().__init__(brief)
        self.brief, self.detail, self.code, self.fields = brief, detail, code, fields


class BadRequest(CpiError):
    """The request is malformed. Only BOSH and people at a terminal start `bin/cpi`: check the caller."""


class ConfigError(CpiError):
    """The configuration file or the context of the request is wrong. `bin/doctor` lists every invalid property."""


class MethodNotImplemented(CpiError):
    """The method does not exist. BOSH is newer than the CPI: upgrade the release."""

    type = "Bosh::Clouds::NotImplemented"


class NotSupported(CpiError):
    """BOSH continues in another way: for example, it copies a disk that cannot shrink."""

    type = "Bosh::Clouds::NotSupported"


class CloudError(CpiError):
    """Something on the server prevents the call. The end of the message says what to do."""

    type = "Bosh::Clouds::CloudError"


class InvalidProperties(CloudError):
    """cloud_properties or networks are invalid. The message names the property: correct the cloud-config."""


class InvalidStemcell(CloudError):
    """The tarball or the disk image of the stemcell is invalid."""


class VMNotFound(CloudError):
    """The VM does not exist. `bosh cloud-check` offers to recreate it."""

    type = "Bosh::Clouds::VMNotFound"


class DiskNotFound(CloudError):
    """The disk does not exist. Check whether it was deleted on the server, and run `bosh cloud-check`."""

    type = "Bosh::Clouds::DiskNotFound"


class StemcellNotFound(CloudError):
    """The stemcell of create_vm does not exist. Upload it again: `bosh upload-stemcell --fix`."""


class VMCreationFailed(CloudError):
    """The VM was not created, and its resources are deleted. The director retries only this type, if it allows it."""

    type = "Bosh::Clouds::VMCreationFailed"

    def __init__(self, brief: str, *, ok_to_retry: bool, detail: str = "", code: str = "", **fields: str) -> None:
        super().__init__(brief, detail=detail, code=code, **fields)
        self.ok_to_retry = ok_to_retry


class DeadlineExceeded(CloudError):
    """The time for the whole call is used up. Check whether the server is overloaded."""

    transient = True


class ThrottleTimeout(CloudError):
    """No throttle slot became free in time. `bin/doctor --locks` lists the calls that hold slots."""

    transient = True


class LockUnavailable(CloudError):
    """A lock file cannot be used."""


class ServerError(CloudError):
    """The server refused a request, or the request failed. The log of the server shows more."""


class NoDiskSpace(ServerError):
    """The pool, the server's disk or the limit of the project is full."""

    type = "Bosh::Clouds::NoDiskSpace"


class Unreachable(ServerError):
    """The request was not delivered. Nothing was changed."""

    transient = True


class NoResponse(ServerError):
    """The connection broke, and the request may have been done. Run the task again: the CPI checks that first."""

    transient = True


class UnexpectedResponse(ServerError):
    """A response lacks a field, or is not from LXD or Incus. Check that `server.url` is not a proxy."""


class OperationNotFound(ServerError):
    """The server lost the operation, which may have succeeded. Run the task again: the CPI checks that first."""

    transient = True


class TlsHandshakeFailed(ServerError):
    """The server and the CPI have no TLS version or cipher in common, or the server does not use TLS."""


class CertificateMismatch(ServerError):
    """The server's certificate is not the pinned one."""


class CertificateNotVerified(ServerError):
    """The server's certificate cannot be verified."""


class CertificateNotTrusted(ServerError):
    """The server does not trust the client certificate."""


class Forbidden(ServerError):
    """The server does not allow the request for the client certificate."""


class NotFound(ServerError):
    """The object in the request does not exist. Check whether it was deleted on the server: `bosh cloud-check`."""


class AlreadyExists(ServerError):
    """The name is in use. Run the task again; if the error stays, run `bin/cleanup`."""


class AlreadyInState(ServerError):
    """The instance is running or stopped already. The CPI treats this as success."""


class PreconditionFailed(ServerError):
    """The object changed after it was read (If-Match). Another client changes it: run the task again."""

    transient = True


class Busy(ServerError):
    """Another operation uses the object or the database. The CPI waits for half a minute before this error."""

    transient = True


class MemberUnavailable(ServerError):
    """The cluster member that has the object is offline. The other members refuse the request. Nothing was changed."""

    transient = True


class InUse(ServerError):
    """An instance uses the volume. Detach the disk first."""


class Ambiguous(ServerError):
    """Several cluster members have a volume of this name."""


class AddressTaken(ServerError):
    """Another NIC on the server has this address."""

    transient = True


class AgentNotRunning(ServerError):
    """The change was made, but the guest could not be notified. The CPI treats this as success."""


class Interrupted(BaseException):
    """A signal stopped the call. BOSH receives it as a CloudError."""

    type = CloudError.type

    def __init__(self, signal: str) -> None:
        super().__init__(f"the call was stopped by {signal}")
        self.signal = signal
