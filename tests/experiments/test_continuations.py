"""Continuations with a placebo: as much damage to the prompt and to the new tokens, whatever the edit."""

import numpy as np
import pytest
import torch

import mixtral_probe as mp
from mixtral_probe import Probe
from mixtral_probe.experiments.matched_placebo import Damage, RecordedRouting
from mixtral_probe.instruments import Window
from mixtral_probe.model import Instrument, Site
from tests.support.models import SIZES, toy_model

edits = mp.edits
TEXTS = [{"id": "a", "domain": "code", "text": "def add(a, b): return a + b"},
         {"id": "b", "domain": "prose", "text": "It was the best of times"}]  # fmt: skip
NEW = 6


@pytest.fixture(scope="module")
def probe(tokenizer):
    return Probe(toy_model(std=0.3, vocab_size=8192, eos_token_id=None, **SIZES), tokenizer, "toy")


def test_without_damage_every_draw_continues_as_without_edits(probe):
    result = probe.what_if(TEXTS, [edits.MaskExpert(layer=0, expert=1, position=60)], generate=NEW)
    plain = [probe.generate(text["text"], NEW) for text in TEXTS]
    assert result.generated_placebo == [[text] for text in plain]
    assert result.continuation_kept.tolist() == result.continuation_tokens.tolist() == [NEW, NEW]
    row = result.overall().query("run == 'edited' and metric == 'continuation_kept'").iloc[0]
    assert (row["value"], row["n"]) == (1, 2 * NEW)


@pytest.mark.parametrize(
    "edit", [edits.ZeroExpert(layer=[0, 2], expert=range(8)), edits.MaskHead(layer=1, head=[0, 1, 2])]
)
def test_where_the_placebo_can_only_be_the_edit_it_continues_as_the_edit_does(probe, edit):
    """All assignments are touched, in the prompt and after it; of three heads of four, one is left to change."""
    result = probe.what_if(TEXTS, [edit], generate=NEW)
    expected = [said for _, said in result.generated]
    if isinstance(edit, edits.MaskHead):
        expected = [probe.generate(text["text"], NEW, instruments=[edits.MaskHead(layer=1, head=3)]) for text in TEXTS]
    assert result.generated_placebo == [[text] for text in expected]
    assert expected != [before for before, _ in result.generated]


def test_each_set_of_other_heads_continues_as_by_itself(probe):
    result = probe.what_if(TEXTS, [edits.MaskHead(layer=1, head=2, document={"domain": "code"})], generate=NEW)
    alone = [
        probe.generate(TEXTS[0]["text"], NEW, instruments=[edits.MaskHead(layer=1, head=head)]) for head in (0, 1, 3)
    ]
    assert sorted(result.generated_placebo[0]) == sorted(alone)
    assert set(result.generated_placebo[1]) == {result.generated[1][0]}, "prose is left alone"


class Counter(Instrument):
    """Counts, by rank, the assignments of new tokens whose weight is 0."""

    sites = (Site.ROUTING,)

    def __init__(self, layer):
        self.layer, self.zeros = layer, []

    def visit(self, site, layer, value, context):
        if layer == self.layer and context.phase == "decode":
            self.zeros.append((value.weights == 0).numpy())
        return value


def damage(semantics, touched, layer=1):
    """The placebo of an edit that touches some ranks [n, K] of new tokens."""
    every = np.zeros((3, *touched.shape), bool)
    every[layer] = touched
    routing = RecordedRouting(np.zeros_like(every, np.int16), np.zeros_like(every, np.float32))
    return Damage(edits.ZeroExpert(expert=0, renormalise=True), routing, every, semantics, 8, 5)


def test_a_draw_damages_as_many_assignments_of_each_rank_at_random_steps(probe):
    touched = np.zeros((NEW - 1, 2), bool)
    touched[:2, 0] = touched[0, 1] = True
    instruments = damage("zero", touched).generated(Window(0, 1, 0, NEW - 1), range(5))
    counter = Counter(1)
    ids = torch.tensor([probe.tokenizer.encode(TEXTS[0]["text"]).ids.tolist()] * 5)
    probe.model.generate(
        ids,
        max_new_tokens=NEW,
        attention_mask=torch.ones_like(ids),
        instruments=[*instruments, counter],
        pad_token_id=0,
    )
    zeros = np.stack(counter.zeros)  # [steps, draws, ranks]
    assert (zeros.sum(0) == [2, 1]).all()
    assert len({draw.tobytes() for draw in zeros.swapaxes(0, 1)}) > 1


@pytest.mark.parametrize("semantics", ["mask", "mean"])
def test_damage_of_every_new_token_is_that_of_the_semantics(probe, semantics):
    """Masking the first choice of all new tokens, or replacing all their outputs by a constant."""
    touched = np.ones((NEW - 1, 2), bool) & ([True, semantics == "mean"])
    part = damage(semantics, touched)
    if semantics == "mean":
        part = Damage(edits.MeanExpert(expert=0, mean=[0.0] * 24), *[getattr(part, f) for f in (
            "before", "touched", "semantics", "experts", "seed")])  # fmt: skip

    def change(value, context):
        if context.phase == "prefill":
            return value
        return value * 0 if semantics == "mean" else value.scatter(1, value.argmax(1, keepdim=True), -torch.inf)

    site = "moe_output" if semantics == "mean" else "router_logits"
    by_hand = probe.generate(TEXTS[0]["text"], NEW, instruments=[edits.Function(layer=1, site=site, function=change)])
    (instrument,) = part.generated(Window(0, 1, 0, NEW - 1), [0])
    assert probe.generate(TEXTS[0]["text"], NEW, instruments=[instrument]) == by_hand


def test_draws_do_not_depend_on_their_company_and_are_counted(probe):
    edit = edits.MaskExpert(layer=[0, 1, 2], expert=[1, 5])
    whole, single = (
        probe.what_if(TEXTS, [edit], placebos=5, generate=NEW, positions_in_a_batch=size) for size in (2048, 1)
    )
    assert whole.generated_placebo == single.generated_placebo
    assert {len(texts) for texts in whole.generated_placebo} == {5}
    kept = whole.draw_continuation_kept
    assert kept.shape == (5, 2)
    for document, (before, _) in enumerate(whole.generated):
        full = [text == before for text in whole.generated_placebo[document]]
        assert (kept[:, document] == NEW).tolist() == full
    row = whole.overall().query("run == 'edited' and metric == 'continuation_kept'").iloc[0]
    assert row["value"] == whole.continuation_kept.sum() / (2 * NEW)
    assert row["null"] == pytest.approx(kept.sum(1).mean() / (2 * NEW))
    assert (row["placebo_low"], row["placebo_high"]) == (kept.sum(1).min() / 12, kept.sum(1).max() / 12)


def test_without_a_placebo_edits_alone_are_continued(probe):
    result = probe.what_if(TEXTS, [edits.TopK(experts=1)], placebos=0, generate=2)
    assert result.generated_placebo == [[], []]
    assert "draw_continuation_kept" not in result.arrays
    assert result.overall().query("metric == 'continuation_kept'")["run"].tolist() == ["edited"]
