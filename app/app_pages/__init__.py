"""The pages: a file each, run by Streamlit and imported by no other module."""
