"""Every reader of the program: valid content, how to change it, and the call that reads it."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch
from urllib.parse import quote, urlencode

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from mixtral_probe import (
    Checkpoint,
    MixtralConfig,
    MixtralForCausalLM,
    Probe,
    RoutingStats,
    Selection,
    Tokenizer,
    edits,
    tables,
)
from mixtral_probe.checkpoint.native import native_config
from mixtral_probe.corpus import read_corpus
from mixtral_probe.report import write_report
from mixtral_probe.resources import data_path
from mixtral_probe.run import provenance
from mixtral_probe.selection import mask, parse
from mixtral_probe.trace import Result, Trace
from tests.hostile import mutations
from tests.hostile.mutations import Mutation
from tests.support.attention_traces import attentive_trace
from tests.support.cli import run as run_command
from tests.support.models import toy_model

EARLIER = Path(__file__).parents[1] / "compatibility" / "data"
CHAT = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]


@dataclass(frozen=True)
class Reader:
    """One reader and a folder with content that it reads."""

    name: str
    prepare: Callable[[Path], Any]
    """Writes valid content into a new folder."""
    mutate: Callable[[Path, Random], Any]
    """Changes it."""
    read: Callable[[Path], Any]
    """Reads it."""
    valid: bool = True
    """Whether there is something to read before it is changed."""


def _changed(pattern: str, mutation: Mutation) -> Callable[[Path, Random], None]:
    def change(folder: Path, random: Random) -> None:
        path = random.choice(sorted(folder.glob(pattern)))
        path.write_bytes(mutation(path.read_bytes(), random))
        _correct_sizes(folder)

    return change


def _correct_sizes(folder: Path) -> None:
    """List the files of a trace with their sizes, as someone would who means harm."""
    marker = folder / "trace.json"
    if marker.is_file():
        try:
            about = json.loads(marker.read_bytes())
            about["files"] = {name: (folder / name).stat().st_size for name in about["files"]}
        except Exception:
            return
        marker.write_text(json.dumps(about))


def _placed(folder: Path, random: Random) -> None:
    """Put a link, a pipe or nothing in the place of a file."""
    path = random.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    path.unlink()
    kind = random.randrange(4)
    if kind == 0:
        path.symlink_to("/dev/zero")
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.mkdir()


def _model(folder: Path, **options: Any) -> None:
    toy_model(vocab_size=300, num_local_experts=4).save_pretrained(folder, **options)


def _generating(folder: Path) -> None:
    _model(folder)
    fields = {
        "eos_token_id": [2, 3],
        "max_new_tokens": 3,
        "do_sample": True,
        "temperature": 0.5,
        "top_k": 5,
        "top_p": 0.9,
    }
    (folder / "generation_config.json").write_text(json.dumps(fields))


def _generated(folder: Path) -> None:
    model = MixtralForCausalLM.from_pretrained(folder)
    model.generate(torch.tensor([[1, 5, 7]]), **({} if _short(model.generation_config) else {"max_new_tokens": 3}))


def _short(config: Any) -> bool:
    number = (config or {}).get("max_new_tokens")
    return not isinstance(number, int) or number < 9


def _mistral(folder: Path) -> None:
    fields = {
        "dim": 24, "n_layers": 2, "head_dim": 8, "hidden_dim": 20, "n_heads": 4, "n_kv_heads": 2, "norm_eps": 1e-5,
        "vocab_size": 50, "moe": {"num_experts_per_tok": 2, "num_experts": 4},
    }  # fmt: skip
    (folder / "params.json").write_text(json.dumps(fields))


def _pickled(folder: Path) -> None:
    _model(folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def _tokenizer(folder: Path) -> None:
    shutil.copy(data_path("mixtral-mini") / "tokenizer.json", folder)
    definition = json.loads((folder / "tokenizer.json").read_bytes())
    vocabulary = definition["model"]["vocab"]
    kept = [(token, number) for token, number in vocabulary.items() if number < 400]
    definition["model"]["vocab"] = dict(kept)
    names = dict(kept)
    definition["model"]["merges"] = [
        pair for pair in definition["model"]["merges"] if {*pair, "".join(pair)} <= names.keys()
    ]
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    fields = {
        "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False},
        "chat_template": "{{ messages[0].content }}",
        "added_tokens_decoder": {"400": {"content": "<|a|>", "special": True}}, "extra_special_tokens": ["<|b|>"],
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))
    (folder / "added_tokens.json").write_text(json.dumps({"<|c|>": 900}))
    (folder / "special_tokens_map.json").write_text(
        json.dumps({"pad_token": "<|d|>", "additional_special_tokens": ["q"]})
    )


def _without_decoder(folder: Path) -> None:
    _tokenizer(folder)
    fields = json.loads((folder / "tokenizer_config.json").read_text())
    del fields["added_tokens_decoder"]
    (folder / "added_tokens.json").write_text(json.dumps({"<|c|>": 400}))
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))


def _tokenised(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    encoding = tokenizer.encode("né 🦄 <|a|></s>\n 42")
    tokenizer.decode(encoding.ids, chosen=True)
    tokenizer.pieces([*encoding.ids, 10**6], chosen=True)


_PARTS = (
    "{{ bos_token }}", "{% for m in messages %}", "{% endfor %}", "{{ m.content }}", "{% if", " m.role == 'user' ",
    "%}", "{% endif %}", "{{ raise_exception('no') }}", "{{ 'a' * 10 ** 10 }}", "{{ 9 ** (9 ** 9) }}",
    "{{ m | tojson }}",
    "{% for i in range(99999) %}", "{{ messages[99] }}", "{{ ''.__class__ }}", "{{ strftime_now('%Y') }}",
    "{{ 1 / 0 }}",
    "{% set x = namespace(a='ab') %}", "{% set x.a = x.a ~ x.a %}", "{{ lipsum(n=10**9) }}", "{% include 'x' %}", "{{",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "{{ [].pop() }}", "{{ 'é'.encode('ascii') }}", "\ud800", "{#",
    "{{ messages | map('upper') | list }}", "{{ 'a' | center(10**9) }}", "{{ cycler(1,2).next() }}", "{{ None.x.y }}",
    "{{ '%c' % 1114112 }}", "{{ '%s' % (1, 2) }}", "{{ dict(a=1)['b'].c }}", "{% generation %}", "{% endgeneration %}",
    "{% break %}", "{{ range(10**9) | list }}", "{{ 'a'.format(1) }}", "{{ '{:10000000000}'.format(1) }}", "{{ loop }}",
)  # fmt: skip


def _template(folder: Path, random: Random) -> None:
    text = "".join(random.choices(_PARTS, k=random.randrange(1, 7)))
    (folder / "chat_template.jinja").write_bytes(text.encode("utf-8", "surrogatepass"))


def _chatted(folder: Path) -> None:
    tokenizer = Tokenizer.from_folder(folder)
    tokenizer.encode("a plain text")
    tokenizer.apply_chat_template(CHAT)


@cache
def _trace() -> Trace:
    return attentive_trace()


def _saved_trace(folder: Path) -> None:
    shutil.copytree(EARLIER / "run.trace", folder, dirs_exist_ok=True)


def _attentive(folder: Path) -> None:
    _trace().save(folder)


def _loaded(folder: Path) -> None:
    trace = Trace.load(folder)
    repr(trace)
    stats = RoutingStats.from_trace(trace)
    tables.expert_load(stats)
    for layer in trace.attention_layers[:1]:
        trace.attention(0, layer)


def _informed(folder: Path) -> None:
    result = run_command("info", folder)
    assert result.exit_code in (0, 1, 2), result.exit_code


def _stats(folder: Path) -> None:
    RoutingStats.from_trace(Trace.load(EARLIER / "run.trace")).save(folder / "stats.safetensors")
    earlier = EARLIER / "run.trace" / "stats.safetensors"
    if earlier.is_file():
        shutil.copy(earlier, folder / "earlier.safetensors")


def _read_stats(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        stats = RoutingStats.load(path)
        repr(stats)
        tables.expert_load(stats)


def _results(folder: Path) -> None:
    shutil.copytree(EARLIER / "results", folder, dirs_exist_ok=True)


def _read_results(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        result = Result.load(path)
        repr(result)
        if result.TABLES:
            result.table()


_ONE = ("mask_expert", "zero_expert", "temperature", "top_k", "replay_routing", "x")
_EDIT_WORDS = (
    "expert=3", "layer=0..4", "layer=all", "layer=0..999999999", "expert=99999999999999999999", "temperature=nan",
    "temperature=1e999", "position=", "document.domain=a,b", "'", '"', "=", "\0", "expert=\ud800", "trace=/dev/zero",
    "experts=-1", "phase=x", "mean=1,2,x", "self=1", "edit=x", "expert=4..2", "token_id=٣", "\\", "layer=1,1",
)  # fmt: skip
_WORDS = (
    "layer", "token.is_digit", "domain", "weight[0]", "weight[99]", "choice[0]", "@digits", "@mine", "@", "and", "or",
    "not",
    "(", ")", "==", "!=", "<", "in", "{1, 2..3}", "1..2", "..", "1e999", "-1", "9" * 30, "'a'", '"\\ud800"', '"\\q"',
    "is missing",
    "contains", "true", "label['x']", "\0", "é", "#", "x" * 50, "\ud800", "nll", "margin", "expert",
)  # fmt: skip


def _text_file(words: Iterable[str], most: int) -> Callable[[Path, Random], None]:
    known = tuple(words)

    def write(folder: Path, random: Random) -> None:
        text = " ".join(random.choices(known, k=random.randrange(1, most)))
        (folder / "text").write_bytes(text.encode("utf-8", "surrogatepass"))

    return write


def _typed(folder: Path) -> str:
    return (folder / "text").read_bytes().decode("utf-8", "surrogatepass")


def _edit_text(folder: Path, random: Random) -> None:
    words = [random.choice(_ONE), *random.choices(_EDIT_WORDS, k=random.randrange(5))]
    (folder / "text").write_bytes(" ".join(words).encode("utf-8", "surrogatepass"))


def _address(folder: Path, random: Random) -> None:
    keys = ("trace", "document", "token", "layer", "expert", "head", "where", "slice", "x", "")
    values = (
        "0",
        "0..999999999",
        "9" * 40,
        "a:special",
        "b:@a and @a",
        "c:@b or @b",
        "@c",
        "layer == 1",
        "",
        "\ud800",
        "é,",
        "-1",
    )
    pairs = [(random.choice(keys), random.choice(values)) for _ in range(random.randrange(12))]
    text = urlencode(pairs, errors="surrogatepass")
    extra = random.choice(("", "&where=%ff", "&%", "%00", "&&==", "#", "?", "&" * 2_000, "http://[", quote("\0")))
    (folder / "text").write_text(text + extra)


def _corpus(folder: Path) -> None:
    rows = [{"id": f"{i}", "text": f"text {i}", "domain": "code", "year": i, "good": True} for i in range(5)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist([row | {"id": f"p{row['id']}"} for row in rows]), folder / "rows.parquet")
    (folder / "plain.txt").write_text("né 🦄")


def _documents(folder: Path) -> None:
    for document in read_corpus(folder):
        str(document)
    from mixtral_probe.trace.frames import document_frame

    document_frame([{"id": document.id, **document.labels} for document in read_corpus(folder)])


@cache
def _probe() -> Probe:
    return Probe.from_pretrained(EARLIER / "model")


def _unfinished(kind: str, ending: str) -> Callable[[Path], None]:
    return lambda folder: shutil.copytree(EARLIER / f"unfinished.{kind}.{ending}", folder / f"a.{ending}")


def _continued(kind: str) -> Callable[[Path], None]:
    """Continue an unfinished run, as the version that began it."""

    def go_on(folder: Path) -> None:
        documents = json.loads((EARLIER / "documents.json").read_text())
        options = json.loads((EARLIER / "interrupted.json").read_text())[kind]
        method = partial(_probe().ablation, placebos=1) if kind == "ablation" else _probe().trace
        software = json.loads((EARLIER / "expected.json").read_text())["software"]
        with patch.object(provenance, "software", lambda: software):
            method(documents, path=folder / "a", **options)

    return go_on


_BY_SUFFIX = {
    ".json": mutations.of_json,
    ".npy": mutations.of_npy,
    ".parquet": mutations.of_parquet,
    ".safetensors": mutations.of_safetensors,
}


def _any_of_a_run(folder: Path, random: Random) -> None:
    path = random.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    path.write_bytes(_BY_SUFFIX[path.suffix](path.read_bytes(), random))
    _correct_sizes(path.parent)


def _report(folder: Path) -> None:
    write_report([_trace()], folder / "report", html=False, tables=["expert_load"])


READERS = (
    Reader("config.json", _model, _changed("config.json", mutations.of_json), MixtralConfig.from_pretrained),
    Reader(
        "config.json of a model", _model, _changed("config.json", mutations.of_json), MixtralForCausalLM.from_pretrained
    ),
    Reader(
        "params.json", _mistral, _changed("params.json", mutations.of_json), lambda f: native_config(f / "params.json")
    ),
    Reader(
        "weights", _model, _changed("model.safetensors", mutations.of_safetensors), MixtralForCausalLM.from_pretrained
    ),
    Reader(
        "index of weights",
        lambda folder: _model(folder, max_shard_size=30_000),
        _changed("*.index.json", mutations.of_json),
        Checkpoint,
    ),
    Reader("weights of torch", _pickled, _changed("*.bin", mutations.of_bytes), MixtralForCausalLM.from_pretrained),
    Reader("files of a model that are none", _generating, _placed, MixtralForCausalLM.from_pretrained),
    Reader("generation_config.json", _generating, _changed("generation_config.json", mutations.of_json), _generated),
    Reader("tokenizer.json", _tokenizer, _changed("tokenizer.json", mutations.of_json), _tokenised),
    Reader("token settings", _tokenizer, _changed("tokenizer_config.json", mutations.of_json), _tokenised),
    Reader("older token files", _without_decoder, _changed("[ast]*_*.json", mutations.of_json), _tokenised),
    Reader("chat templates", _tokenizer, _template, _chatted),
    Reader("trace.json", _saved_trace, _changed("trace.json", mutations.of_json), _loaded),
    Reader("tables of a trace", _saved_trace, _changed("*.parquet", mutations.of_parquet), _loaded),
    Reader("arrays of a trace", _saved_trace, _changed("*.npy", mutations.of_npy), _loaded),
    Reader("attention of a trace", _attentive, _changed("attention.safetensors", mutations.of_safetensors), _loaded),
    Reader("files of a trace that are none", _attentive, _placed, _loaded),
    Reader("info about a trace", _saved_trace, _changed("trace.json", mutations.of_json), _informed),
    Reader("statistics", _stats, _changed("*.safetensors", mutations.of_safetensors), _read_stats),
    Reader("results", _results, _changed("*/result.json", mutations.of_json), _read_results),
    Reader("arrays of results", _results, _changed("*/*.safetensors", mutations.of_safetensors), _read_results),
    Reader(
        "edits",
        lambda folder: shutil.copy(EARLIER / "edits.json", folder),
        _changed("edits.json", mutations.of_json),
        lambda folder: [str(edit) for edit in edits.load(folder / "edits.json")],
    ),
    Reader(
        "edits as text", lambda folder: None, _edit_text, lambda folder: str(edits.parse(_typed(folder))), valid=False
    ),
    Reader("documents in JSON lines", _corpus, _changed("rows.jsonl", mutations.of_json_lines), _documents),
    Reader("documents in Parquet", _corpus, _changed("rows.parquet", mutations.of_parquet), _documents),
    Reader("documents in text", _corpus, _changed("plain.txt", mutations.of_bytes), _documents),
    Reader("files of a corpus that are none", _corpus, _placed, _documents),
    Reader(
        "expressions",
        lambda folder: None,
        _text_file(_WORDS, 12),
        lambda folder: mask(_trace(), parse(_typed(folder))),
        valid=False,
    ),
    Reader(
        "addresses",
        lambda folder: None,
        _address,
        lambda folder: Selection.from_query(_typed(folder)).mask(_trace()),
        valid=False,
    ),
    Reader("unfinished capture", _unfinished("capture", "partial"), _any_of_a_run, _continued("capture"), valid=False),
    Reader(
        "unfinished generation",
        _unfinished("generation", "parts"),
        _any_of_a_run,
        _continued("generation"),
        valid=False,
    ),
    Reader("unfinished ablation", _unfinished("ablation", "parts"), _any_of_a_run, _continued("ablation"), valid=False),
    Reader("report to be replaced", _report, _changed("report/report.json", mutations.of_json), _report),
)
