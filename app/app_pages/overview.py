"""Overview: what was run, what stands out in it, the card of the model and that of the texts."""

import streamlit as st

from app.sections import overview
from app.state import controls
from app.widgets import texts

view = controls.view()
texts.title("Overview", "What was run, what stands out, and where to look at it.")
texts.welcome()
st.write(overview.run_in_words(view.trace))

st.header("What stands out", anchor=False)
overview.findings(view)

left, right = st.columns([1, 1], gap="large")
with left:
    st.header("The model", anchor=False)
    overview.facts(overview.model_card(view.trace))
with right:
    st.header("The texts", anchor=False)
    overview.facts(overview.data_card(view.trace))
    overview.labels(view.trace)
