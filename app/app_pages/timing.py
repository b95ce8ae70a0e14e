"""Timing: where the time and the memory of the forward pass go."""

import streamlit as st

from app.jobs import timings
from app.jobs.queue import Job
from app.state import controls, settings
from app.widgets import charts, choices, job_list, texts, values
from mixtral_probe import InputError, figures

texts.title(
    "Timing",
    "Where the time and the memory of the forward pass go, by part, layer and expert, and what measuring itself costs.",
)
texts.where_note("the text that is run here")
STACKED = ("time_share", "milliseconds")
OF_EXPERTS = ("microseconds_per_row", "milliseconds", "rows", "peak_bytes")


def _form() -> None:
    text = st.text_area(
        "Text to run",
        value="def add(a, b):\n    return a + b\n" * 8,
        height=150,
        max_chars=settings.TYPED_CHARACTERS,
        key="timing_text",
    )
    repeats = st.slider("Timed runs, and as many without timers", 3, 30, 9, key="timing_repeats")
    try:
        st.caption(f"About {job_list.seconds(timings.estimate(text, repeats))}.")
    except InputError as error:
        st.error(str(error))
    if st.button("Measure", key="timing_start", type="primary", icon=":material/timer:"):
        try:
            timings.start(text, repeats)
        except InputError as error:
            st.error(str(error))


def _done(job: Job) -> None:
    st.caption(":material/check_circle: Finished; see below")


left, right = st.columns([3, 2], gap="large")
with left:
    _form()
with right:
    st.subheader("Your measurements", anchor=False)
    job_list.watch(timings.KIND, "None yet. Press Measure; the embedded model is timed on this machine.", _done)

results = timings.results()
if not results:
    st.stop()
controls.keep_valid("timing_shown", list(results))
job = results[
    st.selectbox(
        "Measurement",
        list(results),
        format_func=lambda job_id: f"{results[job_id].name} · {results[job_id].about}",
        key="timing_shown",
    )
]
table = timings.table(job)
whole = table[(table["layer"].isna() & table["site"].isna() & (table["part"] == "whole")).to_numpy(dtype=bool)]
values.cards(whole, ("milliseconds", "tokens_per_second", "instrument_cost", "peak_bytes"))

metric = choices.metric("Bars", STACKED, "timing_metric")
charts.show(figures.timing(table, metric=metric), table, "timing", "timing")
with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
    st.download_button(
        "Chrome trace of the last run",
        data=lambda: timings.chrome(job),
        file_name="forward.json",
        mime="application/json",
        key="timing_chrome",
        on_click="ignore",
        icon=":material/download:",
        type="tertiary",
    )
    st.caption("Open it in chrome://tracing or in Perfetto.")

of_expert = choices.metric("Map", OF_EXPERTS, "timing_experts_metric")
experts = table[((table["metric"] == of_expert) & table["expert"].notna()).to_numpy(dtype=bool)]
charts.show(figures.timing_experts(table, metric=of_expert), experts, "timing_experts", f"timing_experts_{of_expert}")
