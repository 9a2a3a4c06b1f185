"""How `twinlog` ends. Scripts and drills rely on these numbers: add at the end, never renumber."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1  # asked for, tried, and refused or broken; the message says what and what to do
    USAGE = 2  # the command line itself is wrong (click's own number)
    UNREACHABLE = 3  # no node answered, or a node that should be there is missing
    UNEQUAL = 4  # two copies at one position differ: an alarm (INV-6)
    PARTIAL = 5  # some was done and some was not, and each one left out was named
    CONFIG = 6  # the configuration breaks a rule
    FINDINGS = 7  # a check ran to its end and found damage
    NOT_FOUND = 8  # the document asked for does not exist
    DECLINED = 9  # the operator was asked and said no
    NO_STANDBY = 12  # no standby could take over now without losing acknowledged writes
