"""The one place where a node's role and epoch change: on disk first, then here, then everywhere else (INV-4).

Cost: one small file replaced and synced for each change, then a line of the record appended. Knows the disk seam and the tables of
roles.py; knows no link.
A change is never given up half way: it is shielded from cancellation, and a crash inside it leaves the old or the new file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import trio

from storage import PromotionRefused, Seams

from .role_record import RoleRecord
from .roles import (
    ROLE_FILE,
    Role,
    RoleState,
    fenced,
    handed_over,
    on_hear,
    on_open,
    promoted,
    read_role,
    rejoined,
    unfenced,
    write_role,
)


class RoleKeeper:
    """Invariant: `state` equals role.json, except while a change is being written; then `yielding` already refuses writes.

    yields() runs in place when yielding begins, changed(old, new) right after `state` was set; neither may raise or wait.
    """

    def __init__(
        self, seams: Seams, *, yields: Callable[[], None], changed: Callable[[RoleState, RoleState], None]
    ) -> None:
        self._seams = seams
        self._yields = yields
        self._changed = changed
        self._lock = trio.Lock()
        self.record = RoleRecord(seams)
        self.state = RoleState(Role.STANDBY, 0, "not opened yet")
        self.yielding = False

    async def open(self, *, named_primary: bool, data_epoch: int) -> None:
        """Read role.json, or write the first one. Raises DamagedRecord or NewerFormat."""
        disk = self._seams.disk
        persisted = None
        if disk.exists(ROLE_FILE):
            persisted = read_role(await disk.run(disk.read_file, ROLE_FILE))
        state = on_open(persisted, named_primary=named_primary, data_epoch=data_epoch)
        if state != persisted:
            await self._persist(state)
        self.state = state
        await self.record.open()
        await self.record.add(state)

    async def hear(self, peer: str, role: Role, epoch: int) -> bool:
        """A peer told its role and epoch. Returns whether that changed this node's, by now persisted."""
        if on_hear(self.state, peer, role, epoch) == self.state:
            return False
        if self.state.role is Role.PRIMARY:
            self.yielding = True  # at once, while the file is written
            self._yields()
        async with self._lock:
            state = on_hear(self.state, peer, role, epoch)
            if state == self.state:
                return False
            await self._become(state)
        return True

    async def promote(self, highest_heard: Callable[[], int], check: Callable[[], None], why: str = "") -> RoleState:
        """Become primary of a new epoch. why: for people, in place of the usual. Both are asked under the lock, since another order may have been carried out before it
        was had; check() may refuse by raising. PromotionRefused when the new role cannot be written."""
        async with self._lock:
            check()
            state = promoted(self.state, highest_heard())
            state = replace(state, why=why) if why else state
            try:
                await self._become(state)
            except OSError as error:
                raise PromotionRefused(
                    f"{ROLE_FILE} could not be written ({error}); this node goes on as {self.state.role.value}: mend the "
                    "disk and promote it again",
                    behind=0,
                ) from error
        return state

    async def hand_over(self, to: str) -> RoleState:
        """Step down in favour of another node. PromotionRefused when that cannot be written; then nothing has changed."""
        async with self._lock:
            if self.state.role is not Role.PRIMARY:
                raise PromotionRefused(f"this node is {self.state.role.value} by now: {self.state.why}", behind=0)
            self.yielding = True
            self._yields()
            state = handed_over(self.state, to)
            try:
                await self._become(state)
            except OSError as error:
                self.yielding = False
                self._yields()
                raise PromotionRefused(f"{ROLE_FILE} could not be written ({error}); this node goes on as primary", behind=0) from error
        return state

    async def fence(self, why: str) -> RoleState:
        """An operator's order; a fenced node stays so, with the newer reason. Raises OSError when it cannot be written; then nothing has changed."""
        yields = self.state.role is Role.PRIMARY and not self.yielding
        if yields:
            self.yielding = True
            self._yields()
        async with self._lock:
            try:
                await self._become(fenced(self.state, why))
            except OSError:
                if yields:
                    self.yielding = False
                    self._yields()
                raise
            return self.state

    async def unfence(self) -> RoleState:
        """An operator's order. PromotionRefused when it is not fenced; OSError when it cannot be written."""
        async with self._lock:
            if self.state.role is not Role.FENCED:
                raise PromotionRefused(f"this node is not fenced, it is {self.state.role.value} of epoch {self.state.epoch}", behind=0)
            await self._become(unfenced(self.state))
            return self.state

    async def rejoin(self, check: Callable[[], None]) -> RoleState:
        """An operator's order: a standby from now on. check() runs under the lock and may refuse by raising."""
        async with self._lock:
            check()
            state = rejoined(self.state)
            if state != self.state:
                await self._become(state)
            return self.state

    async def leave(self, epoch: int, why: str) -> bool:
        """A standby of this epoch goes on to the next one, as a standby: what it was offered in the old one is over. False: it is none by now."""
        async with self._lock:
            if self.state.role is not Role.STANDBY or self.state.epoch != epoch:
                return False
            await self._become(RoleState(Role.STANDBY, epoch + 1, why))
        return True

    async def _become(self, state: RoleState) -> None:
        with trio.CancelScope(shield=True):
            await self._persist(state)
            old, self.state = self.state, state
            self.yielding = False
            self._changed(old, state)
            await self.record.add(state)  # last: whoever waits for this node to step down does not wait for it

    async def _persist(self, state: RoleState) -> None:
        disk = self._seams.disk
        await disk.run(disk.replace_file, ROLE_FILE, write_role(state))
