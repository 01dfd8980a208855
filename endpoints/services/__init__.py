"""What can be done to the registry. The API, the admin and the commands all come through here.

Each change is checked, made and audited in one transaction, on behalf of a Principal.
"""

from endpoints.services.addresses import address_of
from endpoints.services.credentials import rotate_keys, set_secret
from endpoints.services.drains import drain
from endpoints.services.keys import create_api_key, revoke_api_key
from endpoints.services.maintenance import (
    change_maintenance,
    check_window,
    end_all_maintenance,
    end_maintenance,
    in_maintenance,
    maintained,
    plan_maintenance,
)
from endpoints.services.pauses import (
    disable,
    emergency_stop,
    enable,
    pause,
    pause_all,
    pause_interface,
    resume,
    resume_all,
    resume_interface,
)
from endpoints.services.registry import delete, save
from endpoints.services.retirement import end_retirement, retire, unretire
from endpoints.services.signing import create_signing_key, revoke_signing_key
from endpoints.services.trials import probe, test_credential

__all__ = [
    "address_of",
    "change_maintenance",
    "check_window",
    "create_api_key",
    "create_signing_key",
    "delete",
    "disable",
    "drain",
    "emergency_stop",
    "enable",
    "end_all_maintenance",
    "end_maintenance",
    "end_retirement",
    "in_maintenance",
    "maintained",
    "pause",
    "pause_all",
    "pause_interface",
    "plan_maintenance",
    "probe",
    "resume",
    "resume_all",
    "resume_interface",
    "retire",
    "revoke_api_key",
    "revoke_signing_key",
    "rotate_keys",
    "save",
    "set_secret",
    "test_credential",
    "unretire",
]
