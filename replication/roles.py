"""Who may write: roles, epochs, and every transition between them. Pure: tables over plain values.

INV-4: at most one node accepts writes in an epoch; a higher epoch demotes a lower one; two primaries of one epoch both
freeze; what role.json says beats the configuration; and no row of these tables makes a primary out of a standby: only an
operator's promotion does (`promoted`). A fenced node becomes primary by no order but `unfenced`, of the epoch of which it was primary, and
only while it has heard of no other one.

role.json, one JSON object, replaced whole: {"format": 1, "role": "...", "epoch": n, "why": "..."}; during a switchover also
"hands_over_to": the node. Format 2 is that of a fenced node alone, which older programs must not take for anything else: it also has
"was": the role that the fence took from it, as far as it is not forgotten
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import Enum

from storage import DamagedRecord, NewerFormat

ROLE_FILE = "role.json"
ROLE_FORMAT = 2
ROLE_FORMAT_UNFENCED = 1
WHY_CHARS_MAX = 500  # of an operator's reason


class Role(Enum):
    """What a node is for all of its databases."""

    PRIMARY = "primary"
    STANDBY = "standby"
    FROZEN = "frozen"  # it met another primary of its own epoch: read-only until an operator promotes one of them
    FENCED = "fenced"  # an operator's order: it leads nobody, follows nobody, cannot be promoted, and is still read


class Tenure(Enum):
    """What a fenced node was, as far as `unfenced` must know."""

    PRIMARY = "primary"  # of its epoch, and has heard of no other primary since
    OTHER = "standby"


class Link(Enum):
    """What two nodes do for each other on one link."""

    LEAD = "this node ships its log to the peer"
    FOLLOW = "this node copies the peer's log"
    FENCE = "the peer is primary of a lower epoch: tell it"
    IDLE = "they only exchange heartbeats"


@dataclass(frozen=True, slots=True)
class RoleState:
    """epoch: the highest this node has heard of. why: for people. hands_over_to: the node that an operator chose to be primary after this
    one, while it has not taken the office. was: of a fenced node, and None of any other."""

    role: Role
    epoch: int
    why: str
    hands_over_to: str = ""
    was: Tenure | None = None


def on_open(persisted: RoleState | None, *, named_primary: bool, data_epoch: int) -> RoleState:
    """The role to begin with. data_epoch: the highest epoch in the histories on disk, 0 when there are none."""
    if persisted is not None:
        if data_epoch > persisted.epoch:
            if persisted.role is Role.FENCED:
                return replace(persisted, epoch=data_epoch, was=Tenure.OTHER)
            return RoleState(
                Role.STANDBY, data_epoch, f"the data is of epoch {data_epoch}, later than role.json's {persisted.epoch}"
            )
        return persisted
    if not named_primary:
        return RoleState(Role.STANDBY, data_epoch, "the configuration names another node as primary")
    if data_epoch > 1:
        return RoleState(
            Role.STANDBY,
            data_epoch,
            f"role.json is missing while the data is of epoch {data_epoch}: promote this node if it shall be primary",
        )
    return RoleState(Role.PRIMARY, 1, "the configuration names this node as primary")


def on_hear(mine: RoleState, peer: str, role: Role, epoch: int) -> RoleState:
    """My state after a peer told me its role and epoch; the same value when nothing changes."""
    if mine.role is Role.FENCED:
        rival = mine.was is Tenure.PRIMARY and epoch == mine.epoch and role in (Role.PRIMARY, Role.FROZEN)
        return replace(mine, epoch=max(epoch, mine.epoch), was=Tenure.OTHER) if epoch > mine.epoch or rival else mine
    if epoch > mine.epoch:
        why = f"heard of epoch {epoch} from {peer}"
        if mine.role is not Role.STANDBY:
            why += f", above epoch {mine.epoch} of which this node was {mine.role.value}"
        return RoleState(Role.STANDBY, epoch, why)
    if epoch == mine.epoch and mine.role is Role.PRIMARY and role in (Role.PRIMARY, Role.FROZEN):
        return RoleState(
            Role.FROZEN, epoch, f"{peer} is also primary of epoch {epoch}: promote one of the two, the other will follow"
        )
    return mine


def on_link(mine: RoleState, role: Role, epoch: int) -> Link:
    """What to do on a link, after on_hear: so the peer's epoch is never above mine."""
    assert epoch <= mine.epoch, "on_hear comes first"
    if role is Role.PRIMARY and epoch < mine.epoch:
        return Link.FENCE
    if mine.role is Role.PRIMARY and role is Role.STANDBY:
        return Link.LEAD
    if mine.role is Role.STANDBY and role is Role.PRIMARY:
        return Link.FOLLOW
    return Link.IDLE


