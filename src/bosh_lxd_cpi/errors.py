"""The exceptions of this package. Each class is one error type of BOSH.

    CpiError                            Bosh::Clouds::CpiError
    ├── BadRequest                      the request or its arguments are malformed
    ├── ConfigError                     the configuration file or the request's context is wrong
    ├── MethodNotImplemented            Bosh::Clouds::NotImplemented
    ├── NotSupported                    Bosh::Clouds::NotSupported: BOSH falls back to another way
    └── CloudError                      Bosh::Clouds::CloudError
        ├── InvalidProperties           cloud_properties or networks are invalid
        ├── InvalidStemcell             the stemcell's tarball or disk image is invalid
        ├── VMNotFound                  Bosh::Clouds::VMNotFound
        ├── DiskNotFound                Bosh::Clouds::DiskNotFound
        ├── StemcellNotFound            the stemcell of create_vm does not exist
        ├── VMCreationFailed            Bosh::Clouds::VMCreationFailed, the only type that the director retries
        ├── DeadlineExceeded            the time for the whole call is used up
        ├── ThrottleTimeout             no throttle slot became free in time
        ├── LockUnavailable             a lock file cannot be used
        └── ServerError                 the server refused a request, or the request failed
            ├── NoDiskSpace             Bosh::Clouds::NoDiskSpace
            ├── Unreachable             the request was not delivered: nothing was done
            ├── NoResponse              the request may have been delivered: it may have been done
            ├── UnexpectedResponse      a response lacks a field, or has another shape than documented
            ├── OperationNotFound       the server no longer knows the operation: it may have succeeded or failed
            ├── TlsHandshakeFailed      the server speaks no TLS that this client accepts
            ├── CertificateMismatch     the server's certificate is not the pinned one
            ├── CertificateNotVerified  the server's certificate cannot be verified
            ├── CertificateNotTrusted   the server does not trust the client certificate
            ├── Forbidden               the client certificate may not do this
            ├── NotFound                the object named in the path does not exist
            ├── AlreadyExists           the name is taken
            ├── AlreadyInState          the instance is already running or already stopped
            ├── PreconditionFailed      If-Match failed: the object changed since it was read
            ├── Busy                    another operation holds the object, or the database
            ├── InUse                   an instance uses the volume
            ├── Ambiguous               several cluster members have a volume of this name
            ├── AddressTaken            another NIC on the server has this address
            └── AgentNotRunning         the change was made, but the guest could not be notified

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
    pass


class ConfigError(CpiError):
    pass


class MethodNotImplemented(CpiError):
    type = "Bosh::Clouds::NotImplemented"


class NotSupported(CpiError):
    type = "Bosh::Clouds::NotSupported"


class CloudError(CpiError):
    type = "Bosh::Clouds::CloudError"


class InvalidProperties(CloudError):
    pass


class InvalidStemcell(CloudError):
    pass


class VMNotFound(CloudError):
    type = "Bosh::Clouds::VMNotFound"


class DiskNotFound(CloudError):
    type = "Bosh::Clouds::DiskNotFound"


class StemcellNotFound(CloudError):
    pass


class VMCreationFailed(CloudError):
    type = "Bosh::Clouds::VMCreationFailed"

    def __init__(self, brief: str, *, ok_to_retry: bool, detail: str = "", code: str = "", **fields: str) -> None:
        super().__init__(brief, detail=detail, code=code, **fields)
        self.ok_to_retry = ok_to_retry


class DeadlineExceeded(CloudError):
    transient = True


class ThrottleTimeout(CloudError):
    transient = True


class LockUnavailable(CloudError):
    pass


class ServerError(CloudError):
    pass


class NoDiskSpace(ServerError):
    type = "Bosh::Clouds::NoDiskSpace"


class Unreachable(ServerError):
    transient = True


class NoResponse(ServerError):
    transient = True


class UnexpectedResponse(ServerError):
    pass


class OperationNotFound(ServerError):
    transient = True


class TlsHandshakeFailed(ServerError):
    pass


class CertificateMismatch(ServerError):
    pass


class CertificateNotVerified(ServerError):
    pass


class CertificateNotTrusted(ServerError):
    pass


class Forbidden(ServerError):
    pass


class NotFound(ServerError):
    pass


class AlreadyExists(ServerError):
    pass


class AlreadyInState(ServerError):
    pass


class PreconditionFailed(ServerError):
    transient = True


class Busy(ServerError):
    transient = True


class InUse(ServerError):
    pass


class Ambiguous(ServerError):
    pass


class AddressTaken(ServerError):
    transient = True


class AgentNotRunning(ServerError):
    pass


class Interrupted(BaseException):
    """A signal stopped the call. BOSH receives it as a CloudError."""

    type = CloudError.type

    def __init__(self, signal: str) -> None:
        super().__init__(f"the call was stopped by {signal}")
