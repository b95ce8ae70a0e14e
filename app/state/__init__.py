"""The choices of one session: settings, folders, traces, the address bar and the sidebar."""
