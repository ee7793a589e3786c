"""What a power cut can leave of a real course: its calls, as the shim wrote them down, on a forgetful disk.

Every process runs as it is, with SQLite and python-tuf in it; only the medium is simulated. It keeps what a
file system promises, and no more:

- A file is safe as of its last sync. Of each later write nothing, all, a part, zeros or garbage is there.
- A folder is safe as of its last sync. Any of the later creations, renamings and removals in it happened, in
  their order; a renaming within one folder happens whole or not at all.

The outcome is drawn from the ``random.Random`` that is passed in, and is laid out as a real folder, so that
what must hold is looked at by the code that a device starts with.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from support.disk import survivors


@dataclass(frozen=True)
class Call:
    """One changing call that succeeded, or a word of the course about what it was told is done.

    Attributes:
        at: When it had returned, in nanoseconds of the monotonic clock.
        where: Position in the file, or its new length.
        path: Below the folder; for a word the word itself.
        other: The name before, or what a link leads to.
    """

    at: int
    what: str
    where: int
    path: str
    other: str
    data: bytes


def read(record: Path, folder: Path) -> list[Call]:
    """Return the calls of a record, with paths relative to ``folder``."""
    content, calls = record.read_bytes(), []
    while content:
        head, _, content = content.partition(b"\n")
        at, what, where, size, names = head.decode().split(" ", 4)
        path, _, other = names.partition("\t")
        inside = f"{folder}/"
        if what in {"rename", "link"}:
            other = other.removeprefix(inside)
        calls.append(Call(int(at), what, int(where), path.removeprefix(inside), other, content[: int(size)]))
        content = content[int(size) :]
    return calls


@dataclass(eq=False)
class _File:
    safe: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(
        default_factory=list
    )  # None cuts or extends to the length
    target: str | None = None  # of a symbolic link

    def after_cut(self, chance: Random) -> bytes:
        content = bytearray(self.safe)
        for change in _survivors(self.pending, chance):
            _apply_write(content, change)
        return bytes(content)

    def now(self) -> bytes:
        content = bytearray(self.safe)
        for change in self.pending:
            _apply_write(content, change)
        return bytes(content)

    def sync(self) -> None:
        self.safe, self.pending = self.now(), []


@dataclass(eq=False)
class _Folder:
    safe: "dict[str, _Node]" = field(default_factory=dict)
    now: "dict[str, _Node]" = field(default_factory=dict)
    pending: "list[dict[str, _Node | None]]" = field(default_factory=list)

    def change(self, change: "dict[str, _Node | None]") -> None:
        _apply(self.now, change)
        self.pending.append(change)

    def sync(self) -> None:
        self.safe, self.pending = dict(self.now), []

    def after_cut(self, chance: Random) -> "dict[str, _Node]":
        entries = dict(self.safe)
        for change in survivors(self.pending, chance):
            _apply(entries, change)
        return entries


_Node = _File | _Folder


def _apply(entries: dict[str, _Node], change: dict[str, _Node | None]) -> None:
    for name, node in change.items():
        if node is None:
            entries.pop(name, None)
        else:
            entries[name] = node


class Medium:
    """A disk below one folder, which takes calls in turn and may be cut off after any of them."""

    def __init__(self, template: Path | None) -> None:
        self._root = _Folder() if template is None else _taken(template)

    def take(self, call: Call) -> None:
        """Let a call happen; one on a file that has no name any more is of no account."""
        if call.path.endswith(" (deleted)"):
            return
        match call.what:
            case "write":
                self._file(call.path).pending.append((call.where, call.data))
            case "truncate":
                self._file(call.path).pending.append((call.where, None))
            case "sync":
                self._find(call.path).sync()
            case "unlink" | "rmdir":
                folder, name = self._place(call.path)
                folder.change({name: None})
            case "rename":
                self._rename(call.other, call.path)
            case _:
                folder, name = self._place(call.path)
                folder.change({name: self._made(call)})

    def _made(self, call: Call) -> "_Node":
        match call.what:
            case "create":
                return _File()
            case "mkdir":
                return _Folder()
            case "symlink":
                return _File(target=call.other)
            case "link":
                return self._find(call.other)
            case other:
                raise AssertionError(f"{other} is not known")

    def _rename(self, before: str, after: str) -> None:
        (old, old_name), (new, new_name) = self._place(before), self._place(after)
        node = old.now[old_name]
        if old is new:
            new.change({old_name: None, new_name: node})
        else:
            new.change({new_name: node})
            old.change({old_name: None})

    def lay_out(self, folder: Path, chance: Random | None) -> None:
        """Write what a power cut leaves into a new folder; without chance, what a process sees."""
        _lay_out(self._root, folder, chance)

    def _place(self, path: str) -> tuple[_Folder, str]:
        *folders, name = path.split("/")
        place = self._root
        for each in folders:
            found = place.now[each]
            assert isinstance(found, _Folder)
            place = found
        return place, name

    def _find(self, path: str) -> _Node:
        if path.startswith("/"):  # the folder itself has no name below it
            return self._root
        folder, name = self._place(path)
        return folder.now[name]

    def _file(self, path: str) -> _File:
        found = self._find(path)
        assert isinstance(found, _File)
        return found


def cuts(calls: list[Call], template: Path | None) -> Iterator[tuple[int, Medium]]:
    """Yield the medium before the first call or word and after each, with how many there were."""
    medium = Medium(template)
    yield 0, medium
    for number, call in enumerate(calls, 1):
        if call.what != "told":
            medium.take(call)
        yield number, medium


def _taken(folder: Path) -> _Folder:
    """Return a folder that is safe as it is."""
    entries: dict[str, _Node] = {}
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            entries[path.name] = _File(target=str(path.readlink()))
        else:
            entries[path.name] = _taken(path) if path.is_dir() else _File(path.read_bytes())
    return _Folder(dict(entries), dict(entries))


def _lay_out(node: _Folder, place: Path, chance: Random | None) -> None:
    place.mkdir(mode=0o700, exist_ok=True)
    for name, entry in (node.now if chance is None else node.after_cut(chance)).items():
        path = place / name
        match entry:
            case _Folder():
                _lay_out(entry, path, chance)
            case _File(target=str() as target):
                path.symlink_to(target)
            case _File():
                path.write_bytes(entry.now() if chance is None else entry.after_cut(chance))
                path.chmod(0o600)


def _apply_write(content: bytearray, change: tuple[int, bytes | None]) -> None:
    at, data = change
    if data is None:
        del content[at:]
        content.extend(bytes(at - len(content)))
        return
    content.extend(bytes(max(0, at - len(content))))
    content[at : at + len(data)] = data


def _survivors(pending: list[tuple[int, bytes | None]], chance: Random) -> Iterator[tuple[int, bytes | None]]:
    """Yield what became of the writes since the last sync: any of them, and any part of each."""
    choice = chance.randrange(4)
    kept = chance.randint(0, len(pending))
    for number, (at, data) in enumerate(pending):
        match choice:
            case 0:
                return
            case 1:
                yield at, data
            case 2 if number >= kept:
                return
            case 2:
                yield (at, data) if number < kept - 1 or data is None else (at, _torn(data, chance))
            case _ if chance.random() < 0.5:
                yield at, data if data is None else _torn(data, chance)


def _torn(data: bytes, chance: Random) -> bytes:
    half = chance.randint(0, len(data))
    return chance.choice(
        (data, data[:half], bytes(len(data)), data[:half] + chance.randbytes(len(data) - half))
    )


def told_by(calls: list[Call], number: int, path: Path) -> None:
    """Write what a course had been told before the ``number``-th call returned."""
    words = (call.path for call in calls[:number] if call.what == "told")
    path.write_text("".join(f"{line}\n" for line in words))
