"""Replication: one log, shipped byte for byte from a primary to its warm standbys.

`Member` is one node's part in a cluster; it is given an engine, a `Dial`, and every link that peers dialled. Everything
that decides is pure (matching, acknowledge, roles, the two sessions, seeding, tails); leading, following and new_reign
carry bytes between a link and the engine and decide nothing.
"""

from .acknowledge import OnAckTimeout
from .alarms import Alarm, AlarmKind
from .links import MESSAGE_BYTES_MAX, Dial, MessageLink
from .member import Member
from .phases import Phase
from .roles import ROLE_FILE, Role, RoleState, read_role
from .settings import MemberConfig

__all__ = [
    "MESSAGE_BYTES_MAX",
    "ROLE_FILE",
    "Alarm",
    "AlarmKind",
    "Dial",
    "Member",
    "MemberConfig",
    "MessageLink",
    "OnAckTimeout",
    "Phase",
    "Role",
    "RoleState",
    "read_role",
]
