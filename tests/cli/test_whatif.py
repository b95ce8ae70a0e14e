"""`mixtral-probe whatif`: the numbers of `Probe.what_if`, edits as they are typed, and mistakes in one sentence."""

import json

import pytest

import mixtral_probe as mp
from mixtral_probe import InputError, Probe
from mixtral_probe.run import RunStoppedError
from tests.support.cli import refused, run

edits = mp.edits
TEXT = "a truth universally acknowledged, that a single man"
TYPED = "mask_expert expert=3 layer=0..1"
EDIT = edits.MaskExpert(layer=[0, 1], expert=3)


@pytest.fixture(scope="module")
def known(model):
    return Probe.from_pretrained(model).what_if([{"id": "text", "text": TEXT}], [EDIT], seed=5, generate=4)


def test_whatif_prints_what_probe_finds(model, known):
    asked = ("whatif", "--model", model, "--text", TEXT, "--edit", TYPED, "--seed", 5, "--generate", 4)
    facts = json.loads(run(*asked, "--json").stdout)
    assert facts["edits"] == [str(EDIT)]
    assert facts["placebo"] == known.meta["placebo"]
    assert facts["placebos"] == 39
    assert facts["generated"] == known.meta["generated"]
    table = known.table()
    whole = table[table["layer"].isna() & table["document"].isna()]
    assert [(row["run"], row["metric"]) for row in facts["rows"]] == list(
        zip(whole["run"], whole["metric"], strict=True)
    )
    for name in ("value", "null"):
        found = [float("nan") if row[name] is None else row[name] for row in facts["rows"]]
        assert found == pytest.approx(list(whole[name]), nan_ok=True)
    shown = run(*asked).stdout
    change = whole[(whole["run"] == "edited") & (whole["metric"] == "loss_change")].iloc[0]
    (line,) = [line for line in shown.splitlines() if line.startswith("loss, nats")]
    band = [f"{change['placebo_low']:.4f}", "–", f"{change['placebo_high']:.4f}"]
    place = [f"{change['p']:.2g}", str(change["placebo_rank"]), "of", "40"]
    assert line.split()[2:] == [f"{change['value']:.4f}", "–", f"{change['null']:.4f}", *band, *place]
    assert "placebo: 39 draws, whose range holds one more such draw in 95 % of cases" in shown
    assert "1 document, 13 tokens, 39 placebo draws: about " in run(*asked).stderr
    assert f"continued with the change:  {known.meta['generated']['edited'][0]!r}" in shown
    (draws,) = known.generated_placebo
    alike = draws.count(known.meta["generated"]["base"][0])
    assert f"continued with the placebo: {draws[0]!r}; {alike} of 39 draws as without the change" in shown
    assert facts["generated_placebo"] == known.generated_placebo
    assert "placebo:" not in run(*asked, "--placebos", 0).stdout
    assert "7 draws, whose range holds one more such draw in 75 % of cases" in run(*asked, "--placebos", 7).stdout


def test_its_tables_are_written_whole_or_not_at_all(model, known, tmp_path):
    saved = edits.save([EDIT], tmp_path / "edits.json")
    asked = ("whatif", "--model", model, "--text", TEXT, "--edits", saved, "--seed", 5, "--out", tmp_path / "out",
             "--generate", 4)  # fmt: skip
    for _ in range(2):  # the second replaces the first
        assert run(*asked).exit_code == 0
        names = ["what_if.csv", "what_if.json", "what_if_next_tokens.csv", "what_if_tokens.csv"]
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for name in ("what_if", "what_if_tokens", "what_if_next_tokens"):
        expected = mp.tables.write_csv(getattr(mp.tables, name)(known), tmp_path / f"{name}.csv")
        assert (tmp_path / "out" / f"{name}.csv").read_text("utf-8") == expected.read_text("utf-8")
    about = json.loads((tmp_path / "out" / "what_if.json").read_text("utf-8"))
    assert about["sentences"] == [str(EDIT)]
    (tmp_path / "out" / "own.txt").write_text("mine")
    assert "may hold only the files of a what-if, got own.txt; name another folder" in refused(*asked)
    assert (tmp_path / "out" / "own.txt").read_text() == "mine"


