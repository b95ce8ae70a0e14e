"""Overview: what was run, what stands out in it, the card of the model and that of the texts."""

import controls
import overview_cards
import streamlit as st
import words

chosen = controls.chosen()
words.title("Overview", "What was run, what stands out, and where to look at it.")
words.welcome()
st.write(overview_cards.run_in_words(chosen.trace))

st.header("What stands out", anchor=False)
overview_cards.findings(chosen)

left, right = st.columns([1, 1], gap="large")
with left:
    st.header("The model", anchor=False)
    overview_cards.facts(overview_cards.model_card(chosen.trace))
with right:
    st.header("The texts", anchor=False)
    overview_cards.facts(overview_cards.data_card(chosen.trace))
    overview_cards.labels(chosen.trace)
