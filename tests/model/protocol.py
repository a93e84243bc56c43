"""The protocol of rollsafe as a small machine, and an explorer that tries every interleaving of its steps.

The steps bear the names of the methods in `writer.py`, `live_file.py`, `open_file.py` and `rollover.py`, so that one
can be held against the other. Between any two of them any other process may run, the clock may go on, and a process may
be killed.
`docs/explanation/model.md` tells which step here is several system calls there.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import NamedTuple

# Ticks of the clock: one second each, and the first interval ends after one.
LEASE = 1
GRACE = 1

NONE = -1


class Rules(NamedTuple):
    """The protocol, rule by rule. Without one of them it is a mutant."""

    looks_after_write: bool = True
    """A write that returns after lease + grace is looked after."""
    looks_under_lock: bool = True
    """That look is made under the lock."""
    writes_again_unasked: bool = True
    """Where the lock is busy for too long to look, the line is written again; the look is not made without the lock."""
    compares_identity: bool = True
    """Whoever rolls compares, under the lock, the file that the path names with the one that it has open."""
    leases_from_before_stat: bool = True
    """The clock of a lease is read before the path is looked at, not after it."""
    looks_when_refused: bool = True
    """A writer that does not get the lock to roll looks at the path before it goes on in the file that it has."""
    drops_what_was_rolled: bool = True
    """A process that finds, under the lock, that the file it has just opened is not live any more opens again."""
    keeps_note: bool = True
    """The interval of the live file is noted, and the note is believed."""
    waits_for_quiet: bool = True
    """The archiver leaves a file alone for lease + grace after its last change."""
    waits_by_monotonic_clock: bool = True
    """It measures that by a clock that nobody sets, as the writers do."""
    checks_size: bool = True
    """The archiver checks, under the lock, that the file has not grown since it was read."""
    notes_archived_size: bool = True
    """The archiver notes how much of which file it archived; a writer can tell whether its line was in that."""
    archives_leftover_again: bool = True
    """A file that is still there beside its archive is archived again if it has grown since, not removed unread."""


class Config(NamedTuple):
    """What is explored."""

    lines: tuple[int, ...]
    """How many lines each writer writes."""
    started: int = 0
    """How many writers have the live file open already, with a lease from 0. The others are fresh processes."""
    boundaries: tuple[int, ...] = (1,)
    """When the second interval begins, the third, …; the first begins at 0."""
    last_tick: int = 3
    """Writers see the clock no later than this."""
    kills: int = 0
    """How many processes are killed. A killed writer's current line is given up; a fresh process writes the rest."""
    clock_steps: int = 0
    """How often the wall clock is set forward, by lease + grace each time."""
    lock_may_be_busy: bool = False
    """Whether a writer may stop waiting for a lock that is held."""
    archives: bool = True
    """Whether there is an archiver."""


class Line(NamedTuple):
    """A record: whose it is, which, and the interval that holds its `created`."""

    writer: int
    number: int
    interval: int


class Inode(NamedTuple):
    """A file, whatever its names."""

    lines: tuple[Line, ...] = ()
    written: int = NONE
    """The interval of its last write."""
    quiet: int = NONE
    """When lease + grace will have passed since its last change, by the wall clock; NONE when they have."""
    truly_quiet: int = NONE
    """The same by the monotonic clock."""


class Backup(NamedTuple):
    """A name beside the live file's, and what it names."""

    interval: int
    sequence: int
    archived: bool
    inode: int


class OpenFile(NamedTuple):
    """As `open_file.OpenFile`; `lease_expires` (wall) and `recheck_after` (monotonic) are NONE when they have come."""

    inode: int
    interval: int
    lease_expires: int = NONE
    recheck_after: int = NONE


