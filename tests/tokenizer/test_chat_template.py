"""Chat templates write what transformers writes, in a sandbox."""

import json
import shutil
import sys
import time

import pytest

from mixtral_probe import InputError, Tokenizer
from mixtral_probe.resources import data_path
from mixtral_probe.tokenizer import chat_process
from mixtral_probe.tokenizer.chat_process import CHAT_PROCESS

INSTRUCT = """{{ bos_token }}{% for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('roles must alternate') }}
    {%- endif -%}
    {%- if message['role'] == 'user' -%}
        {{ ' [INST] ' + message['content'] + ' [/INST]' }}
    {%- else -%}
        {% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}
    {%- endif -%}
    {%- if loop.index0 > 8 %}{% break %}{% endif -%}
{% endfor %}
{% if tools is defined %}{{ tools | tojson }}{% endif %}
{% if add_generation_prompt %} go:{% endif %}"""
CHAT = [
    {"role": "user", "content": "2 + 2 < ü?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "and 3?"},
]


def folder(path, template, **settings):
    path.mkdir()
    shutil.copy(data_path("mixtral-mini") / "tokenizer.json", path)
    tokens = {"bos_token": "<s>", "eos_token": {"__type": "AddedToken", "content": "</s>"}}
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", **tokens, "chat_template": template} | settings
    (path / "tokenizer_config.json").write_text(json.dumps(fields))
    return path


@pytest.fixture(scope="module")
def instruct(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("chat") / "model", INSTRUCT)


@pytest.mark.parametrize("variables", [{}, {"add_generation_prompt": True}, {"tools": [{"name": "<è>"}]}], ids=str)
def test_the_text_is_that_of_transformers(instruct, variables):
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast.from_pretrained(instruct)
    expected = theirs.apply_chat_template(CHAT, tokenize=False, **variables)
    ours = Tokenizer.from_folder(instruct)
    assert ours.apply_chat_template(CHAT, **variables) == expected
    assert expected.startswith("<s> [INST] 2 + 2 < ü? [/INST] 4</s> [INST] and 3? [/INST]")


def test_its_control_tokens_are_not_added_again(instruct):
    tokenizer = Tokenizer.from_folder(instruct)
    text = tokenizer.apply_chat_template(CHAT)
    assert tokenizer.encode(text, add_special_tokens=False).ids[:2].tolist().count(1) == 1
    assert tokenizer.encode(text).ids[:2].tolist() == [1, 1]
    assert tokenizer.encode(text, add_special_tokens=False).special[0]


def test_templates_by_name_and_in_a_file_of_their_own(tmp_path):
    several = folder(tmp_path / "a", [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}])
    assert Tokenizer.from_folder(several).apply_chat_template(CHAT) == "d"
    (several / "chat_template.jinja").write_text("own")
    assert Tokenizer.from_folder(several).apply_chat_template(CHAT) == "own"


def test_mistakes(instruct, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="got none in the tokenizer's folder"):
        Tokenizer.from_folder(folder(tmp_path / "none", None)).apply_chat_template(CHAT)
    with pytest.raises(InputError, match="got its error: roles must alternate"):
        Tokenizer.from_folder(instruct).apply_chat_template(CHAT[1:])
    with pytest.raises(InputError, match=r"got its error: .*unsafe"):
        Tokenizer.from_folder(folder(tmp_path / "bad", "{{ ''.__class__.__mro__ }}")).apply_chat_template(CHAT)
    with pytest.raises(InputError, match="got its error: "):
        Tokenizer.from_folder(folder(tmp_path / "broken", "{% if %}")).apply_chat_template(CHAT)
    broken = folder(tmp_path / "json", None)
    (broken / "tokenizer_config.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer_config.json must be valid JSON"):
        Tokenizer.from_folder(broken)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match="needs the package jinja2; install it with: pip install"):
        Tokenizer.from_folder(instruct).apply_chat_template(CHAT)


ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% if j < 0 %}{% endif %}{% endfor %}{% endfor %}"
DOUBLING = "{% set n = namespace(x='ab') %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"


