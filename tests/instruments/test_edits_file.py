"""Edits as plain data: their sentences, their file, and what is refused."""

import json
from pathlib import Path

import pytest

import mixtral_probe as mp
from mixtral_probe import InputError
from tests.support.instruments import logits
from tests.support.models import toy_model

edits = mp.edits
EVERY = (
    edits.MaskExpert(layer=3, expert=5),
    edits.ZeroExpert(layer=[0, 1, 2, 4], expert=[1, 2], renormalise=True),
    edits.MeanExpert(layer=0, expert=1, mean=[0.5, -1.0]),
    edits.ForceExperts(layer="all", expert=[7, 3], position=range(4)),
    edits.BiasRouter(layer=1, expert=2, bias=-1.5, token_id=[4, 9]),
    edits.Temperature(temperature=2, phase="decode"),
    edits.TopK(experts=1, document={"domain": ["code", "prose"]}),
    edits.SwapExperts(layer=0, expert=(4, 2)),
    edits.RandomRouting(layer=0, share=0.25, seed=3),
    edits.NoiseRouter(std=0.1),
    edits.MaskHead(layer=0, head=1),
    edits.ScaleHead(layer=0, head=[1, 2], factor=0.5),
)


def test_what_is_saved_is_read_back(tmp_path):
    path = edits.save(EVERY, tmp_path / "edits.json")
    assert edits.load(path) == EVERY
    held = json.loads(path.read_text(encoding="utf-8"))
    assert held["format"] == "mixtral-probe edits"
    assert held["edits"][0] == {"edit": "mask_expert", "layer": [3], "expert": [5]}
    assert {entry["edit"] for entry in held["edits"]} == set(edits.KINDS) - {"replay_routing"}


def test_an_edit_prints_as_a_sentence_and_shows_what_was_said():
    assert str(EVERY[0]) == (
        "in layer 3: expert 5 cannot be chosen (router logit −∞), the next best takes over, and the weights of the "
        "chosen are renormalised to sum to 1"
    )
    assert str(EVERY[1]).startswith("in layers 0–2, 4: the output of experts 1, 2 is 0")
    assert str(EVERY[3]).startswith("in every layer, at positions 0–3: every token goes to exactly experts 7, 3")
    assert "where domain is code, prose" in str(EVERY[6])
    assert repr(EVERY[0]) == "MaskExpert(layer=(3,), expert=(5,))"
    assert all("renormalis" in str(edit) or "sum to 1" in str(edit) or "kept" in str(edit) for edit in EVERY)


def test_an_edit_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        EVERY[0].expert = (1,)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: edits.MaskExpert(layer=-1, expert=2),
            "MaskExpert needs valid fields, got layer=-1: .* greater than or equal to 0",
        ),
        (lambda: edits.MaskExpert(layer=1), "got no expert: Field required"),
        (lambda: edits.MaskExpert(layer=1, expert=2, foo=1), "has the fields layer, .*, expert, got 'foo'; correct it"),
        (lambda: edits.MaskExpert(expert=[1, 1]), "named only once"),
        (lambda: edits.SwapExperts(expert=(1, 1)), "two different experts"),
        (lambda: edits.Temperature(temperature=0), "greater than 0"),
        (lambda: edits.ScaleHead(head=0, factor=float("nan")), "finite number"),
        (lambda: edits.from_json("[]"), "must be JSON of the format 'mixtral-probe edits'"),
        (lambda: edits.from_json('{"edits": [{"edit": "foo"}]}'), "must be one of mask_expert, .* got 'foo'"),
        (
            lambda: edits.from_json('{"schema_version": 9, "edits": []}'),
            "schema version 1 or earlier, got 9; install a newer",
        ),
        (lambda: edits.load("/nowhere/edits.json"), "got no file at /nowhere/edits.json"),
        (lambda: edits.to_json([edits.Function(site="logits", function=max)]), "function cannot be saved"),
    ],
)
def test_what_cannot_be_made_is_said_in_a_sentence(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (edits.MaskExpert(layer=7, expert=2), r"layer must be in 0–1 \(this model has 2\), got 7"),
        (edits.MaskExpert(layer=1, expert=12), r"expert must be in 0–11 \(this model has 12\), got 12"),
        (edits.MaskHead(layer=1, head=4), r"head must be in 0–3 \(this model has 4\), got 4"),
        (edits.MaskExpert(layer=1, expert=range(10)), "at least 3 experts must remain .* got 2 after"),
        (edits.ForceExperts(layer=1, expert=[1, 2]), "as many experts as a token has, 3, got 2"),
        (edits.TopK(experts=13), "experts must be in 1–12 .*, got 13"),
        (edits.MeanExpert(expert=1, mean=[0.0]), "must have 24 numbers, got 1"),
        (edits.MaskExpert(expert=1, document={"domain": "code"}), "run them with Probe.trace or Probe.what_if"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(edit, sentence):
    with pytest.raises(InputError, match=sentence):
        logits(toy_model(), edit)


def test_a_save_that_fails_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = edits.save([edits.MaskExpert(layer=0, expert=1)], tmp_path / "edits.json")
    before = path.read_bytes()

    def full(self, *_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="must be writable, got 'no space left on device'"):
        edits.save([edits.TopK(experts=1)], path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["edits.json"]


@pytest.mark.parametrize(
    "typed",
    [
        "mask_expert layer=2,3,4 expert=3",
        "zero_expert expert=1,2 renormalise=True layer=all 'document.domain=a b,c'",
        "temperature temperature=0.5 position=0..3",
        "swap_experts expert=1,0 phase=decode",
        "mean_expert expert=1 mean=0.5,-1,2e-30",
        "random_routing share=0.25 seed=7 token_id=5",
    ],
)
def test_an_edit_is_typed_as_it_is_parsed(typed):
    edit = edits.parse(typed)
    assert edits.parse(edits.spell(edit)) == edit


def test_what_cannot_be_typed_is_refused():
    with pytest.raises(InputError, match="comma"):
        edits.spell(edits.TopK(experts=1, document={"domain": ["a,b"]}))


@pytest.mark.parametrize(
    "fields",
    [
        {"edit": "mask_expert", "expert": {"a": 1}},
        {"edit": "mask_expert", "expert": 1, "layer": [[1]]},
        {"edit": "mask_expert", "expert": 10**400},
        {"edit": "temperature", "temperature": [], "self": 3},
        {"edit": "mask_expert", "expert": 1, "document": {"domain": [3]}},
        {"edit": ["mask_expert"]},
        {"edit": "replay_routing", "trace": 5},
        {"edit": "replay_routing", "trace": "/dev/zero"},
        {"edit": "replay_routing"},
    ],
)
def test_a_field_of_another_type_is_refused_in_a_sentence(tmp_path, fields):
    path = tmp_path / "edits.json"
    path.write_text(json.dumps({"format": "mixtral-probe edits", "schema_version": 1, "edits": [fields]}))
    with pytest.raises(InputError, match=r"edits\.json: ") as caught:
        edits.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[" * 200_000, '{"edits": ' + "9" * 5_000 + "}", '{"edits": ["\\ud800"]}'])
def test_json_that_no_parser_takes(tmp_path, content):
    (tmp_path / "edits.json").write_text(content)
    with pytest.raises(InputError, match="edits must be JSON of the format"):
        edits.load(tmp_path / "edits.json")