class Writer(NamedTuple):
    """A process that logs: its next step, and what it has in memory."""

    step: str = "emit"
    left: int = 0
    number: int = 0
    acknowledged: tuple[Line, ...] = ()
    line: Line | None = None
    file: OpenFile | None = None
    kept: tuple[OpenFile, ...] = ()
    target: OpenFile | None = None
    """The file that the line goes to."""
    position: int = 0
    """Where in it the line ended (lseek(2) after the write)."""
    placing: bool = False
    """In `_place`, not in the fast path of `emit`."""
    opened: int = NONE
    """The inode that `open` returned, its interval not yet told."""
    clock: int = NONE
    """The interval in which the wall clock was read some steps ago."""
    unasked: tuple[Line, ...] = ()
    """Lines that were written again because the lock was busy for too long to look; they may stand twice."""


class Archiver(NamedTuple):
    """The process that is elected to maintain the backups."""

    step: str = "wait"
    backup: Backup | None = None
    content: tuple[Line, ...] = ()


class State(NamedTuple):
    """All there is: clocks, directory, inodes, lock file, processes."""

    now: int
    ahead: int
    """How far the wall clock has been set forward."""
    kills: int
    live: int
    backups: tuple[Backup, ...]
    inodes: tuple[Inode, ...]
    holder: int
    note: tuple[int, int]
    """Inode and interval of the live file."""
    archived: tuple[tuple[int, int], ...]
    """Inode, and how many of its lines were archived."""
    writers: tuple[Writer, ...]
    archiver: Archiver

    @property
    def wall(self) -> int:
        """The wall clock."""
        return self.now + self.ahead

    def is_linked(self, inode: int) -> bool:
        """Whether the inode has a name."""
        return inode == self.live or any(backup.inode == inode for backup in self.backups)

    def with_writer(self, index: int, writer: Writer) -> State:
        """The state with one writer replaced."""
        return self._replace(writers=(*self.writers[:index], writer, *self.writers[index + 1 :]))

    def with_inode(self, number: int, inode: Inode) -> State:
        """The state with one inode replaced."""
        return self._replace(inodes=(*self.inodes[:number], inode, *self.inodes[number + 1 :]))

    def with_new_inode(self, inode: Inode) -> State:
        """The state with one inode more, the last one."""
        return self._replace(inodes=(*self.inodes, inode))


Step = tuple[str, State]
"""What happened, and what is then."""