@pytest.mark.parametrize(
    ("template", "error"),
    [
        (ENDLESS, "more than 1 s of time"),
        ("{{ 9 ** (9 ** 9) }}", r"more than 1 s of time|more than 0\.5 GiB of memory"),
        (DOUBLING, r"more than 1 s of time|more than 0\.5 GiB of memory"),
        ("{{ 'a' * 10 ** 10 }}", r"more than 0\.5 GiB of memory"),
        ("{{ '%010000000000d' % 3 }}", r"more than 0\.5 GiB of memory"),
        ("{{ 'a' | center(20000000) }}", "more than 16,777,216 characters"),
        ("{{ messages[99].role.x }}", "has no element 99"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 'é'.encode('ascii') }}", "can't encode character"),
        ("{{ messages | tojson(indent='x' * 3) | int | batch('q') | list }}", "."),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "nested too deep"),
        ("{{ [].pop() }}", "."),
        ("{% if %}", "Expected an expression"),
        ("{% include 'x' %}", "no loader"),
        ("{{ lipsum(n=10**9) }}", "more than"),
    ],
)
def test_a_template_that_is_broken_or_takes_too_much(tmp_path, monkeypatch, template, error):
    CHAT_PROCESS.render("", {})  # started
    monkeypatch.setattr(chat_process, "SECONDS", 1)
    tokenizer = Tokenizer.from_folder(folder(tmp_path / "a", template))
    start = time.monotonic()
    with pytest.raises(InputError, match=f"must be fit to write this conversation, got its error: .*{error}"):
        tokenizer.apply_chat_template(CHAT)
    assert time.monotonic() - start < 5
    monkeypatch.setattr(chat_process, "SECONDS", 10)
    assert Tokenizer.from_folder(folder(tmp_path / "b", "fine")).apply_chat_template(CHAT) == "fine"


@pytest.mark.parametrize("template", [3, [{"name": "default"}, 4], [{"name": "default", "template": 4}], {"a": "b"}])
def test_a_broken_template_does_not_stop_who_needs_none(tmp_path, template):
    tokenizer = Tokenizer.from_folder(folder(tmp_path / "a", template))
    assert len(tokenizer.encode("no chat"))
    with pytest.raises(InputError, match=r"chat_template of tokenizer_config\.json must be a text"):
        tokenizer.apply_chat_template(CHAT)


def test_a_broken_file_of_a_template_does_not_either(tmp_path):
    (path := folder(tmp_path / "a", "from the config") / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"must be UTF-8, got .*chat_template\.jinja, which is not at byte 0"):
        Tokenizer.from_folder(path.parent).apply_chat_template(CHAT)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="must be a file, got a device"):
        Tokenizer.from_folder(path.parent).apply_chat_template(CHAT)


def test_variables_are_values_of_json(instruct):
    with pytest.raises(InputError, match="must be values of JSON, got an error: Object of type set is not"):
        Tokenizer.from_folder(instruct).apply_chat_template(CHAT, tools={1, 2})


def test_another_process_that_was_forked_has_its_own(instruct):
    tokenizer = Tokenizer.from_folder(instruct)
    expected = tokenizer.apply_chat_template(CHAT)
    owner, CHAT_PROCESS._owner = CHAT_PROCESS._owner, -1
    inherited = CHAT_PROCESS._process
    try:
        assert tokenizer.apply_chat_template(CHAT) == expected
        assert CHAT_PROCESS._process is not inherited
    finally:
        inherited.kill()
        inherited.communicate()
    assert owner != -1


def test_the_spelling_of_tokens():
    tokenizer = Tokenizer.from_folder(data_path("mixtral-mini"))
    text = "né 🦄\n"
    assert b"".join(tokenizer.spelling(token) for token in tokenizer.encode(text).ids[1:]) == text.encode()
    assert tokenizer.spelling(1) == b"<s>"
    with pytest.raises(InputError, match="token ids must be in"):
        tokenizer.spelling(10**6)