def promoted(mine: RoleState, highest_heard: int) -> RoleState:
    """The operator's order: a new epoch above all that were ever seen."""
    assert mine.role is not Role.FENCED, "a fenced node is refused before"
    epoch = max(mine.epoch, highest_heard) + 1
    return RoleState(Role.PRIMARY, epoch, f"promoted by an operator after epoch {epoch - 1}")


def handed_over(mine: RoleState, to: str) -> RoleState:
    """The operator's order on a primary that has stopped: standby of the next epoch, in which nobody else can be primary yet."""
    assert mine.role is Role.PRIMARY, "only a primary has an office to hand over"
    return RoleState(Role.STANDBY, mine.epoch + 1, f"handed over to {to} by an operator after epoch {mine.epoch}", to)


def fenced(mine: RoleState, why: str) -> RoleState:
    """The operator's order: out of the cluster's work, in the same epoch."""
    was = mine.was or (Tenure.PRIMARY if mine.role is Role.PRIMARY else Tenure.OTHER)
    return RoleState(Role.FENCED, mine.epoch, f"fenced by an operator{f': {why}' if why else ''}", was=was)


def unfenced(mine: RoleState) -> RoleState:
    """The operator's order: back to work, as what it was."""
    assert mine.role is Role.FENCED, "only a fenced node is unfenced"
    if mine.was is Tenure.PRIMARY:
        return RoleState(Role.PRIMARY, mine.epoch, f"unfenced by an operator: nobody else took the office of epoch {mine.epoch}")
    return RoleState(Role.STANDBY, mine.epoch, "unfenced by an operator")


def rejoined(mine: RoleState) -> RoleState:
    """The operator's order on a fenced or frozen node, while another one leads: a standby from now on."""
    assert mine.role is not Role.PRIMARY, "a primary hands over first"
    if mine.role is Role.STANDBY:
        return mine
    return RoleState(Role.STANDBY, mine.epoch, f"rejoined by an operator, {mine.role.value} before")


def write_role(state: RoleState) -> bytes:
    form = ROLE_FORMAT if state.role is Role.FENCED else ROLE_FORMAT_UNFENCED
    value = {"format": form, "role": state.role.value, "epoch": state.epoch, "why": state.why}
    if state.hands_over_to:
        value["hands_over_to"] = state.hands_over_to
    if state.was is not None:
        value["was"] = state.was.value
    return json.dumps(value, indent=1).encode() + b"\n"


def read_role(data: bytes) -> RoleState:
    """Raises DamagedRecord or NewerFormat: a node that does not know its role must not start (INV-4)."""
    try:
        value = json.loads(data)
        form = int(value["format"])
        if form <= ROLE_FORMAT:
            role = Role(value["role"])
            was = Tenure(value["was"]) if role is Role.FENCED else None
            return RoleState(role, int(value["epoch"]), str(value["why"]), str(value.get("hands_over_to", "")), was)
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedRecord(
            f"{ROLE_FILE} cannot be read ({error}); without it this node cannot know whether it may write. "
            "With the node stopped, put it back from a copy, or remove it and decide anew which node is primary",
            file=ROLE_FILE,
            offset=0,
        ) from error
    raise NewerFormat(f"{ROLE_FILE} has format {form}, this Twinlog knows up to {ROLE_FORMAT}: start the newer one")
