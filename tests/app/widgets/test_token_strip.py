"""The coloured text: every token shows as itself and does nothing."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtral_probe import figures, strip, tables
from tests.support.app_traces import HOSTILE, routed_trace


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<script>alert(1)</script>", [("<script>alert(1)</script>", 0)]),
        (" the", [("␣", 1), ("the", 0)]),
        ("a\n", [("a", 0), ("⏎", 2)]),
        ("\t\r", [("⇥", 1), ("␍", 1)]),
        ("\u202eabc", [("⟨U+202E⟩", 1), ("abc", 0)]),
        ("\ud800", [("⟨U+D800⟩", 1)]),
        ("👩‍💻", [("👩‍💻", 0)]),
        ("שלום", [("שלום", 0)]),
        ("&lt;b&gt; **x**", [("&lt;b&gt;", 0), ("␣", 1), ("**x**", 0)]),
        ("", []),
    ],
)
def test_a_token_in_parts(text, expected):
    assert strip.parts(text) == expected


@given(st.text())
def test_no_character_is_lost_and_none_is_invisible(text):
    parts = strip.parts(text)
    plain = "".join(part for part, kind in parts if kind == strip.TEXT)
    signs = [part for part, kind in parts if kind != strip.TEXT]
    assert len(plain) + len(signs) == len(text)
    assert all(character.isprintable() or character in "\u200c\u200d" for character in plain)
    assert " " not in plain


@given(st.lists(st.text(st.characters(codec=None)), max_size=5))
def test_any_text_can_travel_as_json(texts):
    tokens = [strip.Token(row, text, []) for row, text in enumerate(texts)]
    json.dumps(strip.payload(tokens, None, "label"), ensure_ascii=False).encode("utf-8")


def test_a_very_long_token_is_whole_in_the_text_and_short_in_its_hover():
    (drawn,) = strip.payload([strip.Token(0, "x" * 10_000, [])], None, "")["tokens"]
    assert drawn["parts"] == [("x" * 10_000, 0)]
    assert drawn["tip"] == [("x" * 80, 0), ("… 10,000 characters", 1)]
    assert len(drawn["label"]) < 200


def test_the_component_never_makes_markup_of_a_text():
    script = strip.script()
    assert "textContent" in script
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval", "createContextualFragment"):
        assert way not in script


def test_colour_strength_and_hover_are_those_of_the_trace():
    trace = routed_trace(documents=1, length=20)
    routes = tables.routes(trace)
    window = strip.TokenRange(5, 15)
    tokens = strip.by_expert(trace, routes, window, layer=1, row=1, rank=1)
    assert [token.row for token in tokens] == list(range(5, 15))
    colors = figures.expert_colors(4)
    for token in tokens:
        logits = trace.router_logits[1, token.row]
        first, second, third, _ = np.argsort(-logits)
        weight = np.exp(logits[second]) / (np.exp(logits[first]) + np.exp(logits[second]))
        facts = dict(token.facts)
        assert token.color == colors[second]
        assert token.strength == pytest.approx(0.1 + 0.45 * weight, abs=1e-6)
        assert facts["choice 1"] == f"expert {first} · weight {1 - weight:.3f}"
        assert facts["margin"] == f"{logits[second] - logits[third]:.3f} nats"
        assert facts["runner-up"] == f"expert {third}"
        assert [bar.text for bar in token.bars] == [f"{z:.3f}" for z in logits]
        assert {int(bar.name) for bar in token.bars if bar.chosen} == {first, second}


def test_a_pinned_token_is_framed_and_says_so():
    tokens = [strip.Token(row, "a", [("position", str(row))]) for row in (5, 6)]
    drawn = strip.payload(strip.pinned(tokens, 6), None, "")["tokens"]
    assert [token["pinned"] for token in drawn] == [False, True]
    assert [token["label"] for token in drawn] == ["a, position 5", "a, position 6, pinned yes"]
    assert strip.pinned(tokens, 7) == tokens


def test_loss_colours_follow_the_values():
    trace = routed_trace(documents=1, length=20)
    losses = tables.balance_loss_tokens(trace)
    window = strip.TokenRange(0, 20)
    tokens, (low, high) = strip.by_loss(trace, losses, window, layer=2, dark=False)
    values = losses[(losses["layer"] == 2).to_numpy(dtype=bool)]["value"]
    assert (low, high) == (values.min(), values.max())
    assert [dict(token.facts)["part of the loss"] for token in tokens] == [f"{value:.4f}" for value in values]
    scale = figures.scales(False)["sequential"]
    assert scale[-1][1] in tokens[int(np.argmax(values))].color
    assert "100%" in tokens[int(np.argmax(values))].color


def test_hostile_tokens_come_through_the_page_as_they_are():
    trace = routed_trace(documents=1, length=10)
    tokens = strip.by_expert(trace, tables.routes(trace), strip.TokenRange(0, 8), layer=0, row=0, rank=0)
    assert [token.text for token in tokens] == HOSTILE
