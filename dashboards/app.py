"""Entry point of the dashboard: navigation and the bar of shared filters, then one page."""

from pathlib import Path

import streamlit as st

from dashboards import filters, viewer

HERE = Path(__file__).parent

st.set_page_config(
    page_title="Bursar",
    page_icon=str(HERE / "icon.svg"),
    layout="wide",
    initial_sidebar_state="collapsed",
)
st.logo(HERE / "logo.svg")

# Titles are plain text: an icon of the `:material/` kind would be fetched from a font host, and this
# works without one. New views become further entries here, in groups once there are many.
page = st.navigation(
    [
        st.Page("views/spend.py", title="Spend", default=True),
        st.Page("views/budgets.py", title="Budgets"),
        st.Page("views/agents.py", title="Agents"),
        st.Page("views/calls.py", title="Calls"),
        st.Page("views/models.py", title="Models"),
        st.Page("views/cache.py", title="Cache"),
        st.Page("views/gpu.py", title="GPU"),
        st.Page("views/incidents.py", title="Alerts"),
        st.Page("views/health.py", title="Health"),
    ],
    position="top",
)

# Streamlit marks the link that has the keyboard by a shade of grey that hardly anybody sees.
st.html("<style>header a:focus-visible { outline: 2px solid currentColor !important }</style>")

viewer.gate()
filters.bar(page.url_path)
page.run()
