"""The dashboard: `streamlit run app/streamlit_app.py -- TRACE …`."""

import sys
from pathlib import Path

# Streamlit puts this folder on the path. Its parent is put there instead, and first, so that every module of the
# dashboard has one name, `app.…`, and is loaded once, whichever other package may be called `app`.
_APP = Path(__file__).resolve().parent
sys.path[:] = [str(_APP.parent), *(entry for entry in sys.path if Path(entry).resolve() not in (_APP, _APP.parent))]

import streamlit as st  # noqa: E402

from app.state import address, controls, page_list, settings  # noqa: E402
from app.widgets import charts  # noqa: E402
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
