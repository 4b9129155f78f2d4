"""What can go wrong, by the type that BOSH is told.

    CpiError                       Bosh::Clouds::CpiError
    ├── BadRequest                 not a request, or arguments that no BOSH sends
    ├── ConfigError                the configuration file or the context overlay
    ├── MethodNotImplemented       Bosh::Clouds::NotImplemented
    ├── NotSupported               Bosh::Clouds::NotSupported: BOSH falls back to another way
    └── CloudError                 Bosh::Clouds::CloudError
        ├── InvalidProperties      cloud_properties or networks that cannot be served
        ├── VMNotFound             Bosh::Clouds::VMNotFound
        ├── DiskNotFound           Bosh::Clouds::DiskNotFound
        ├── StemcellNotFound       create_vm from a stemcell that is gone
        ├── VMCreationFailed       Bosh::Clouds::VMCreationFailed, the one type the director retries
        ├── DeadlineExceeded       the time for the whole call is used up
        ├── Interrupted            SIGTERM or SIGINT
        ├── ThrottleTimeout        no slot became free
        └── ServerError            what the server answered
            ├── NoDiskSpace        Bosh::Clouds::NoDiskSpace
            ├── Unreachable        not delivered: nothing was done
            ├── NoResponse         delivered, perhaps: it may have been done
            ├── Untrusted          we do not believe the server, it does not know our certificate, or it forbids this
            ├── NotFound           the object named in the path
            ├── AlreadyExists      a name that is taken
            ├── AlreadyInState     "already running", "already stopped"
            ├── PreconditionFailed If-Match failed: somebody else changed the object
            ├── Busy               another operation holds the object, or the database
            ├── InUse              the volume has a user
            ├── Ambiguous          several cluster members have a volume of this name
            ├── AddressTaken       another NIC on the server has this address
            └── AgentNotRunning    the change was made, the guest just could not be told

The types are those of the director's lib/clouds/errors.rb; any other type becomes UnknownError there.
"""

from __future__ import annotations


class CpiError(Exception):
    """Carries a brief (what happened to which object), a hint (what to do) and a detail (for the log only)."""

    type = "Bosh::Clouds::CpiError"
    ok_to_retry = False
    transient = False
    """Whether the same call may succeed later without anybody mending anything."""

    def __init__(self, brief: str, *, detail: str = "", hint: str = "") -> None:
        super().__init__(brief)
        self.brief, self.detail, self.hint = brief, detail, hint

    @property
    def message(self) -> str:
        """One text for BOSH: the brief, then the hint."""
        return f"{self.brief.rstrip('.')}. {self.hint}" if self.hint else self.brief


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


class VMNotFound(CloudError):
    type = "Bosh::Clouds::VMNotFound"


class DiskNotFound(CloudError):
    type = "Bosh::Clouds::DiskNotFound"


class StemcellNotFound(CloudError):
    pass


class VMCreationFailed(CloudError):
    type = "Bosh::Clouds::VMCreationFailed"

    def __init__(self, brief: str, *, detail: str = "", hint: str = "", ok_to_retry: bool) -> None:
        super().__init__(brief, detail=detail, hint=hint)
        self.ok_to_retry = ok_to_retry


class DeadlineExceeded(CloudError):
    transient = True


class Interrupted(CloudError):
    transient = True


class ThrottleTimeout(CloudError):
    transient = True


class ServerError(CloudError):
    pass


class NoDiskSpace(ServerError):
    type = "Bosh::Clouds::NoDiskSpace"


class Unreachable(ServerError):
    transient = True


class NoResponse(ServerError):
    transient = True


class Untrusted(ServerError):
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
