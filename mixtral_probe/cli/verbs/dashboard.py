"""`mixtral-probe dashboard`: start the web page that comes with the project."""

import inspect
import os
import socket
import sys
from contextlib import closing
from pathlib import Path
from threading import Thread

import mixtral_probe
from mixtral_probe.cli import options
from mixtral_probe.cli.shell import WRONG_INPUT, fail
from mixtral_probe.errors import InputError

ENTRY = "streamlit_app.py"
FIRST_PORT, PORTS_TRIED = 8501, 100


def dashboard(
    traces: options.TracesToOpen = None,
    port: options.Port = None,
    host: options.Host = "127.0.0.1",
    allow: options.Allow = None,
) -> None:
    """Open the web page on some traces, or on the embedded model and corpus. Ctrl-C ends it.

    \b
    Examples:
      mixtral-probe dashboard
      mixtral-probe dashboard corpus.trace --port 8600
      mixtral-probe dashboard --allow ~/models --allow ~/traces
    """
    folders = [_trace_folder(trace) for trace in traces or ()] + [_allowed(folder) for folder in allow or ()]
    chosen = _free_port(host) if port is None else port
    if not _is_free(host, chosen):
        fail(
            f"port {chosen} of {host} cannot be opened, something else may use it; name another with --port",
            WRONG_INPUT,
        )
    _run_streamlit(_app_folder() / ENTRY, folders, _settings(host, chosen))


def _trace_folder(trace: Path) -> str:
    folder = trace.expanduser().absolute()
    if not (folder / "trace.json").is_file():
        raise InputError(f"dashboard opens folders that capture wrote, got {trace} without trace.json; name another")
    return str(folder)


def _allowed(folder: Path) -> str:
    """The folder as an argument of the dashboard."""
    path = folder.expanduser().absolute()
    if not path.is_dir():
        raise InputError(f"--allow must name a folder, got {folder}; name another")
    return f"--allow={path}"


def _app_folder() -> Path:
    package = Path(mixtral_probe.__file__).parent
    for folder in (package / "_bundled" / "app", package.parent / "app"):
        if (folder / ENTRY).is_file():
            return folder
    raise InputError("the dashboard is not part of this installation; install from the full source tree")


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except socket.gaierror:
            raise InputError(f"--host must be an address of this machine, got {host!r}") from None
        except OSError:
            return False
    return True


def _free_port(host: str) -> int:
    last = FIRST_PORT + PORTS_TRIED - 1
    for port in range(FIRST_PORT, last + 1):
        if _is_free(host, port):
            return port
    raise InputError(f"no port from {FIRST_PORT} to {last} of {host} can be opened; name another with --port or --host")


def _settings(host: str, port: int) -> dict[str, str]:
    """No telemetry, only this machine is served, and no prompt waits for an answer."""
    return {
        "server.address": host,
        "server.port": str(port),
        "server.headless": str(not _has_browser()).lower(),
        "server.showEmailPrompt": "false",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "global.developmentMode": "false",
    }


def _has_browser() -> bool:
    """Whether this machine has a screen, so that a browser may open by itself."""
    if not sys.stdout.isatty() or "SSH_CONNECTION" in os.environ:
        return False
    return sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())


def _run_streamlit(entry: Path, folders: list[str], settings: dict[str, str]) -> None:
    """Become `streamlit run`, in this process, so that one Ctrl-C or signal ends everything."""
    flags = [f"--{name}={value}" for name, value in settings.items()]
    sys.argv = ["streamlit", "run", str(entry), *flags, "--", *folders]
    from streamlit.web.cli import main

    Thread(target=_preload, daemon=True).start()
    main(prog_name="streamlit")


def _preload() -> None:
    """Import what every page needs while the browser still loads the frame around it."""
    from mixtral_probe import report, selection, stats, strip, tables  # noqa: F401
    from mixtral_probe.figures.theme import template

    template()  # plotly imports its parts when they are first used
    inspect.stack()  # Streamlit asks at its first element where it is called from; looking up modules is slow but once
