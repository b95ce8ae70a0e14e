"""Write the data of this folder with the version that README.md names; run once, in a checkout of that version.

PYTHONPATH=CHECKOUT python tests/compatibility/make.py FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from mixtral_probe.engine import CaptureStoppedError
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mixtral_probe import MixtralConfig, MixtralForCausalLM, Probe, RoutingStats, edits, tables
from mixtral_probe.report import write_report

TEXT = (
    "<unk> <s> </s> def add ( a , b ) : return + x = 1 2 the best of times it was worst age wisdom foolishness "
    "le chat dort dans la maison court vers jardin quand il pleut . print for in range if else while not and or"
)
WORDS = TEXT.split()
DOCUMENTS = [
    {"id": "add", "domain": "code", "text": "def add ( a , b ) : return a + b"},
    {"id": "times", "domain": "prose", "text": "it was the best of times , it was the worst of times"},
    {"id": "loop", "domain": "code", "text": "for x in range ( 2 ) : print ( x + 1 ) if x else 2"},
    {"id": "chat", "domain": "prose", "text": "le chat dort dans la maison quand il pleut ."},
]
EDITS = (
    edits.MaskExpert(layer=1, expert=3),
    edits.ZeroExpert(layer=[0, 1], expert=[1, 2], renormalise=True),
    edits.MeanExpert(layer=0, expert=1, mean=[0.5] * 8),
    edits.ForceExperts(layer="all", expert=[0, 3], position=range(4)),
    edits.BiasRouter(layer=1, expert=2, bias=-1.5, token_id=[4, 9]),
    edits.Temperature(temperature=2, phase="decode"),
    edits.TopK(experts=1, document={"domain": ["code"]}),
    edits.SwapExperts(layer=0, expert=(3, 2)),
    edits.RandomRouting(layer=0, share=0.25, seed=3),
    edits.NoiseRouter(std=0.1),
    edits.MaskHead(layer=0, head=1),
    edits.ScaleHead(layer=0, head=[0, 1], factor=0.5),
)
INTERRUPTED = {
    "capture": {"attention": "0:0", "positions_in_a_batch": 16},
    "generation": {"generate": 4, "eos_token_id": None, "positions_in_a_batch": 32},
    "ablation": {"layers": [0, 1], "experts": [0, 2], "positions_in_a_batch": 32},
}
"""The arguments of runs that are broken off after their first batch, or their first part."""
RESULT_TABLES = {
    "ablation": ["ablation"],
    "saliency": ["saliency", "promoted_tokens", "expert_contexts"],
    "expert_similarity": ["expert_similarity", "norm_gate_ranks"],
    "expert_subsets": ["expert_subsets"],
    "timing": ["timing"],
    "logit_lens": ["logit_lens", "logit_lens_tokens"],
    "what_if": ["what_if", "what_if_tokens", "what_if_next_tokens"],
}


LINKS = {
    "expert_load": {"layer": "1", "group": "prose", "expert": "3", "load": "gate_share", "load_map_table": "shown",
                    "where": 'domain == "prose"'},
    "token_routing": {"document": "3", "unit": "word", "rank": "1", "picked": "3", "routes_table": "hidden",
                      "layer": "1", "slice": "late:position >= 3"},
    "attention": {"document": "2", "layer": "1", "head": "1"},
    "balance_loss": {"document": "2", "part": "contribution", "loss_by_domain": "shown"},
    "specialization": {"section": "layers", "steps": "5"},
    "what_if": {"text": "a + b", "edit": "top_k"},
}  # fmt: skip
"""Addresses of pages; what the dashboard makes of them is stored."""


def main(folder: Path) -> None:
    (folder / "documents.json").write_text(json.dumps(DOCUMENTS, indent=1) + "\n")
    (folder / "interrupted.json").write_text(json.dumps(INTERRUPTED, indent=1) + "\n")
    write_model(folder / "model")
    probe = Probe.from_pretrained(folder / "model")
    trace = probe.trace(DOCUMENTS, attention={0: [1], 1: [0, 1]}, path=folder / "run.trace")
    expected = {"trace": facts(trace), "statistics": statistics(folder / "run.trace" / "stats.safetensors")}
    expected["results"] = write_results(probe, folder / "results")
    expected["report"] = headers(folder / "run.trace", folder / "report")
    edits.save(EDITS, folder / "edits.json")
    expected["edits"] = [str(edit) for edit in EDITS]
    expected["interrupted"] = interrupt(probe, folder)
    expected["addresses"] = {page: opened(folder / "run.trace", page, query) for page, query in LINKS.items()}
    expected["software"] = dict(trace.meta.software)
    (folder / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")


def write_model(folder: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = MixtralConfig(
        vocab_size=len(WORDS), num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2,
        max_position_embeddings=32, bos_token_id=1, eos_token_id=2, **sizes,
    )  # fmt: skip
    model = MixtralForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.2 if "norm" in name else 0.5)
    model.save_pretrained(folder)
    own = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    own.add_special_tokens(["<unk>", "<s>", "</s>"])
    own.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    own.save(str(folder / "tokenizer.json"))


def facts(trace) -> dict:
    """The arrays of a trace; attention as maps of one document."""
    held = {name: getattr(trace, name).tolist() for name in ("expert_ids", "expert_weights", "router_logits")}
    held["attention"] = {f"{layer}": trace.attention(2, layer).tolist() for layer in trace.attention_record.plan.layers}
    held["tokens"] = {
        name: trace.tokens[name].astype(object).where(trace.tokens[name].notna(), None).tolist()
        for name in trace.tokens
    }
    held["documents"] = trace.documents.to_dict("list")
    held["model"] = trace.meta.model["fingerprint"]
    return rounded(held)


def statistics(path: Path) -> dict:
    stats = RoutingStats.load(path)
    return {
        name: table_facts(getattr(tables, name)(stats)) for name in ("expert_load", "balance", "domain_specialization")
    }


def table_facts(table) -> dict:
    """The columns of a table, its metrics and its values."""
    held = {"columns": list(table.columns), "rows": len(table)}
    for name in ("metric", "value"):
        if name in table:
            held[name] = table[name].astype(object).where(table[name].notna(), None).tolist()
    return rounded(held)


def write_results(probe, folder: Path) -> dict:
    what = probe.what_if(DOCUMENTS, [edits.MaskExpert(layer=1, expert=3)], seed=5, generate=2)
    made = {
        "ablation": probe.ablation(DOCUMENTS, layers=[1], experts=[0, 2], seed=1),
        "saliency": probe.saliency(DOCUMENTS, promoted=2, contexts=2),
        "expert_similarity": probe.similarity(DOCUMENTS),
        "expert_subsets": probe.expert_subsets(DOCUMENTS, sizes=[2]),
        "timing": probe.time(DOCUMENTS, repeats=6, warmup=1),
        "logit_lens": probe.logit_lens(DOCUMENTS[:2], top=2),
        "what_if": what,
    }
    expected = {}
    for kind, result in made.items():
        assert result.kind == kind, (result.kind, kind)
        result.save(folder / kind)
        expected[kind] = {
            "arrays": {name: list(array.shape) for name, array in result.arrays.items()},
            "tables": {name: table_facts(getattr(tables, name)(result)) for name in RESULT_TABLES[kind]},
        }
    return expected


def headers(trace: Path, folder: Path) -> dict:
    files = write_report([trace], folder)
    held = {path.name: path.read_text().splitlines()[0].split(",") for path in files if path.suffix == ".csv"}
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    return held


def opened(trace: Path, page: str, query: dict[str, str]) -> dict:
    """The address that a page writes, and what its widgets show."""
    from streamlit.testing.v1 import AppTest

    import mixtral_probe

    entry = Path(mixtral_probe.__file__).parents[1] / "app" / "streamlit_app.py"
    sys.path.insert(0, str(entry.parent))
    sys.argv = [str(entry), str(trace)]
    test = AppTest.from_file(str(entry), default_timeout=120)
    for name, value in query.items():
        test.query_params[name] = value
    test.run()
    test.switch_page(f"app_pages/{page}.py").run()
    assert not test.exception, [error.message for error in test.exception]
    assert not test.error, [error.value for error in test.error]
    assert not test.warning, [warning.value for warning in test.warning]
    written = {name: value[0] if isinstance(value, list) else value for name, value in test.query_params.items()}
    assert {**query, "trace": written["trace"]} == written, written
    return {"query": written, "state": {key: test.session_state[key] for key in query if key in test.session_state}}


def interrupt(probe, folder: Path) -> dict:
    """Break off three runs, and say what they make when they run to their end."""
    runs = {"capture": probe.trace, "generation": probe.trace, "ablation": probe.ablation}
    whole = {}
    for name, run in runs.items():
        seen = []
        if name == "ablation":  # the loss without ablation, and layer 0

            def stop(parts=folder / "unfinished.ablation.parts"):
                return len(list(parts.glob("*.result"))) > 1

        else:

            def stop(seen=seen):
                return bool(seen)

        try:
            run(
                DOCUMENTS, path=folder / f"unfinished.{name}", on_progress=seen.append, should_stop=stop,
                **INTERRUPTED[name],
            )  # fmt: skip
            raise SystemExit(f"{name} was not interrupted")
        except CaptureStoppedError:
            pass
        whole[name] = run(DOCUMENTS, **INTERRUPTED[name])
    result = whole.pop("ablation")
    expected = {name: rounded({"router_logits": trace.router_logits.tolist(), "expert_ids": trace.expert_ids.tolist(),
                               "token_id": trace.tokens["token_id"].tolist(),
                               "nll": [None if np.isnan(x) else x for x in trace.tokens["nll"]]})
                for name, trace in whole.items()}  # fmt: skip
    return expected | {"ablation": table_facts(tables.ablation(result))}


def rounded(value):
    """JSON values with numbers of seven digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main(Path(sys.argv[1]))