class Protocol:
    """The steps that are possible in a state."""

    def __init__(self, config: Config, rules: Rules) -> None:
        self.config = config
        self.rules = rules
        self.archiver = len(config.lines)
        self.taken: set[str] = set()
        """The names of the steps that were possible in some state."""

    def first(self) -> State:
        """The clock is at 0. There is a live file if a process has it open already."""
        fresh = State(0, 0, self.config.kills, NONE, (), (), NONE, (NONE, NONE), (), (), Archiver())
        writers = tuple(Writer(left=lines) for lines in self.config.lines)
        if not self.config.started:
            return fresh._replace(writers=writers)
        file = OpenFile(0, 0, min(LEASE, self.config.boundaries[0]), LEASE + GRACE)
        running = tuple(writer._replace(file=file) for writer in writers[: self.config.started])
        note = (0, 0) if self.rules.keeps_note else fresh.note
        return fresh._replace(
            live=0, inodes=(self._changed(fresh, ()),), note=note, writers=running + writers[self.config.started :]
        )

    def interval_at(self, instant: int) -> int:
        """The number of the interval that holds `instant`."""
        return sum(instant >= boundary for boundary in self.config.boundaries)

    def _changed(self, state: State, lines: tuple[Line, ...], written: int | None = None) -> Inode:
        """A file that was made or written now, or renamed if it is told when it was `written`."""
        interval = self.interval_at(state.wall) if written is None else written
        return Inode(lines, interval, state.wall + LEASE + GRACE, state.now + LEASE + GRACE)

    def steps(self, state: State) -> Iterator[Step]:
        """All steps of all processes, of the clock and of the killer."""
        for index, writer in enumerate(state.writers):
            if writer.step != "done":
                for what, after in getattr(self, f"_{writer.step}")(state, index, writer):
                    self.taken.add(writer.step)
                    yield f"writer {index}: {what}", after
        if self.config.archives:
            for what, after in getattr(self, f"_archiver_{state.archiver.step}")(state):
                self.taken.add(f"archiver_{state.archiver.step}")
                yield f"archiver: {what}", after
        yield from self._clock(state)
        if state.kills:
            yield from self._kill(state)

    # The fast path: handlers.emit.

    def _emit(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """A record is created, and the lease compared; only this process's memory is looked at."""
        line = Line(index, writer.number, self.interval_at(state.wall))
        writer = writer._replace(line=line, number=writer.number + 1, left=writer.left - 1)
        file = writer.file
        what = f"line {line.number} is created in interval {line.interval}"
        if file and line.interval >= file.interval and state.wall < file.lease_expires:
            yield f"{what}, the lease lasts", state.with_writer(index, writer._replace(step="write", target=file))
        else:
            yield f"{what}, the lease is over", self._renewing(state, index, writer)

    def _write(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """write(2)."""
        assert writer.target
        assert writer.line
        number = writer.target.inode
        inode = self._changed(state, (*state.inodes[number].lines, writer.line))
        gone = "" if state.is_linked(number) else ", which has no name any more"
        writer = writer._replace(step="written", position=len(inode.lines))
        yield f"writes its line to inode {number}{gone}", state.with_inode(number, inode).with_writer(index, writer)

    def _written(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """The comparison with the monotonic clock after the write, in `emit`, `_append` and `keeps`."""
        assert writer.target
        if state.now < writer.target.recheck_after:
            yield "the write was in time: acknowledged", self._acknowledged(state, index, writer)
        elif not self.rules.looks_after_write:
            yield "does not look: acknowledged", self._acknowledged(state, index, writer)
        else:
            yield "the write was late", state.with_writer(index, writer._replace(step="is_linked"))

    def _is_linked(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """LiveFile.keeps, Rollover.has_kept: lock, fstat, unlock."""
        assert writer.target
        assert writer.file
        line = writer.line
        assert line
        busy = state.holder != NONE and self.rules.looks_under_lock
        if busy and not self.config.lock_may_be_busy:
            return
        inode = writer.target.inode
        is_own = inode == writer.file.inode
        if is_own:
            writer = writer._replace(file=writer.file._replace(lease_expires=NONE))
        if busy and self.rules.writes_again_unasked and state.is_linked(inode) and state.live != inode:
            unasked = (*writer.unasked, line)
            why = "cannot have the lock to look"
            yield from self._written_again(state, index, writer._replace(unasked=unasked), why)
        elif state.is_linked(inode):
            yield "sees that its file has a name: acknowledged", self._acknowledged(state, index, writer)
        elif self.rules.notes_archived_size and writer.position <= dict(state.archived).get(inode, 0):
            yield "sees that its line was archived: acknowledged", self._acknowledged(state, index, writer)
        else:
            yield from self._written_again(state, index, writer, "sees that its file is gone")

    def _written_again(self, state: State, index: int, writer: Writer, why: str) -> Iterator[Step]:
        """Writer.take queues the line, or `_place_first` discards the file."""
        assert writer.target
        assert writer.file
        if not writer.placing:
            yield why, self._renewing(state, index, writer)
        elif writer.target.inode == writer.file.inode:
            yield why, self._retired(state, index, writer)
        else:
            kept = tuple(file for file in writer.kept if file != writer.target)
            yield why, self._placing(state, index, writer._replace(kept=kept))

    def _acknowledged(self, state: State, index: int, writer: Writer) -> State:
        """`emit` returns."""
        assert writer.line
        writer = writer._replace(
            acknowledged=(*writer.acknowledged, writer.line), line=None, target=None, position=0, placing=False
        )
        return state.with_writer(index, self._ready(writer))

    def _ready(self, writer: Writer) -> Writer:
        """Between two lines."""
        if writer.left:
            return writer._replace(step="emit")
        return Writer(step="done", number=writer.number, acknowledged=writer.acknowledged, unasked=writer.unasked)

    # The slow path: Renewal.renew.

    def _renewing(self, state: State, index: int, writer: Writer) -> State:
        """The branches of `renew`: open, roll, or look whether the file is live."""
        assert writer.line
        step, clock = "is_live", writer.clock
        if writer.file is None:
            step = "open"
        elif writer.line.interval > writer.file.interval:
            step, clock = "roll", self.interval_at(state.wall)
        return state.with_writer(index, writer._replace(step=step, clock=clock, target=None, position=0))

    def _is_live(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """LivePath.is_live: stat; then the lease begins."""
        assert writer.file
        if state.live != writer.file.inode:
            yield "sees that its file is not the live file any more", self._retired(state, index, writer)
        elif self.rules.leases_from_before_stat:
            yield "sees that its file is live, and has a lease from now", self._leased(state, index, writer)
        else:
            yield "sees that its file is live", state.with_writer(index, writer._replace(step="lease"))

    def _lease(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """OpenFile.grant_lease, where it reads the clock after the look at the path."""
        yield "has a lease from now", self._leased(state, index, writer)

    def _leased(self, state: State, index: int, writer: Writer) -> State:
        """The file with a lease from now, and the line on its way to its place."""
        assert writer.file
        assert writer.line
        file = writer.file._replace(lease_expires=state.wall + LEASE, recheck_after=state.now + LEASE + GRACE)
        # A lease that follows a refused rollover lasts beyond the end of the interval.
        refused = writer.line.interval > file.interval
        if not refused and self.interval_at(file.lease_expires) > file.interval:
            file = file._replace(lease_expires=self.config.boundaries[file.interval])
        return self._placing(state, index, writer._replace(file=file))

    def _retired(self, state: State, index: int, writer: Writer) -> State:
        """LiveFile.reopen and retire: the file is kept for late lines, and the live file opened."""
        assert writer.file
        kept = (*writer.kept, writer.file._replace(lease_expires=NONE))
        return state.with_writer(
            index, writer._replace(step="open", file=None, kept=kept, target=None, position=0, clock=NONE)
        )

    def _open(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """LivePath.open_stream: open(2) with O_CREAT."""
        what = "opens the live file"
        if state.live == NONE:
            state, what = self._with_live(state), "makes the live file"
        writer = writer._replace(step="interval_of", opened=state.live)
        yield f"{what}, inode {state.live}", state.with_writer(index, writer)

    def _interval_of(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """Rollover._interval_of without the lock: the clock is read, and the note."""
        if self._is_noted(state, writer.opened):
            yield f"finds interval {state.note[1]} noted for it", self._opened_live(state, index, writer, state.note[1])
        else:
            writer = writer._replace(step="interval_of_locked", clock=self.interval_at(state.wall))
            yield "finds no note about it", state.with_writer(index, writer)

    def _interval_of_locked(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """Rollover._interval_of under the lock: the note again, or the last write, or the clock; note it, unlock."""
        if state.holder != NONE and not self.config.lock_may_be_busy:
            return
        if self.rules.drops_what_was_rolled and state.live != writer.opened:
            after = state.with_writer(index, writer._replace(step="open", opened=NONE, clock=NONE))
            yield "sees that it has been rolled meanwhile", after
            return
        inode = state.inodes[writer.opened]
        if self._is_noted(state, writer.opened):
            interval, how = state.note[1], "note"
        elif inode.lines:
            interval, how = min(inode.written, writer.clock), "last write"
        else:
            interval, how = writer.clock, "clock"
        if state.holder == NONE and self.rules.keeps_note:
            state = state._replace(note=(writer.opened, interval))
        yield f"takes it for interval {interval} by the {how}", self._opened_live(state, index, writer, interval)

    def _is_noted(self, state: State, inode: int) -> bool:
        """Whether the note is about this inode."""
        return self.rules.keeps_note and state.note[0] == inode

    def _opened_live(self, state: State, index: int, writer: Writer, interval: int) -> State:
        """LiveFile.ensure_open is done; back to where it was called."""
        writer = writer._replace(file=OpenFile(writer.opened, interval), opened=NONE, clock=NONE)
        return (self._placing if writer.placing else self._renewing)(state, index, writer)

    # The place of the line: Writer._place_first and LiveFile.file_of.

    def _placing(self, state: State, index: int, writer: Writer) -> State:
        """The branches of `file_of` that look at no file."""
        assert writer.file
        assert writer.line
        is_late = writer.line.interval < writer.file.interval
        step, target = ("file_of", None) if is_late else ("write", writer.file)
        return state.with_writer(index, writer._replace(step=step, target=target, position=0, placing=True))

    def _file_of(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """LiveFile.file_of for a late line: close what has no name (fstat), then a kept file or a piece."""
        assert writer.line
        interval = writer.line.interval
        writer = writer._replace(kept=tuple(file for file in writer.kept if state.is_linked(file.inode)))
        for file in writer.kept:
            if file.interval == interval:
                writer = writer._replace(step="write", target=file)
                yield f"turns to inode {file.inode}, which it kept open", state.with_writer(index, writer)
                return
        yield "has no file for its late line", state.with_writer(index, writer._replace(step="open_part"))

    def _open_part(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """Rollover.open_part: lock; open the last backup of the interval, or make the next; unlock."""
        assert writer.line
        assert writer.file
        if state.holder != NONE:
            if self.config.lock_may_be_busy:
                after = state.with_writer(index, writer._replace(step="write", target=writer.file))
                yield "cannot have the lock: the line goes to the live file", after
            return
        interval = writer.line.interval
        sequence = self._free_sequence(state, interval)
        inode = next(
            (each.inode for each in state.backups if each[:3] == (interval, sequence - 1, False)), len(state.inodes)
        )
        what = f"opens backup {interval}.{sequence - 1}"
        if inode == len(state.inodes):
            state = state.with_new_inode(self._changed(state, ()))
            state = self._with_backup(state, Backup(interval, sequence, False, inode))
            what = f"makes backup {interval}.{sequence}"
        piece = OpenFile(inode, interval)
        writer = writer._replace(step="write", target=piece, kept=(*writer.kept, piece))
        yield f"{what}, inode {inode}", state.with_writer(index, writer)

    # Rollover.roll.

    def _roll(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """Lock; stat the path and compare; unlock if another was first."""
        assert writer.file
        if state.holder != NONE:
            if self.config.lock_may_be_busy:
                yield from self._refused(state, index, writer)
        elif state.live == NONE or (self.rules.compares_identity and state.live != writer.file.inode):
            yield "another has rolled", self._retired(state, index, writer)
        else:
            after = state.with_writer(index, writer._replace(step="rename"))._replace(holder=index)
            yield f"takes the lock to roll inode {state.live}", after

    def _refused(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """LockBusy in doRollover; `renew` goes on."""
        if self.rules.looks_when_refused:
            yield "cannot have the lock", state.with_writer(index, writer._replace(step="is_live", clock=NONE))
        else:
            yield "cannot have the lock, and has a lease from now", self._leased(state, index, writer)

    def _rename(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """Find a free name and rename(2): the commit point."""
        assert writer.file
        interval = writer.file.interval
        sequence = self._free_sequence(state, interval)
        inode = state.inodes[state.live]
        state = state.with_inode(state.live, self._changed(state, inode.lines, inode.written))
        state = self._with_backup(state, Backup(interval, sequence, False, state.live))
        after = state.with_writer(index, writer._replace(step="create_like"))._replace(live=NONE)
        yield f"renames inode {state.live} to backup {interval}.{sequence}", after

    def _create_like(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """Rollover._create_like: open(2) with O_CREAT."""
        what = "finds a new live file"
        if state.live == NONE:
            state, what = self._with_live(state), "makes the new live file"
        yield f"{what}, inode {state.live}", state.with_writer(index, writer._replace(step="note", opened=state.live))

    def _note(self, state: State, index: int, writer: Writer) -> Iterator[Step]:
        """LiveNote.write, and unlock; the interval is that of the clock as `renew` has read it."""
        what = "unlocks"
        if self.rules.keeps_note and not state.inodes[writer.opened].lines:
            state = state._replace(note=(writer.opened, writer.clock))
            what = f"notes interval {writer.clock}, unlocks"
        yield what, self._retired(state._replace(holder=NONE), index, writer._replace(opened=NONE))

    def _free_sequence(self, state: State, interval: int) -> int:
        """BackupNumbers.free."""
        return 1 + max((backup.sequence for backup in state.backups if backup.interval == interval), default=NONE)

    def _with_live(self, state: State) -> State:
        """The state with a new live file."""
        return state.with_new_inode(self._changed(state, ()))._replace(live=len(state.inodes))

    def _with_backup(self, state: State, backup: Backup) -> State:
        """The state with one name more."""
        return state._replace(backups=tuple(sorted((*state.backups, backup))))

    # The archiver, as docs/explanation/maintenance.md has it.

    def _archiver_wait(self, state: State) -> Iterator[Step]:
        """Wait until a file is quiet."""
        for backup in state.backups:
            if backup.archived or not self._is_quiet(state, state.inodes[backup.inode]):
                continue
            is_leftover = backup._replace(archived=True)[:3] in (each[:3] for each in state.backups)
            step = "complete" if is_leftover else "read"
            after = state._replace(archiver=Archiver(step, backup))
            yield f"finds backup {backup.interval}.{backup.sequence} quiet", after

    def _is_quiet(self, state: State, inode: Inode) -> bool:
        """Whether lease + grace have passed since its last change."""
        if not self.rules.waits_for_quiet:
            return True
        return (inode.truly_quiet if self.rules.waits_by_monotonic_clock else inode.quiet) == NONE

    def _archiver_read(self, state: State) -> Iterator[Step]:
        """Read the file to its end into an archive that has a temporary name."""
        backup = state.archiver.backup
        assert backup
        content = state.inodes[backup.inode].lines
        after = state._replace(archiver=Archiver("check_size", backup, content))
        yield f"reads inode {backup.inode}: {len(content)} lines", after

    def _archiver_check_size(self, state: State) -> Iterator[Step]:
        """Lock, fstat; note how much is archived; unlock if there is more to read."""
        backup, content = state.archiver.backup, state.archiver.content
        assert backup
        if state.holder != NONE:
            return
        if self.rules.checks_size and len(state.inodes[backup.inode].lines) != len(content):
            yield "takes the lock, finds that the file has grown, unlocks", state._replace(archiver=Archiver())
            return
        if self.rules.notes_archived_size:
            sizes = dict(state.archived) | {backup.inode: len(content)}
            state = state._replace(archived=tuple(sorted(sizes.items())))
        after = state._replace(archiver=state.archiver._replace(step="finish"), holder=self.archiver)
        yield "takes the lock, the size is what was read", after

    def _archiver_finish(self, state: State) -> Iterator[Step]:
        """Rename the archive to its final name."""
        backup, content = state.archiver.backup, state.archiver.content
        assert backup
        others = tuple(each for each in state.backups if each[:3] != (backup.interval, backup.sequence, True))
        archive = backup._replace(archived=True, inode=len(state.inodes))
        state = self._with_backup(state._replace(backups=others).with_new_inode(Inode(content)), archive)
        yield "makes the archive final", state._replace(archiver=Archiver("unlink", backup))

    def _archiver_unlink(self, state: State) -> Iterator[Step]:
        """Unlink the source, and unlock."""
        backup = state.archiver.backup
        assert backup
        others = tuple(each for each in state.backups if each != backup)
        after = state._replace(backups=others, archiver=Archiver(), holder=NONE)
        yield f"unlinks inode {backup.inode}, unlocks", after

    def _archiver_complete(self, state: State) -> Iterator[Step]:
        """archives.complete_killed: lock; does the archive beside the file have all of it, by the ledger? Unlock."""
        if state.holder != NONE:
            return
        backup = state.archiver.backup
        assert backup
        size = dict(state.archived).get(backup.inode)
        if size == len(state.inodes[backup.inode].lines) or not self.rules.archives_leftover_again:
            yield from self._archiver_unlink(state)
        else:
            after = state._replace(archiver=state.archiver._replace(step="read"))
            yield "finds that the file beside its archive has grown, unlocks", after

    # The world.

    def _clock(self, state: State) -> Iterator[Step]:
        """The clocks go on; when the writers are done, only as long as there is something to archive."""
        done = all(writer.step == "done" for writer in state.writers)
        if self._awaits_quiet(state) if done else state.now < self.config.last_tick:
            yield f"the clock goes on to {state.now + 1}", self._aged(state._replace(now=state.now + 1))
        if not done and state.ahead < self.config.clock_steps * (LEASE + GRACE):
            yield "the wall clock is set forward", self._aged(state._replace(ahead=state.ahead + LEASE + GRACE))

    def _awaits_quiet(self, state: State) -> bool:
        """Whether the archiver waits for nothing but the clock."""
        rest = self.config.archives and not all(backup.archived for backup in state.backups)
        return rest and state.archiver == Archiver() and not any(self._archiver_wait(state))

    def _aged(self, state: State) -> State:
        """The state with every time that has come by now replaced by NONE, so that fewer states differ."""

        def file_aged(file: OpenFile | None) -> OpenFile | None:
            return file and file._replace(
                lease_expires=_if_to_come(file.lease_expires, state.wall),
                recheck_after=_if_to_come(file.recheck_after, state.now),
            )

        writers = tuple(
            writer._replace(
                file=file_aged(writer.file),
                target=file_aged(writer.target),
                kept=tuple(filter(None, map(file_aged, writer.kept))),
            )
            for writer in state.writers
        )
        inodes = tuple(
            inode._replace(
                quiet=_if_to_come(inode.quiet, state.wall), truly_quiet=_if_to_come(inode.truly_quiet, state.now)
            )
            for inode in state.inodes
        )
        return state._replace(writers=writers, inodes=inodes)

    def _kill(self, state: State) -> Iterator[Step]:
        """SIGKILL: the memory of a process is gone, its lock is free, a fresh process takes its place."""
        for index, writer in enumerate(state.writers):
            if writer.step != "done":
                fresh = Writer(
                    left=writer.left,
                    number=writer.number,
                    acknowledged=writer.acknowledged,
                    unasked=writer.unasked,
                )
                yield f"writer {index} is killed", self._without(state, index).with_writer(index, self._ready(fresh))
        if state.archiver != Archiver():
            yield "the archiver is killed", self._without(state, self.archiver)._replace(archiver=Archiver())

    def _without(self, state: State, process: int) -> State:
        """One kill less, and the lock of that process free."""
        holder = NONE if state.holder == process else state.holder
        return state._replace(kills=state.kills - 1, holder=holder)

    # The promises.

    def broken(self, before: State, state: State) -> str | None:
        """Which promise the step from `before` to `state` has broken, and how; None if none."""
        if (
            state.inodes is before.inodes
            and state.backups is before.backups
            and all(map(operator.is_, map(_acknowledged, state.writers), map(_acknowledged, before.writers)))
        ):
            return None
        return self._overwritten(before, state) or self._lost_or_doubled(state) or self._misplaced(state)

    def stuck(self, state: State) -> str | None:
        """What is wrong in a state after which nothing happens any more; None if nothing."""
        for index, writer in enumerate(state.writers):
            if writer.step != "done":
                return f"P6: writer {index} cannot go on at {writer.step}"
        if state.archiver.step != "wait" or state.holder != NONE:
            return f"P6: the archiver cannot go on at {state.archiver.step}"
        if self.config.archives and not all(backup.archived for backup in state.backups):
            return "P6: a backup is never archived"
        return self._misplaced_later(state)

    def _overwritten(self, before: State, state: State) -> str | None:
        """P4: no name is removed or replaced while its file holds an acknowledged line that is nowhere else."""
        if state.backups == before.backups:
            return None
        rest = {line for lines in _files(state).values() for line in lines}
        for backup in before.backups:
            if backup not in state.backups:
                for line in before.inodes[backup.inode].lines:
                    if line in before.writers[line.writer].acknowledged and line not in rest:
                        return f"P4: {_name(line)} was destroyed with backup {backup.interval}.{backup.sequence}"
        return None

    def _lost_or_doubled(self, state: State) -> str | None:
        """P1: an acknowledged line is in one file, once; any other line at most once; but for unasked ones."""
        found = [line for lines in _files(state).values() for line in lines]
        lines = set(found)
        if len(lines) != len(found):
            unasked = {line for writer in state.writers for line in writer.unasked}
            doubled = next((line for line in found if line not in unasked and found.count(line) > 1), None)
            if doubled is not None:
                return f"P1: {_name(doubled)} is doubled"
        for writer in state.writers:
            for line in writer.acknowledged:
                if line not in lines:
                    return f"P1: {_name(line)} is lost"
        return None

    def _misplaced(self, state: State) -> str | None:
        """P3: a line is in the file of its interval; not asked where the lock may be busy (architecture.md)."""
        if self.config.lock_may_be_busy:
            return None
        for (interval, _), lines in _files(state).items():
            expected = lines[0].interval if interval == NONE and lines else interval
            for line in lines:
                if line.interval != expected:
                    return f"P3: {_name(line)} is in a file of interval {expected}"
        return None

    def _misplaced_later(self, state: State) -> str | None:
        """P3: a process that opens the live file takes it for the file of the interval that its lines are of."""
        if state.live == NONE or self.config.lock_may_be_busy:
            return None
        inode = state.inodes[state.live]
        interval = state.note[1] if self._is_noted(state, state.live) else inode.written
        for line in inode.lines:
            if line.interval != interval:
                return f"P3: {_name(line)} is in a live file that the next process takes for interval {interval}"
        return None


def _files(state: State) -> dict[tuple[int, int], tuple[Line, ...]]:
    """The lines by interval and sequence. A file that is still there beside its archive stands for both."""
    files = {backup[:2]: state.inodes[backup.inode].lines for backup in reversed(state.backups)}
    if state.live != NONE:
        files[NONE, NONE] = state.inodes[state.live].lines
    return files


def _if_to_come(instant: int, now: int) -> int:
    """`instant`, or NONE if it is not after `now`."""
    return instant if instant > now else NONE


_acknowledged = operator.attrgetter("acknowledged")


def _name(line: Line) -> str:
    """A line for a reader."""
    return f"line {line.number} of writer {line.writer}"


class Result(NamedTuple):
    """What an exploration found: how many states there are, or how one gets to the first broken promise."""

    states: int
    taken: frozenset[str]
    """The names of the steps that were taken."""
    broken: str | None = None
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        steps = "".join(f"\n  {number}. {step}" for number, step in enumerate(self.trace, 1))
        return f"{self.states} states; {self.broken or 'every promise is kept'}{steps}"


def explore(config: Config, rules: Rules, limit: int = 1_000_000) -> Result:
    """Visit every state that any interleaving reaches, nearest first, until a promise is broken.

    Raises:
        RuntimeError: There are more than `limit` states.
    """
    protocol = Protocol(config, rules)
    first = protocol.first()
    states = [first]
    came_from = [(NONE, "")]
    seen = {first}
    for number, state in enumerate(states):
        moved = False
        for what, after in protocol.steps(state):
            moved = moved or "killed" not in what
            if after in seen:
                continue
            seen.add(after)
            states.append(after)
            came_from.append((number, what))
            broken = protocol.broken(state, after)
            if broken:
                return Result(len(states), frozenset(protocol.taken), broken, _trace(came_from, len(states) - 1))
            if len(states) > limit:
                raise RuntimeError(f"{config} has more than {limit} states; make it smaller")
        if not moved and (broken := protocol.stuck(state)):
            return Result(len(states), frozenset(protocol.taken), broken, _trace(came_from, number))
    return Result(len(states), frozenset(protocol.taken))


def _trace(came_from: list[tuple[int, str]], number: int) -> tuple[str, ...]:
    """The steps from the first state to the one with this number."""
    steps = []
    while number:
        number, what = came_from[number]
        steps.append(what)
    return tuple(reversed(steps))
