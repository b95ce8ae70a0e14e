"""Files of a trace that someone made to exhaust memory or to confuse a parser: each ends in a sentence, and soon."""

import json
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixtral_probe import InputError
from mixtral_probe.trace import Trace
from mixtral_probe.trace.storage.folder import read_array
from mixtral_probe.trace.storage.tensor_file import TensorFile


@pytest.fixture
def saved(tmp_path):
    trace = Trace.from_arrays(expert_ids=np.zeros((1, 2, 1), int), num_experts=2, piece=["a", "b"])
    return trace.save(tmp_path / "a.trace")


def refused(saved, message, **files):
    """Replace files, listed with their sizes as they are, and load."""
    for name, write in files.items():
        write(next(saved.glob(f"{name}.*")))
    about = json.loads((saved / "trace.json").read_text())
    about["files"] = {name: (saved / name).stat().st_size for name in about["files"]}
    (saved / "trace.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=message) as caught:
        Trace.load(saved)
    assert "\n" not in str(caught.value)


def npy(shape, descr="'<i2'", data=b"\0" * 4):
    """The bytes of a .npy file with this header, true or not."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def test_a_table_of_very_many_rows_is_refused_unread(saved, monkeypatch):
    rows = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**7, np.int32)), pa.array(["a"]))
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("read"))
    monkeypatch.setattr("mixtral_probe.trace.storage.parquet.read_documents", lambda path: None)
    refused(
        saved, r"tokens\.parquet must have a row for each of the 2 tokens of the arrays, got 10,000,000",
        tokens=lambda path: pq.write_table(pa.table({"piece": rows}), path),
    )  # fmt: skip


@pytest.mark.parametrize(
    "texts", [pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**6, np.int32)), ["a"]), ["x" * 10**6] * 10**3]
)
def test_a_small_table_of_documents_that_stands_for_very_much(saved, texts):
    columns = {"document": np.arange(len(texts), dtype=np.int32), "id": texts}
    refused(
        saved, r"documents\.parquet must take at most 100 times its size in memory, got [\d.]+ GB",
        documents=lambda path: pq.write_table(pa.table(columns), path, compression="zstd"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"document": [0], "id": [["a"]]}, "must hold texts, numbers or truth values, got list"),
        ({"document": [0], "id": ["a"], "x": pa.array([2**60], pa.timestamp("ms"))}, "got timestamp"),
        ({"document": ["0"], "id": ["a"]}, "must be numbered 0, 1, 2"),
        ({"document": pa.array([None], pa.int32()), "id": ["a"]}, "must be numbered 0, 1, 2"),
        ({"id": ["a"]}, "must begin with the columns document, id"),
    ],
)
def test_documents_of_other_kinds(saved, columns, message):
    refused(saved, message, documents=lambda path: pq.write_table(pa.table(columns), path))


@pytest.mark.parametrize("name", ["document", "position", "predicted_id", "piece", "phase", "special", "nll"])
@pytest.mark.parametrize(
    "values", [["x", None], [1.5, None], [2**62, 2**61], [True, None], pa.array([1, 2], pa.timestamp("s")), [[1], [2]]]
)
def test_tokens_of_other_kinds(saved, name, values):
    def write(path):
        table = pq.read_table(path)
        pq.write_table(table.set_column(table.column_names.index(name), name, [values]), path)

    if (name, values) != ("piece", ["x", None]):
        refused(saved, ".", tokens=write)


@pytest.mark.parametrize(
    "header",
    [
        npy("(Infinity, 2, 1)"),
        npy(f"({10**30}, 2, 1)"),
        npy(f"({2**63}, 2, 1)"),
        npy(f"({2**32}, {2**32}, 2)"),
        npy("(-1, -2, 1)"),
        npy("(" * 400 + "1" + ")" * 400),
        npy("(" + "9" * 5_000 + ",)"),
        npy("(1, 2, True)"),
        npy("(1.0, 2, 1)"),
        npy("(1, 2, 1)", "'O'"),
        npy("(1, 2, 1)", "[('a', '<i2')]"),
        npy("(1, 2, 1)", "'V2'"),
        npy("(1, 2, 1)", "'<i2', 'descr': 3"),
        npy("(1, 2, 1)", data=b"\0" * 3),
        b"\x93NUMPY\x09\x00",
        b"\x93NUMPY\x01\x00\xff",
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
        b"PK\x05\x06" + b"\0" * 18,
        b"",
    ],
)  # fmt: skip
def test_headers_of_arrays(tmp_path, header):
    (tmp_path / "a.npy").write_bytes(header)
    with pytest.raises(InputError, match=r"a\.npy must be a whole \.npy array of numbers, got ") as caught:
        read_array(tmp_path / "a.npy")
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("array", [np.arange(6, dtype=np.int16).reshape(1, 2, 3), np.zeros((4, 0, 2), np.float32)])
def test_arrays_as_numpy_writes_them(tmp_path, array, version):
    for order in (array, np.asfortranarray(array)):
        with (tmp_path / "a.npy").open("wb") as file:
            np.lib.format.write_array(file, order, version)
        np.testing.assert_array_equal(read_array(tmp_path / "a.npy"), array, strict=True)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"num_layers": 10**9}, "num_layers: Input should be less than or equal to 32768"),
        ({"num_experts": 10**30}, "num_experts: "),
        ({"moe_layers": [2**63]}, r"moe_layers\.0: Input should be less than"),
        ({"num_layers": "x"}, "num_layers: Input should be a valid integer"),
        ({"software": 3}, "software: Input should be a valid dictionary"),
        ({"surprise": 3}, "surprise: Extra inputs"),
        ([], "must be a mapping"),
    ],
)
def test_descriptions_beyond_all_models(saved, meta, message):
    about = json.loads((saved / "trace.json").read_text())
    about["meta"] = about["meta"] | meta if meta else meta
    (saved / "trace.json").write_text(json.dumps(about))
    refused(saved, rf"trace\.json must describe a trace, got .*{message}")


@pytest.mark.parametrize("files", [{"expert_ids.npy": 1e999}, {"a\0b": 3}, {"../x": 3}, {"x": None}, [], 3])
def test_lists_of_files(saved, files):
    about = json.loads((saved / "trace.json").read_text()) | {"files": files}
    (saved / "trace.json").write_text(json.dumps(about))
    with pytest.raises(InputError):
        Trace.load(saved)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8 + b"{}",
        struct.pack("<Q", 2**31) + b"{}",
        struct.pack("<Q", 10**5) + b"[" * 10**5,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 9) + b'{"a": 3} ',
        *(
            struct.pack("<Q", len(text)) + text + b"\0" * 4
            for text in (
                b'{"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}',
                b'{"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}',
                b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}',
                b'{"a": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 4]}}',
                b'{"a": {"dtype": "F32", "shape": [99999999999999999999], "data_offsets": [0, 399999999999999999996]}}',
                b'{"a": {"dtype": {}, "shape": [1], "data_offsets": [0, 4]}}',
                b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
            )
        ),
    ],
)
def test_headers_of_safetensors(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.safetensors must be a whole safetensors file, got "):
        TensorFile(tmp_path / "a.safetensors")
