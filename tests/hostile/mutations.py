"""Changes of valid content into content that someone may have damaged, or made to do damage."""

import io
import json
import struct
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Mutation = Callable[[bytes, Random], bytes]
_RAW = {
    "deep": "[" * 200_000,
    "closed": "[" * 5_000 + "]" * 5_000,
    "objects": '{"a":' * 100_000,
    "digits": "9" * 5_000,
    "large": "1" + "0" * 400,
    "infinity": "1e999",
    "nan": "NaN",
    "surrogate": r'"\ud800"',
    "long": '"' + "x" * 100_000 + '"',
    "many": "[" + "0," * 50_000 + "0]",
}
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 2**15, 2**31, 2**63, 2**64, -(2**70), 0.5, 1e300, "", "0", "a", "\0", "é\n", [], {},
    [1], ["a"], [[]], {"a": 1}, {"": None}, "../x", "/dev/zero", *(f"@raw:{name}@" for name in _RAW),
)  # fmt: skip


def of_bytes(content: bytes, random: Random) -> bytes:
    """Flip, cut, repeat, insert or replace some bytes."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        at = random.randrange(len(data) + 1)
        upto = min(len(data), at + random.choice((1, 1, 4, 64, 1000)))
        kind = random.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            del data[at:upto]
        elif kind == 3:
            data[at:at] = random.randbytes(upto - at)
        elif kind == 4:
            data[at:upto] = bytes([random.choice((0, 0xFF, 0x5B, 0x22))]) * (upto - at)
        elif kind == 5:
            data[at:upto] = data[at:upto] * 2
        else:
            data[at : at + 8] = struct.pack("<Q", random.choice((0, 2**31, 2**63, 2**64 - 1, 10**12)))
    return bytes(data)


def of_json(content: bytes, random: Random) -> bytes:
    """Replace, remove or add values anywhere in a JSON text, or damage its bytes."""
    if random.random() < 0.15:
        return of_bytes(content, random)
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):  # changed before
        return of_bytes(content, random)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        tree = changed_value(tree, random)
    return with_raw(json.dumps(tree)).encode("utf-8", "surrogatepass")


def of_json_lines(content: bytes, random: Random) -> bytes:
    """Change one line as `of_json` does."""
    lines = content.split(b"\n")
    number = random.randrange(len(lines))
    lines[number] = of_json(lines[number] or b"{}", random)
    return b"\n".join(lines)


def changed_value(tree: Any, random: Random) -> Any:
    """Return a tree of JSON with one value replaced, removed or added."""
    if isinstance(tree, dict | list) and tree and random.random() < 0.9:
        key = random.choice(list(tree) if isinstance(tree, dict) else range(len(tree)))
        action = random.random()
        if action < 0.1:
            del tree[key]
        elif action < 0.2 and isinstance(tree, dict):
            tree[random.choice(("", "a", "\ud800", "self", "0", "99999999999999999999", str(key) + "x"))] = tree[key]
        elif action < 0.6:
            tree[key] = deepcopy(random.choice(_VALUES))
        else:
            tree[key] = changed_value(tree[key], random)
        return tree
    return deepcopy(random.choice(_VALUES))


def with_raw(text: str) -> str:
    """Put what `json.dumps` cannot write in the place of its names."""
    for name, raw in _RAW.items():
        text = text.replace(f'"@raw:{name}@"', raw)
    return text


def of_safetensors(content: bytes, random: Random) -> bytes:
    """Change the header, with its length as it is then, or any bytes."""
    if random.random() < 0.3:
        return of_bytes(content, random)
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    for _ in range(random.choice((1, 1, 2, 4))):
        header = _changed_header(header, random)
    text = with_raw(json.dumps(header)).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def _changed_header(header: Any, random: Random) -> Any:
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if isinstance(metadata, dict) and metadata and random.random() < 0.5:
        key = random.choice(list(metadata))  # the value is JSON itself, where the file is ours
        metadata[key] = of_json(str(metadata[key]).encode(), random).decode("utf-8", "replace")
        return header
    return changed_value(header, random)


def of_npy(content: bytes, random: Random) -> bytes:
    """Change the text of the header, or any bytes."""
    if random.random() < 0.4:
        return of_bytes(content, random)
    (length,) = struct.unpack("<H", content[8:10])
    header, data = content[10 : 10 + length].decode(), content[10 + length :]
    shape = header[header.index("(") : header.index(")") + 1]
    other = random.choice(
        ("()", "(0,)", "(Infinity,)", "(-1, 2, 3)", f"({2**63}, 1, 1)", f"({2**32}, {2**32}, 4)", "(" * 90 + ")" * 90,
         "(1e9, 1, 1)", "(None,)", "(True, 2, 1)", "'abc'", "(" + "9" * 3_000 + ",)", "(1, 1, 1, 1, 1)",
         f"(0, {10**9}, 2)"),
    )  # fmt: skip
    descr = random.choice(("'<f4'", "'|O'", "'<U9'", "'V8'", "[('a', '<i2')]", "3", "'>i2'", "'<M8[ns]'", "'|b1'"))
    header = header.replace(shape, other) if random.random() < 0.6 else header.replace("'<i2'", descr)
    text = header.encode()[:65_000]
    return content[:8] + struct.pack("<H", len(text)) + text + data


def of_parquet(content: bytes, random: Random) -> bytes:
    """Replace, rename, repeat or leave out columns and rows, or damage bytes."""
    if random.random() < 0.3:
        return of_bytes(content, random)
    table = pq.read_table(io.BytesIO(content))
    name = random.choice(table.column_names)
    place, rows = table.column_names.index(name), len(table)
    action = random.random()
    if action < 0.6:
        table = table.set_column(place, name, _column(rows, random))
    elif action < 0.7:
        table = table.drop_columns([name])
    elif action < 0.8:
        table = table.append_column(random.choice((name, "more", "a\0b")), _column(rows, random))
    else:
        table = random.choice((table.slice(0, rows // 2), pa.concat_tables([table, table]), table.slice(0, 0)))
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _column(rows: int, random: Random) -> pa.Array:
    indices = pa.array(np.zeros(rows, np.int32))
    return random.choice(
        (
            lambda: pa.nulls(rows),
            lambda: pa.array([None] * rows, pa.int32()),
            lambda: pa.array(np.full(rows, 2**62)),
            lambda: pa.array(np.full(rows, -1, np.int32)),
            lambda: pa.array(np.full(rows, np.nan, np.float32)),
            lambda: pa.array(["x"] * rows),
            lambda: pa.array([""] * rows),
            lambda: pa.array([True] * rows),
            lambda: pa.array([[1, 2]] * rows),
            lambda: pa.array([{"a": 1}] * rows),
            lambda: pa.array([b"\xff"] * rows),
            lambda: pa.array([2**60] * rows, pa.timestamp("ms")),
            lambda: pa.array([-(2**30)] * rows, pa.date32()),
            lambda: pa.array([10**15] * rows, pa.duration("s")),
            lambda: pa.DictionaryArray.from_arrays(indices, pa.array(["x" * 10**6])),
            lambda: pa.DictionaryArray.from_arrays(indices, pa.array([7], pa.int64())),
            lambda: pa.array(np.arange(rows, dtype=np.uint64) + 2**63),
        )
    )()
