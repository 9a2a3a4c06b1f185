"""INV-4: the tables of roles, every row of them, and role.json."""

from __future__ import annotations

import itertools

import pytest

from replication.roles import (
    Link,
    Role,
    RoleState,
    on_hear,
    on_link,
    on_open,
    promoted,
    read_role,
    write_role,
)
from storage import DamagedRecord, NewerFormat

EPOCHS = [4, 5, 6]


@pytest.mark.parametrize(("mine", "peer", "epoch"), list(itertools.product(Role, Role, EPOCHS)))
def test_every_row_of_hearing_a_peer(mine: Role, peer: Role, epoch: int) -> None:
    before = RoleState(mine, 5, "test")
    after = on_hear(before, "b", peer, epoch)
    if epoch > 5:
        assert (after.role, after.epoch) == (Role.STANDBY, epoch)
    elif epoch == 5 and mine is Role.PRIMARY and peer in (Role.PRIMARY, Role.FROZEN):
        assert (after.role, after.epoch) == (Role.FROZEN, 5)
    else:
        assert after == before
    assert after.role is not Role.PRIMARY or before.role is Role.PRIMARY, "no node promotes itself"
    assert after.epoch >= before.epoch


def test_two_primaries_of_one_epoch_freeze_whoever_hears_first() -> None:
    a, b = RoleState(Role.PRIMARY, 5, ""), RoleState(Role.PRIMARY, 5, "")
    a = on_hear(a, "b", b.role, b.epoch)
    b = on_hear(b, "a", a.role, a.epoch)  # the other is frozen by now
    assert (a.role, b.role) == (Role.FROZEN, Role.FROZEN)


@pytest.mark.parametrize(("mine", "peer", "epoch"), list(itertools.product(Role, Role, EPOCHS)))
def test_every_row_of_what_a_link_is_for(mine: Role, peer: Role, epoch: int) -> None:
    state = on_hear(RoleState(mine, 5, ""), "b", peer, epoch)
    link = on_link(state, peer, epoch)
    if peer is Role.PRIMARY and epoch < state.epoch:
        assert link is Link.FENCE
    elif (state.role, peer) == (Role.PRIMARY, Role.STANDBY):
        assert link is Link.LEAD
    elif (state.role, peer) == (Role.STANDBY, Role.PRIMARY):
        assert link is Link.FOLLOW and epoch == state.epoch
    else:
        assert link is Link.IDLE


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("data_epoch", [0, 1, 3, 9])
@pytest.mark.parametrize("persisted", [None, *(RoleState(role, 3, "") for role in Role)])
def test_every_row_of_opening(named: bool, data_epoch: int, persisted: RoleState | None) -> None:
    state = on_open(persisted, named_primary=named, data_epoch=data_epoch)
    if persisted is not None and data_epoch <= 3:
        assert state == persisted, "what is persisted beats the configuration"
    elif persisted is not None:
        assert (state.role, state.epoch) == (Role.STANDBY, data_epoch)
    elif named and data_epoch <= 1:
        assert (state.role, state.epoch) == (Role.PRIMARY, 1)
    else:
        assert (state.role, state.epoch) == (Role.STANDBY, data_epoch)


def test_a_promotion_is_above_everything_ever_heard() -> None:
    assert promoted(RoleState(Role.STANDBY, 5, ""), 9).epoch == 10
    assert promoted(RoleState(Role.FROZEN, 5, ""), 2).epoch == 6


@pytest.mark.parametrize("role", Role)
def test_role_json_comes_back(role: Role) -> None:
    state = RoleState(role, 17, "why not")
    assert read_role(write_role(state)) == state


def test_a_damaged_or_newer_role_file_is_never_guessed() -> None:
    whole = write_role(RoleState(Role.PRIMARY, 3, "x"))
    for end in range(len(whole) - 2):
        with pytest.raises(DamagedRecord):
            read_role(whole[:end])
    with pytest.raises(NewerFormat):
        read_role(whole.replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(DamagedRecord):
        read_role(whole.replace(b"primary", b"emperor"))
