"""What a member is told once, at start. Pure values; where they come from (a file, flags, a test) is not known here."""

from __future__ import annotations

from dataclasses import dataclass, field

from .acknowledge import OnAckTimeout
from .links import WINDOW_BYTES
from .seeding import SEED_CHUNK_BYTES

ACK_QUEUE_MAX = 200_000  # writes of one database that wait for their acknowledgement
SEED_BYTES_MIN = 64 * 2**20  # an empty standby is sent the checkpoint's files rather than the log from this size on


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberConfig:
    """peers: every other node of the cluster by name; named_primary counts only while there is no role.json."""

    name: str
    cluster: str
    peers: dict[str, str] = field(default_factory=dict)
    named_primary: str = ""
    acks: int = 0
    ack_timeout_s: float = 10.0
    on_ack_timeout: OnAckTimeout = OnAckTimeout.BLOCK
    heartbeat_s: float = 0.5
    mark_interval_s: float = 10.0
    mark_timeout_s: float = 30.0
    window_bytes: int = WINDOW_BYTES
    seed_chunk_bytes: int = SEED_CHUNK_BYTES
    seed_bytes_min: int = SEED_BYTES_MIN
    ack_queue_max: int = ACK_QUEUE_MAX
    client_address: str = ""
    delay_s: int = 0  # this node, as a standby, stays so far behind its primary
    peer_delays_s: dict[str, int] = field(default_factory=dict)  # the same of peers, by name; a peer may say more in its Hello