def test_stopping_is_said(model, monkeypatch):
    def stop(*_, **__):
        raise RunStoppedError

    monkeypatch.setattr(Probe, "what_if", stop)
    asked = ("whatif", "--model", model, "--text", TEXT, "--edit", TYPED)
    assert refused(*asked, code=130) == "mixtral-probe: stopped; nothing was written"


@pytest.mark.parametrize(
    ("typed", "edit"),
    [
        ("mask_expert expert=3 layer=2..4", edits.MaskExpert(layer=[2, 3, 4], expert=3)),
        ("zero_expert expert=1,2 renormalise=true", edits.ZeroExpert(expert=[1, 2], renormalise=True)),
        ("force_experts expert=7,3 position=0..2,9", edits.ForceExperts(expert=[7, 3], position=[0, 1, 2, 9])),
        ("bias_router expert=2 bias=-1.5 layer=all", edits.BiasRouter(expert=2, bias=-1.5)),
        ("swap_experts layer=0 expert=4,2", edits.SwapExperts(layer=0, expert=(4, 2))),
        ("top_k experts=1 document.domain=code,prose", edits.TopK(experts=1, document={"domain": ["code", "prose"]})),
        (
            'temperature temperature=2 phase=decode document.domain="a b"',
            edits.Temperature(temperature=2, phase="decode", document={"domain": "a b"}),
        ),
        ("mean_expert expert=0 mean=0.5,-1", edits.MeanExpert(expert=0, mean=[0.5, -1.0])),
        ("scale_head head=1 factor=0.5 token_id=4", edits.ScaleHead(head=1, factor=0.5, token_id=4)),
    ],
)
def test_an_edit_is_read_as_it_is_typed(typed, edit):
    assert edits.parse(typed) == edit


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "an edit must begin with its name and close its quotes, got ''"),
        ("mask_expert expert='3", "close its quotes"),
        ("forget expert=3", "an edit must be one of mask_expert, .*, got 'forget'"),
        ("function site=logits function=print", "got 'function'"),
        ("mask_expert 3", "its name, then field=value such as expert=3, got '3'"),
        ("mask_expert expert=__import__('os')", "expert must be numbers such as 3, 0,3 or 2..4"),
        ("mask_expert expert=4..2", "a range of expert must rise and hold at most 100,000 numbers, got '4..2'"),
        ("mask_expert expert=0..999999999", "a range of expert must rise"),
        ("mask_expert expert=1 expert=2", "each field of an edit must be given once, got 'expert' twice"),
        ("mask_expert expert=1 edit=top_k", "each field of an edit must be given once, got 'edit' twice"),
        ("mask_expert layer=1", "MaskExpert needs valid fields, got no expert: Field required"),
        ("mask_expert expert=1 bias=2", "has the fields layer, .*, expert, got 'bias'; correct it"),
        ("bias_router expert=1 bias=nan", "bias='nan': Input should be a finite number"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(typed, sentence):
    with pytest.raises(InputError, match=sentence):
        edits.parse(typed)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--text", TEXT), "a what-if needs a change, got none; give --edit or --edits FILE"),
        (("--edit", TYPED), "exactly one of --text, --file, --corpus says what to run, got none; give one"),
        (("--text", TEXT, "--edit", "mask_expert"), "MaskExpert needs valid fields, got no expert: Field required"),
        (("--text", TEXT, "--edit", "mask_expert expert=9"), "expert must be in 0–7 (this model has 8), got 9"),
        (("--text", TEXT, "--edits", "nowhere.json"), "edits are read from a file, got no file at nowhere.json"),
        (("--text", TEXT, "--edit", TYPED, "--out", "pyproject.toml"), "pyproject.toml must be a folder, got a file"),
    ],
)
def test_mistakes_are_one_sentence(model, arguments, sentence):
    assert sentence in refused("whatif", *arguments, "--model", model)
