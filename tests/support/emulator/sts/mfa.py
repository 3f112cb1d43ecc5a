"""The codes of a user's device."""

from datetime import timedelta

from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call

CODE_LIVES = timedelta(seconds=90)


def passed_mfa(call: Call) -> bool:
    """Tell whether the call shows a code of the user's own device; a wrong one is refused, a right one used up."""
    serial, code = call.params.get("SerialNumber"), call.params.get("TokenCode")
    if serial is None and code is None:
        return False
    if serial is None or code is None:
        raise _failed(", must provide both MFA serial number and one time pass code.")
    if serial != call.signer.principal.arn.replace(":user/", ":mfa/"):
        raise _failed(
            ", unable to validate MFA code. "
            " Please verify your MFA serial number is valid and associated with this user."
        )
    shown_at = call.world.mfa_codes.pop((serial, code), None)
    if shown_at is None or call.now - shown_at > CODE_LIVES:
        raise _failed(" with invalid MFA one time pass code.")
    return True


def _failed(how: str) -> AwsError:
    return AwsError("AccessDenied", f"MultiFactorAuthentication failed{how}", 403)
