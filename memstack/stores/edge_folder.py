"""The folder of an embedded Qdrant collection: the engine's shard, the rows beside it, and a note of what it must hold.

A shard is made beside its place and moved there as a whole, and so is the one that replaces it: there is never half of
one. What others made in the folder is left as it is.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import qdrant_edge as edge

from memstack.clues import Clue
from memstack.errors import MemstackError, StoreCorrupted, StoreError, StoreLocked
from memstack.folders import make_folder
from memstack.payload import INSTANTS
from memstack.scope import SCOPE_FIELDS
from memstack.stores.edge_points import INDEX, flat, points_having, vector_of
from memstack.stores.foreign import check_no_file, check_no_other_case, check_nobody_elses, writing_to
from memstack.stores.gate import Gate
from memstack.stores.kept import Kept
from memstack.stores.qdrant_common import full_scan_kibibytes
from memstack.stores.room import FREE_BYTES, check_room
from memstack.stores.rows import DAMAGED, RowFile
from memstack.stores.tally import NO_DAMAGE, NOTHING_DAMAGED, Tally, check_readable, digest_of, sync_folder

__all__ = [
    "MANIFEST",
    "SHARD",
    "Shard",
    "copy_points",
    "length_of_vectors",
    "load",
    "prepare",
    "size_of",
    "translated",
]

_log: Final = logging.getLogger(__name__)
MANIFEST: Final = "memstack.json"
_TALLY: Final = "rows"
_ROWS: Final = "rows.db"
SHARD: Final = "shard"
_CONFIG: Final = "edge_config.json"
_DRAFT: Final = "shard.new-"  # an empty shard that is being made
_NEW: Final = "shard.new"  # a copy that takes the place of the shard ...
_OLD: Final = "shard.old"  # ... and what it takes the place of, for as long as that lasts
_CLIENTS_OWN: Final = "collection/*/storage.sqlite"  # what qdrant-client, and so Mem0, makes in a folder
_KEPT_CLUES: Final = 30_000_000  # bytes: about 50,000, for messages of common length
_CLUE_BYTES: Final = 350  # of a clue, besides its words
_KEPT_CONDITIONS: Final = 4  # each may hold the ids of all rows
# How SQLite and the engine say that a file is not what they wrote.
_DAMAGED: Final = (
    *DAMAGED, " is not readable from ", "Payload storage is corrupted", "buffer was corrupted",
    "Data corruption detected",
)  # fmt: skip
# How they say that the process, the user or the disk keeps them from a file. The words of the system are in the
# language of the process; the engine's kinds are not, nor are numbers.
_NO_DAMAGE: Final = (
    "Too many open files", "Cannot allocate memory", "Permission denied", "No space left on device",
    "TooManyOpenFiles", "OutOfMemory", "PermissionDenied", "StorageFull",
    "unable to open database file", "disk I/O error", "database or disk is full",
)  # fmt: skip
_NUMBER: Final = re.compile(r"os error (\d+)|code: (\d+)")
_REFUSED: Final = (
    (4, 5, 8, 14, 32, 112) if sys.platform == "win32"  # files, access, memory, memory, another's, room
    else (*NO_DAMAGE, errno.ENOSPC, errno.EROFS)
)  # fmt: skip
_SEGMENTS: Final = 4  # one of them is written to. Fewer are rewritten more often, and each takes 15 ms to open
_COPY: Final = 1_000  # rows copied at a time


class Shard:
    """An open shard with its rows, and the note of what it must hold.

    Writes take turns: the note is right between two of them, and so when it is closed under threads that write.

    Attributes:
        is_away: whether its files were to be replaced, and the engine could not be opened again.
    """

    def __init__(self, engine: edge.EdgeShard, folder: Path, label: str) -> None:
        self.engine = engine
        self.gate = Gate()
        self.is_away = False
        self._counted: int | None = None
        self.clues: Kept[int, Clue] = Kept(_KEPT_CLUES, _size_of_clue)  # by the number of the UUID
        self._having: dict[tuple[str, ...], Any] = {}  # until the next write
        self.lock = threading.RLock()
        self.tally = Tally(folder / _TALLY, label)
        self._folder = folder
        self._label = label
        with ExitStack() as opened:
            opened.callback(engine.close)
            opened.enter_context(translated(label, folder, "open"))
            self.told = _rows_of(folder, self.tally)
            opened.callback(self.told.close)
            noted = self.tally.file.exists()
            if self.tally.check(self) or not noted:
                self._settle(noted=noted)
            opened.pop_all()

    def rows(self) -> int:
        return self.engine.info().points_count

    def texts(self) -> int:
        return self.told.count()

    def digest(self, row_id: str) -> str | None:
        found = self.engine.retrieve([row_id], with_payload=False, with_vector=False)
        told = self.told.payloads([row_id])
        return digest_of(*told.values()) if found and told else None

    @property
    def count(self) -> int:
        """How many rows there are between two writes: asked for once after each."""
        if self._counted is None:
            self._counted = self.rows()
        return self._counted

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A write, which may fail half-way."""
        with self.lock:
            try:
                yield
            except BaseException:
                self._counted = None
                raise
            finally:
                self._having.clear()

    def having(self, words: tuple[str, ...]) -> Any:
        """The condition that holds for the points that have any of many words now. Whoever asks holds the lock.

        The last ones are kept: a search asks for the same words a score of times.
        """
        found = self._having.get(words)
        if found is None:
            if len(self._having) >= _KEPT_CONDITIONS:
                self._having.clear()
            found = self._having[words] = points_having(self.engine, words)
        return found

    def note(self, last: str | None = None, digest: str | None = None) -> None:
        """Note that a write has happened, and what was written last."""
        self._counted = None
        self.tally.after(self.count, last, digest)

    def _settle(self, *, noted: bool) -> None:
        """Delete what a write that was interrupted has left in one of the two.

        Raises:
            ValueError: no row is left of those that the engine has, and no note tells why.
        """
        if not noted:
            points_there, rows_there = self.rows(), self.texts()
            if points_there == rows_there:
                return
            if not rows_there:
                raise ValueError(f"{_ROWS} holds no row, and the engine has {points_there}")
        points = {str(point.id) for some in _pages(self.engine, payload=False, vector=False) for point in some}
        rows = self.told.ids()
        if points == rows:
            return
        _log.warning(
            "%s: a write was interrupted, or the note is gone: "
            "%d rows without a point and %d points without a row are deleted",
            self._label,
            len(rows - points),
            len(points - rows),
        )
        if points - rows:
            self.engine.update(edge.UpdateOperation.delete_points(list(points - rows)))
        with self.told.transaction():
            self.told.drop(rows - points)
        self.note()

    def replace(self, dimensions: int) -> None:
        """Put the copy of `copy_points` in the place of the engine's files. Where that fails, the old ones stay.

        Raises:
            StoreError: that failed; or the engine cannot be opened again, and `bring_back` has to be called.
        """
        with self.gate.alone(), self.lock:
            self.is_away = True
            self.engine.close()
            try:
                replace_shard(self._folder, self._label)
            finally:
                self.bring_back(dimensions)

    def bring_back(self, dimensions: int) -> None:
        """Open the engine again that could not be opened when its files were replaced."""
        with self.gate.alone(), self.lock:
            if self.is_away:
                self.engine = load(self._folder, dimensions, self._label)
                self.is_away = False

    def close(self) -> None:
        # The engine refuses to be closed while a call is in it: those that are under way come out first.
        with self.gate.alone(), self.lock, translated(self._label, self._folder, "close"):
            if self.is_away:
                self.told.close()
                return
            with ExitStack() as closing:  # the engine keeps others out until it is closed, whatever fails before
                closing.callback(self.engine.close)
                closing.callback(self.told.close)
                rows = self.rows()
            if self.tally.in_use:
                self.tally.close(rows)


