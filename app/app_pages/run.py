"""Run: capture a text, bundled documents or a file, and open what came of it."""

import captures
import running
import settings
import streamlit as st
import words

from mixtral_probe import InputError
from mixtral_probe.corpus import Document, read_corpus

words.title(
    "Run",
    "Send texts through the embedded model and record what its routers do. "
    "What you run is yours alone, and is gone when this page is closed or loaded anew.",
)


def _typed() -> list[Document]:
    text = st.text_area(
        "Text",
        value="def add(a, b):\n    return a + b\n",
        height=180,
        max_chars=settings.TYPED_CHARACTERS,
        key="run_text",
    )
    return read_corpus([{"id": "typed text", "text": text}])


def _bundled() -> list[Document]:
    corpus = _corpus()
    domains = sorted({str(document.labels["domain"]) for document in corpus})
    picked = st.multiselect("Domains", domains, default=domains[:4], key="run_domains")
    each = st.slider("Documents of each", 1, 24, 3, key="run_each")
    found = []
    for domain in picked:
        found += [document for document in corpus if document.labels["domain"] == domain][:each]
    if not found:
        raise InputError("a capture needs at least one domain, but none is chosen; choose one")
    return found


@st.cache_resource(max_entries=1, show_spinner="Reading the bundled texts …")
def _corpus() -> list[Document]:
    return read_corpus("bundled")


def _uploaded() -> list[Document]:
    file = st.file_uploader(
        f"A .txt or .jsonl file of at most {settings.UPLOAD_MEGABYTES} MB",
        type=["txt", "jsonl"],
        max_upload_size=settings.UPLOAD_MEGABYTES,
        key="run_file",
        help="A .txt file is one document. A line of a .jsonl file is an object with `text`, and if you like `id`, "
        "`domain` and other labels.",
    )
    if file is None:
        return []
    return captures.uploaded(file.name, file.getvalue())


FROM = {"A text": _typed, "Bundled documents": _bundled, "A file": _uploaded}
left, right = st.columns([3, 2], gap="large")
with left:
    kind = st.segmented_control("What to run", list(FROM), default="A text", required=True, key="run_kind")
    try:
        found = captures.check(FROM[kind]())
    except InputError as error:
        st.error(str(error))
        found = ()
    with st.expander("Options"):
        attention = st.text_input(
            "Record attention of layers",
            placeholder="none; or 0,3 · 2-5 · all · 3:0-7 for some heads",
            key="run_attention",
        )
        window = st.number_input(
            "Cut documents into windows of so many tokens",
            min_value=1,
            max_value=2048,
            value=None,
            placeholder="the model's longest, 2048",
            key="run_window",
        )
    if found:
        running.offer(captures.Request(found, attention.strip(), window))
with right:
    running.jobs()
