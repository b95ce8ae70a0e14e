"""The dashboard: `streamlit run app/streamlit_app.py -- TRACE …`."""

import sys
from pathlib import Path

sys.path[:0] = [folder for folder in [str(Path(__file__).resolve().parent)] if folder not in sys.path]

import address  # noqa: E402
import charts  # noqa: E402
import controls  # noqa: E402
import page_list  # noqa: E402
import settings  # noqa: E402
import streamlit as st  # noqa: E402

from mixtral_probe import InputError  # noqa: E402

# A file, because icons by name and emoji are fetched from elsewhere.
st.set_page_config(page_title="mixtral-probe", page_icon=settings.APP / "icon.svg", layout="wide")
st.html(settings.APP / "style.css")
charts.fetch_early()
page = st.navigation(page_list.pages(), expanded=True)
address.read(page.url_path)
controls.sidebar()
try:
    page.run()
except InputError as error:
    st.error(str(error))
finally:
    address.write()
