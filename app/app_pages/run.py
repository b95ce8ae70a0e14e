"""Run: capture texts with a model, open the result or a trace on disk, and export."""

from pathlib import Path

import streamlit as st

from app.jobs import captures, models, registry
from app.jobs.queue import Job
from app.sections import export
from app.state import address, controls, roots, settings, sources
from app.widgets import job_list, texts
from mixtral_probe import InputError
from mixtral_probe.corpus import Document, read_corpus

texts.title(
    "Run",
    "Send texts through a model and record what its routers do. Only you see your runs unless you publish them, and "
    "they are lost when this page is closed or reloaded.",
)


def _text_field() -> list[Document]:
    text = st.text_area(
        "Text",
        value="def add(a, b):\n    return a + b\n",
        height=180,
        max_chars=settings.TYPED_CHARACTERS,
        key="run_text",
    )
    return read_corpus([{"id": "typed text", "text": text}])


def _domain_choice() -> list[Document]:
    corpus = _corpus()
    domains = sorted({str(document.labels["domain"]) for document in corpus})
    chosen = st.multiselect("Domains", domains, default=domains[:4], key="run_domains")
    each = st.slider("Documents of each", 1, 24, 3, key="run_each")
    documents: list[Document] = []
    for domain in chosen:
        documents += [document for document in corpus if document.labels["domain"] == domain][:each]
    if not documents:
        raise InputError("a capture needs at least one domain, got none; choose one")
    return documents


@st.cache_resource(max_entries=1, show_spinner="Reading the bundled texts …")
def _corpus() -> list[Document]:
    return read_corpus("bundled")


def _upload_field() -> list[Document]:
    files = st.file_uploader(
        f"One or more .txt or .jsonl files, each of at most {settings.UPLOAD_MEGABYTES} MB",
        type=["txt", "jsonl"],
        accept_multiple_files=True,
        max_upload_size=settings.UPLOAD_MEGABYTES,
        key="run_file",
        help="A .txt file is one document. A line of a .jsonl file is an object with `text`, and if you like `id`, "
        "`domain` and other labels.",
    )
    return [document for file in files for document in captures.read_upload(file.name, file.getvalue())]


def _model() -> str:
    names = [models.EMBEDDED, *map(str, roots.model_folders())]
    if len(names) == 1:
        return models.EMBEDDED
    controls.keep_valid("run_model", names)
    return st.selectbox("Model", names, format_func=_model_name, key="run_model")


def _model_name(model: str) -> str:
    return "the embedded one" if model == models.EMBEDDED else f"{Path(model).name} · {Path(model).parent}"


def _request() -> captures.Request | None:
    kind = st.segmented_control("What to run", list(FROM), default="A text", required=True, key="run_kind")
    try:
        documents = captures.check(FROM[kind]())
    except InputError as error:
        st.error(str(error))
        documents = ()
    model = _model()
    with st.expander("Options"):
        attention = st.text_input(
            "Record attention of layers",
            placeholder="none; or 0,3 · 2-5 · all · 3:0-7 for some heads",
            key="run_attention",
        )
        window = st.number_input(
            "Cut documents into windows of so many tokens",
            min_value=1,
            value=None,
            placeholder="as many as the model has positions",
            key="run_window",
        )
    return captures.Request(documents, attention.strip(), window, model) if documents else None


def _buttons(request: captures.Request) -> None:
    """Draw the buttons that estimate and start a capture."""
    count = len(request.documents)
    size = sum(len(document.text) for document in request.documents)
    st.caption(f"{count:,} document{'s' * (count > 1)} · {size:,} characters")
    first, second, _ = st.columns([1, 1, 2])
    estimating = first.button("Estimate", key="run_estimate", icon=":material/calculate:", width="stretch")
    starting = second.button("Capture", key="run_start", type="primary", icon=":material/play_arrow:", width="stretch")
    if not estimating and not starting:
        return
    try:
        with st.spinner("Estimating; the first time the model is loaded …"):
            planned, needed = captures.estimate(request)
        st.info(
            f"{needed.tokens:,} tokens · {job_list.seconds(needed.seconds)} · "
            f"{job_list.size(needed.memory_bytes)} of memory · {job_list.size(needed.disk_bytes)} of disk"
        )
        if starting:
            captures.start(request, planned)
    except InputError as error:
        st.error(str(error))


def _remember(job: Job) -> None:
    assert job.result is not None
    sources.add_capture(job.id, job.name, job.result, job.about)


def _result(job: Job) -> None:
    st.caption(":material/check_circle: Finished; it is in the list of traces now")
    if st.button("See it in Token routing", key=f"see_{job.id}", icon=":material/alt_route:"):
        controls.set_on_next_run(trace=job.id)
        st.switch_page("app_pages/token_routing.py", query_params=address.query())
    st.toggle(
        "Published: everybody who opens this dashboard may see it",
        value=job.published,
        key=f"publish_{job.id}",
        on_change=_publish,
        args=(job.id,),
    )


def _publish(job_id: str) -> None:
    registry.registry().publish(registry.session(), job_id, bool(st.session_state[f"publish_{job_id}"]))


FROM = {"A text": _text_field, "Bundled documents": _domain_choice, "Files": _upload_field}
left, right = st.columns([3, 2], gap="large")
with left:
    request = _request()
    if request is not None:
        _buttons(request)
with right:
    st.subheader("Your captures", anchor=False)
    job_list.watch(
        captures.KIND, "None yet. Choose what to run, then press Capture.", on_done=_result, on_new=_remember
    )
st.divider()
left, right = st.columns([1, 1], gap="large")
with left:
    export.open_by_path()
with right:
    export.export()