def prepare(root: Path, folder: Path, label: str) -> None:
    """Make the folder of a collection, and see that it can be written.

    Raises:
        ConfigError: there is a file in its place, or a collection whose name this system takes for the same.
        StoreError: it cannot be written, or is somebody else's.
        StoreFull: the disk has no room.
    """
    with writing_to(label):
        check_no_file(root, folder)
        check_no_other_case(folder)
        check_nobody_elses(label, root, _CLIENTS_OWN, folder)
        check_room(label, next(place for place in (root, *root.parents) if place.exists()), FREE_BYTES)
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):  # whether it can be written, found out under no fixed name
            pass


def load(folder: Path, dimensions: int, label: str) -> edge.EdgeShard:
    """Open the engine's shard, made when missing.

    Raises:
        StoreLocked: another process has it open.
        StoreCorrupted: its files cannot be read.
    """
    if not (folder / SHARD).exists() and (folder / _OLD).exists():
        (folder / _OLD).rename(folder / SHARD)  # a process died while it replaced the shard
    place = folder / SHARD
    with translated(label, folder, "open"):
        if not (place / _CONFIG).exists():
            for known in (MANIFEST, _TALLY):  # both come after the shard
                if (folder / known).exists():
                    raise StoreCorrupted(label, str(folder), f"{known} is there, and {SHARD}/{_CONFIG} is not")
            _create(folder, dimensions)
        shard = edge.EdgeShard.load(str(place))
    try:
        for left in (_NEW, _OLD):  # nobody else has it open, so nobody is replacing it
            shutil.rmtree(folder / left, ignore_errors=True)
        with translated(label, folder, "index"):
            indexed = shard.info().payload_schema
            for name, params in _indexes().items():
                if name not in indexed:
                    shard.update(edge.UpdateOperation.create_field_index(name, params))
    except BaseException:
        shard.close()
        raise
    return shard


