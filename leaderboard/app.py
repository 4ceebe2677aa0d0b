"""The board's frame: its pages, and what they say when the store cannot be read."""

import streamlit as st

from razorbench import Refused
from razorbench.harness.store.requests import StoreError
from razorbench.leaderboard.snapshot import Empty, look

# File under views/, which is the page's path in the URL → its icon. A folder that is called pages would be served
# by Streamlit itself, without this frame, until somebody has opened the overview.
PAGES = {
    "overview": ":material/home:",
    "track": ":material/leaderboard:",
    "submission": ":material/description:",
    "compare": ":material/compare_arrows:",
    "samples": ":material/flip:",
    "tasks": ":material/quiz:",
    "submit": ":material/upload:",
    "about": ":material/info:",
}


def main() -> None:
    """Draw the page that the URL names."""
    st.set_page_config("razorbench", page_icon="⚖️", layout="wide")
    pages = [
        st.Page(f"views/{name}.py", title=name.capitalize(), icon=icon, default=name == "overview")
        for name, icon in PAGES.items()
    ]
    page = st.navigation(pages, position="top")
    if trouble := look():
        st.warning("This is the last state that could be read. What is published now cannot be:")
        st.text(trouble)
    try:
        page.run()
    except Empty as empty:
        st.info("There is nothing to show here yet.")
        st.text(str(empty))
    except (StoreError, Refused) as error:  # their sentences quote names, so they are no Markdown
        st.error("The board cannot show this.")
        st.text(str(error))


if __name__ == "__main__":  # as Streamlit runs it
    main()
