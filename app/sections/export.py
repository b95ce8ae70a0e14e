"""A field that opens a trace by its path, and exports of the open one."""

import streamlit as st

from app.jobs import exports
from app.jobs.queue import Job
from app.state import controls, roots, sources
from app.widgets import job_list
from mixtral_probe import InputError


def open_by_path() -> None:
    """Draw a field for the path of a trace below an allowed folder."""
    st.subheader("Open a trace on disk", anchor=False)
    folders = roots.folders()
    if not folders:
        st.caption(
            "Start the dashboard with `mixtral-probe dashboard --allow DIR` to open traces and models below a folder."
        )
        return
    st.caption("Below " + ", ".join(f"`{folder}`" for folder in folders))
    with st.form("open_path", border=False):
        path = st.text_input("Path of a trace", key="path_to_open", placeholder="a folder that capture wrote")
        go = st.form_submit_button("Open", icon=":material/folder_open:")
    if not go:
        return
    try:
        source = sources.open_path(path)
    except InputError as error:
        st.error(str(error))
        return
    controls.set_on_next_run(trace=source.key)
    st.rerun()


def export() -> None:
    """Draw the formats to export the open trace in, and the finished exports."""
    st.subheader("Export", anchor=False)
    view = controls.current()
    if view is None:
        st.caption("There is no trace to export yet.")
    else:
        _form(view.source)
    job_list.watch(exports.KIND, "", _download)


def _form(source: sources.TraceSource) -> None:
    forms: list[str] = list(exports.FORMS)
    label = f"Of the trace shown: {source.name}"
    form = st.selectbox(label, forms, format_func=exports.FORMS.__getitem__, key="export_form")
    if missing := exports.missing_package(form):
        st.info(missing)
        return
    if st.button("Export", key="export_start", icon=":material/ios_share:"):
        try:
            exports.start(source.name, source.path, form)
        except InputError as error:
            st.error(str(error))


def _download(job: Job) -> None:
    assert job.result is not None
    file = job.result / exports.FILE
    if not file.is_file():
        st.caption("Deleted meanwhile, since only the newest results are kept; export it again.")
        return
    st.download_button(
        f"Download, {job_list.size(file.stat().st_size)}",
        data=file.read_bytes,
        file_name=f"{job.about.split(' · ')[0]}.zip",
        mime="application/zip",
        key=f"download_{job.id}",
        on_click="ignore",
        icon=":material/download:",
    )
