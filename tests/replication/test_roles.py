"""INV-4: the tables of roles, every row of them, and role.json."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from replication.roles import (
    Link,
    Role,
    RoleState,
    Tenure,
    fenced,
    on_hear,
    on_link,
    on_open,
    promoted,
    read_role,
    rejoined,
    unfenced,
    write_role,
)
from storage import DamagedRecord, NewerFormat

EPOCHS = [4, 5, 6]
STATES = [  # every role of epoch 5, a fenced node once for each thing that it can have been
    *(RoleState(role, 5, "test") for role in Role if role is not Role.FENCED),
    *(RoleState(Role.FENCED, 5, "test", was=was) for was in Tenure),
]
NAMES = [f"{state.role.value}-{state.was.value}" if state.was else state.role.value for state in STATES]
EVERY_STATE = pytest.mark.parametrize("before", STATES, ids=NAMES)
EVERY_PEER = pytest.mark.parametrize(("peer", "epoch"), list(itertools.product(Role, EPOCHS)))


@EVERY_STATE
@EVERY_PEER
def test_every_row_of_hearing_a_peer(before: RoleState, peer: Role, epoch: int) -> None:
    mine = before.role
    after = on_hear(before, "b", peer, epoch)
    if mine is Role.FENCED:
        assert (after.role, after.epoch, after.why) == (Role.FENCED, max(5, epoch), "test"), "only an operator ends a fence"
        forgets = epoch > 5 or (epoch == 5 and peer in (Role.PRIMARY, Role.FROZEN))
        assert after.was is (Tenure.OTHER if forgets else before.was)
        assert forgets or after == before
    elif epoch > 5:
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


@EVERY_STATE
@EVERY_PEER
def test_every_row_of_what_a_link_is_for(before: RoleState, peer: Role, epoch: int) -> None:
    state = on_hear(before, "b", peer, epoch)
    link = on_link(state, peer, epoch)
    if peer is Role.PRIMARY and epoch < state.epoch:
        assert link is Link.FENCE
    elif (state.role, peer) == (Role.PRIMARY, Role.STANDBY):
        assert link is Link.LEAD
    elif (state.role, peer) == (Role.STANDBY, Role.PRIMARY):
        assert link is Link.FOLLOW and epoch == state.epoch
    else:
        assert link is Link.IDLE
    if Role.FENCED in (state.role, peer):
        assert link in (Link.IDLE, Link.FENCE), "a fenced node leads nobody and follows nobody"


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("data_epoch", [0, 1, 3, 9])
@pytest.mark.parametrize("persisted", [None, *(replace(state, epoch=3) for state in STATES)], ids=["new", *NAMES])
def test_every_row_of_opening(named: bool, data_epoch: int, persisted: RoleState | None) -> None:
    state = on_open(persisted, named_primary=named, data_epoch=data_epoch)
    if persisted is not None and data_epoch <= 3:
        assert state == persisted, "what is persisted beats the configuration"
    elif persisted is not None and persisted.role is Role.FENCED:
        assert (state.role, state.epoch, state.was) == (Role.FENCED, data_epoch, Tenure.OTHER)
    elif persisted is not None:
        assert (state.role, state.epoch) == (Role.STANDBY, data_epoch)
    elif named and data_epoch <= 1:
        assert (state.role, state.epoch) == (Role.PRIMARY, 1)
    else:
        assert (state.role, state.epoch) == (Role.STANDBY, data_epoch)


def test_a_promotion_is_above_everything_ever_heard() -> None:
    assert promoted(RoleState(Role.STANDBY, 5, ""), 9).epoch == 10
    assert promoted(RoleState(Role.FROZEN, 5, ""), 2).epoch == 6


    with pytest.raises(AssertionError):
        promoted(STATES[-1], 9)


@EVERY_STATE
def test_every_row_of_a_fence_and_its_end(before: RoleState) -> None:
    state = fenced(before, "a reason")
    assert (state.role, state.epoch, state.hands_over_to) == (Role.FENCED, 5, "") and "a reason" in state.why
    held_office = before.role is Role.PRIMARY or before.was is Tenure.PRIMARY
    assert state.was is (Tenure.PRIMARY if held_office else Tenure.OTHER)
    after = unfenced(state)
    assert (after.role, after.epoch, after.was) == (Role.PRIMARY if held_office else Role.STANDBY, 5, None)
    for role, epoch in ((Role.PRIMARY, 5), (Role.FROZEN, 5), (Role.STANDBY, 6)):
        heard = on_hear(state, "b", role, epoch)
        assert unfenced(heard) == replace(unfenced(fenced(RoleState(Role.STANDBY, epoch, ""), "")), epoch=epoch), "somebody else took the office"


@EVERY_STATE
def test_every_row_of_rejoining(before: RoleState) -> None:
    if before.role is Role.PRIMARY:
        with pytest.raises(AssertionError):
            rejoined(before)
    else:
        after = rejoined(before)
        assert (after.role, after.epoch, after.was) == (Role.STANDBY, 5, None)


@EVERY_STATE
def test_role_json_comes_back(before: RoleState) -> None:
    state = replace(before, epoch=17, why="why not")
    assert read_role(write_role(state)) == state
    assert (b'"was"' in write_role(state)) == (b'"format": 2' in write_role(state)) == (state.role is Role.FENCED)


def test_a_damaged_or_newer_role_file_is_never_guessed() -> None:
    whole = write_role(RoleState(Role.PRIMARY, 3, "x"))
    for end in range(len(whole) - 2):
        with pytest.raises(DamagedRecord):
            read_role(whole[:end])
    with pytest.raises(NewerFormat):
        read_role(whole.replace(b'"format": 1', b'"format": 3'))
    with pytest.raises(DamagedRecord):
        read_role(whole.replace(b"primary", b"emperor"))