def _rows_of(folder: Path, tally: Tally) -> RowFile:
    """The file of rows; a new one where nothing was ever written.

    Raises:
        ValueError: it is gone.
        sqlite3.Error: it is not what it was.
    """
    file = folder / _ROWS
    if tally.file.exists() and not file.exists():
        raise ValueError(f"{tally.file.name} is there, and {file.name} is not")
    return RowFile(file, new=not tally.file.exists())


def _create(folder: Path, dimensions: int) -> None:
    """Make the shard beside its place and move it there as a whole: there is never half of one."""
    draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=folder))
    try:
        edge.EdgeShard.create(str(draft), _edge_config(dimensions)).close()
        with suppress(OSError):  # another process was faster: its shard is the one
            draft.replace(folder / SHARD)
            sync_folder(folder)
    except Exception:  # what the engine raises
        if not (folder / SHARD / _CONFIG).exists():
            raise
        # another process was faster here, too, and has removed this draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    for left in folder.glob(f"{_DRAFT}*"):  # of processes that died here; nobody needs one any more
        shutil.rmtree(left, ignore_errors=True)


def length_of_vectors(folder: Path, label: str) -> int:
    """How many dimensions the shard was made for."""
    config = folder / SHARD / _CONFIG
    try:
        return int(json.loads(config.read_text(encoding="utf-8"))["vectors"][""]["size"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        check_readable(label, config, error)
        raise StoreCorrupted(label, str(config), f"{type(error).__name__} in {_CONFIG}") from error


def size_of(folder: Path) -> int:
    """How many bytes of the disk its files take: most of them have holes."""
    total = 0
    for place, _, names in os.walk(folder):  # which passes over what the engine has removed meanwhile
        for name in names:
            with suppress(OSError):
                found = Path(place, name).stat()
                total += getattr(found, "st_blocks", found.st_size // 512) * 512
    return total


def _pages(engine: edge.EdgeShard, *, payload: bool, vector: bool) -> Iterator[list[edge.Record]]:
    """All points."""
    offset: Any = None
    while True:
        request = edge.ScrollRequest(limit=_COPY, offset=offset, with_payload=payload, with_vector=vector)
        found, offset = engine.scroll(request)
        yield found
        if offset is None:
            return


def copy_points(engine: edge.EdgeShard, folder: Path, dimensions: int) -> None:
    """Write every point into a new shard, beside the one that is open; see `replace_shard`."""
    place = folder / _NEW
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    copy = edge.EdgeShard.create(str(place), _edge_config(dimensions))
    try:
        for name, params in _indexes().items():
            copy.update(edge.UpdateOperation.create_field_index(name, params))
        for found in _pages(engine, payload=True, vector=True):
            points = [edge.Point(point.id, vector_of(point), point.payload) for point in found]
            if points:
                copy.update(edge.UpdateOperation.upsert_points(points))
        copy.flush()
        if copy.count(edge.CountRequest(exact=True)) != engine.count(edge.CountRequest(exact=True)):
            raise ValueError("the copy has another number of rows")
    finally:
        copy.close()


def replace_shard(folder: Path, label: str) -> None:
    """Put the new shard in the place of the old one, which is closed. `load` puts right what was interrupted."""
    try:
        (folder / SHARD).rename(folder / _OLD)
        (folder / _NEW).rename(folder / SHARD)
        shutil.rmtree(folder / _OLD)
    except OSError as error:
        raise StoreError(label, f"cannot replace {folder / SHARD} ({error.strerror})", "Open it again.") from error


def _size_of_clue(clue: Clue) -> int:
    return _CLUE_BYTES + sys.getsizeof(clue.words) + sys.getsizeof(clue.name)


def _edge_config(dimensions: int) -> edge.EdgeConfig:
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(size=dimensions, distance=edge.Distance.Cosine),
        hnsw_config=edge.HnswIndexConfig(
            m=0, ef_construct=100, full_scan_threshold=full_scan_kibibytes(dimensions), payload_m=16
        ),
        optimizers=edge.EdgeOptimizersConfig(default_segment_number=_SEGMENTS),
    )


def _indexes() -> dict[str, Any]:
    """What is searched by. `on_disk` maps the files that a reorganisation makes: they are not read to open them."""
    kept: Any = {"on_disk": True, "enable_hnsw": False}
    tenants = {name: edge.KeywordIndexParams(is_tenant=True, on_disk=True) for name in SCOPE_FIELDS}
    times = {flat(f"times.{name}"): edge.IntegerIndexParams(lookup=False, range=True, **kept) for name in INSTANTS}
    words = edge.TextIndexParams(tokenizer=edge.TokenizerType.Whitespace, lowercase=False, **kept)
    return {**tenants, INDEX: words, **times}


def _is_refusal(reason: str) -> bool:
    """Whether it tells what the system refuses, and of no damage."""
    numbers = (int(found[1] or found[2]) for found in _NUMBER.finditer(reason))
    return any(words in reason for words in _NO_DAMAGE) or any(number in _REFUSED for number in numbers)


@contextmanager
def translated(label: str, folder: Path, what: str) -> Iterator[None]:
    """The engine's exceptions as ours. It raises plain ``Exception`` with text, and panics as ``BaseException``."""
    try:
        yield
    except (MemstackError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        reason = " ".join(str(error).split())
        if "WAL" in reason and "WouldBlock" in reason:
            raise StoreLocked(label, str(folder)) from error
        if what == "open" and _is_refusal(reason):
            raise StoreError(label, f"cannot open: {reason}", NOTHING_DAMAGED) from error
        if what == "open" or any(words in reason for words in _DAMAGED):
            raise StoreCorrupted(label, str(folder), reason) from error
        raise StoreError(label, f"cannot {what}: {reason}") from error
