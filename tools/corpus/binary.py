# SPDX-License-Identifier: Apache-2.0
"""Readers of two binary formats: R's lazy-load databases and SWORD's compressed modules."""

import bz2
import lzma
import struct
import zlib

# R's serialisation, see "R Internals", section "Serialization Formats".
_SYM, _LIST, _CLO, _LANG, _CHAR, _LGL, _INT, _REAL, _STR, _VEC = 1, 2, 3, 6, 9, 10, 13, 14, 16, 19
_ATTR_LISTS = {_LIST, _CLO, _LANG, 5}
_ALTREP, _ATTRLIST, _ATTRLANG, _REF, _NIL = 238, 239, 240, 255, 254
_SINGLETONS = {242, 250, 251, 252, 253, _NIL}  # empty and base environments, missing argument


class _Xdr:
    """Decodes one object; vectors become lists, named lists become dicts, pairlists dicts."""

    def __init__(self, data: bytes):
        self._data = data
        self._pos = 0
        self._references: list[object] = []

    def integer(self) -> int:
        (value,) = struct.unpack_from(">i", self._data, self._pos)
        self._pos += 4
        return value

    def take(self, size: int) -> bytes:
        if size < 0 or self._pos + size > len(self._data):
            raise ValueError("R object: truncated")
        self._pos += size
        return self._data[self._pos - size:self._pos]

    def header(self) -> None:
        if self.take(2) != b"X\n":
            raise ValueError("R object: not in XDR format")
        version = self.integer()
        self.take(8)  # the writer's and the oldest reader's version of R
        if version == 3:
            self.take(self.integer())  # name of the native encoding
        elif version != 2:
            raise ValueError(f"R object: unknown serialisation version {version}")

    def _length(self) -> int:
        size = self.integer()
        if size < 0:
            raise ValueError("R object: vector too long")
        return size

    def item(self) -> object:
        flags = self.integer()
        kind = flags & 0xFF
        if kind in _SINGLETONS:
            return None
        if kind == _REF:
            index = flags >> 8 or self.integer()
            return self._references[index - 1]
        if kind == _SYM:
            name = self.item()
            self._references.append(name)
            return name
        if kind in _ATTR_LISTS or kind in (_ATTRLIST, _ATTRLANG):
            return self._pairlist(flags)
        if kind == _ALTREP:
            return self._altrep()
        return self._vector(kind, bool(flags & 0x200))

    def _pairlist(self, flags: int) -> dict:
        result: dict = {}
        while flags & 0xFF != _NIL:
            if flags & 0x200:
                self.item()  # attributes of the cell
            tag = self.item() if flags & 0x400 else len(result)
            result[tag] = self.item()
            flags = self.integer()
        return result

    def _altrep(self) -> object:
        """Wrapped vectors hold the real one first; compact sequences are length, start, step."""
        info, state = self.item(), self.item()
        self.item()
        name = next(iter(info.values())) if isinstance(info, dict) else ""
        if name in ("compact_intseq", "compact_realseq"):
            size, start, step = state
            return [start + step * i for i in range(int(size))]
        return next(iter(state.values())) if isinstance(state, dict) else state[0]

    def _vector(self, kind: int, has_attributes: bool) -> object:
        size = self.integer()
        if kind == _CHAR:
            return None if size == -1 else self.take(size).decode("utf-8", "replace")
        if size < 0:
            raise ValueError("R object: vector too long")
        if kind in (_LGL, _INT):
            value = list(struct.unpack(f">{size}i", self.take(4 * size)))
        elif kind == _REAL:
            value = list(struct.unpack(f">{size}d", self.take(8 * size)))
        elif kind in (_STR, _VEC):
            value = [self.item() for _ in range(size)]
        else:
            raise ValueError(f"R object: type {kind} is not supported")
        attributes = self.item() if has_attributes else None
        if kind == _VEC and attributes and "names" in attributes:
            return dict(zip(attributes["names"], value))
        return value


def r_unserialize(data: bytes) -> object:
    """The value of a serialised R object (vectors, lists, strings; attributes but names dropped).

    Raises ValueError for damaged data and for types that hold code or environments.
    """
    reader = _Xdr(data)
    try:
        reader.header()
        return reader.item()
    except (struct.error, IndexError) as error:
        raise ValueError("R object: truncated") from error


def _r_entry(block: bytes) -> bytes:
    """Undoes the compression of one database entry: big-endian size, perhaps a letter, data."""
    size, body = struct.unpack_from(">I", block)[0], block[4:]
    decoders = {b"2": bz2.decompress, b"0": bytes, b"1": zlib.decompress,
                b"Z": lambda raw: lzma.decompress(raw, lzma.FORMAT_RAW, filters=[
                    {"id": lzma.FILTER_LZMA2, "preset": 6}])}
    decode = decoders.get(body[:1])
    data = decode(body[1:]) if decode else zlib.decompress(body)
    if len(data) != size:
        raise ValueError("R database: entry has the wrong size")
    return data


def r_database(rdx: bytes, rdb: bytes) -> dict[str, object]:
    """The named objects of a lazy-load database (index `.rdx`, data `.rdb`)."""
    index = r_unserialize(zlib.decompress(rdx, wbits=47))  # zlib or gzip
    return {name: r_unserialize(_r_entry(rdb[offset:offset + size]))
            for name, (offset, size) in index["variables"].items()}


def _verse_records(zv: bytes, blocks: list[bytes]) -> list[tuple[int, int, int]]:
    """(block, offset, size) per verse. Records are 12 bytes in the "4" drivers, else 10; the
    first layout whose records all lie inside their blocks is the right one."""
    for layout in ("<III", "<IIH"):
        width = struct.calcsize(layout)
        if len(zv) % width:
            continue
        records = list(struct.iter_unpack(layout, zv))
        if all(size == 0 or (block < len(blocks) and offset + size <= len(blocks[block]))
               for block, offset, size in records):
            return records
    raise ValueError("SWORD module: damaged verse index")


def sword_entries(zs: bytes, zv: bytes, zz: bytes) -> list[str]:
    """The entries of one testament of a zText or zCom module, in order, without repetitions.

    `zs` indexes the zlib blocks in `zz` (offset, size, unpacked size; little-endian), `zv` the
    verses in the blocks. A commentary that covers several verses is listed once.
    """
    blocks = []
    for offset, size, unpacked in struct.iter_unpack("<III", zs):
        block = zlib.decompress(zz[offset:offset + size]) if size else b""
        if len(block) != unpacked:
            raise ValueError("SWORD module: block has the wrong size")
        blocks.append(block)
    entries, last = [], None
    for record in _verse_records(zv, blocks):
        block, offset, size = record
        if size and record != last:
            entries.append(blocks[block][offset:offset + size].decode("utf-8", "replace"))
            last = record
    return entries
