"""The coloured text of a trace as a widget: layer slider, choice, document, pages, hover, keyboard."""

from typing import Any

from mixtral_probe import strip
from mixtral_probe.errors import InputError
from mixtral_probe.notebook.markup import asset
from mixtral_probe.notebook.static import TOKENS, one_document
from mixtral_probe.tables import routes
from mixtral_probe.trace import Trace

try:
    import anywidget
    import traitlets
except ImportError:
    raise InputError(
        "the token strip needs the package anywidget, which is not installed; pip install 'mixtral-probe[notebook]'"
    ) from None


class TokenStrip(anywidget.AnyWidget):
    """A trace's text, each token coloured by the expert it was sent to, with a slider for the layer.

    `layer`, `rank`, `document` and `page` can be set and observed from Python; `selected` is the token last clicked.
    """

    _esm = strip.script() + asset("widget.js")
    _css = asset("notebook.css") + f"\n.mixtral-probe {{\n{strip.style()}}}\n"

    layers = traitlets.List(traitlets.Int()).tag(sync=True)
    """[L] as the model numbers them."""
    documents = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """Their ids."""
    choices = traitlets.Int().tag(sync=True)
    """K."""
    layer = traitlets.Int().tag(sync=True)
    """One of `layers`."""
    rank = traitlets.Int(0).tag(sync=True)
    """0 for the first choice."""
    document = traitlets.Int(0).tag(sync=True)
    """Which document, from 0."""
    page = traitlets.Int(0).tag(sync=True)
    """Which window of it, from 0."""
    pages = traitlets.Int(1).tag(sync=True)
    """Number of windows of the document."""
    selected = traitlets.Int(None, allow_none=True).tag(sync=True)
    """Row in the document of the token last clicked."""
    data = traitlets.Dict().tag(sync=True)
    """The data of the script."""
    twin = traitlets.Unicode("").tag(sync=True)
    """Id of the element whose coloured text is hidden while the widget is displayed."""

    def __init__(self, trace: Trace, *, document: int | None = None, layer: int | None = None, twin: str = "") -> None:
        """Make a strip of a trace.

        Args:
            trace: with at least one token.
            document: the first displayed; by default the first that has a token.
            layer: the first displayed; by default the first.
            twin: id of an element of the notebook that stands in while there is no kernel.

        Raises:
            InputError: there is no such document or layer, or no token.
        """
        if not len(trace):
            raise InputError("a token strip needs at least one token, got a trace without any")
        layers = list(trace.layers)
        if layer is not None and layer not in layers:
            raise InputError(f"layer must be in {layers[0]}–{layers[-1]}, got {layer}")
        self._trace = trace
        ids = [_printable(str(name)) for name in trace.documents["id"]]
        number = int(trace.tokens["document"].iloc[0]) if document is None else document
        super().__init__(
            layers=layers,
            documents=ids,
            choices=trace.num_experts_per_tok,
            layer=layers[0] if layer is None else layer,
            document=number,
            twin=twin,
        )
        self._open(None)
        self.observe(self._open, "document")
        self.observe(self._draw, ["layer", "rank", "page"])

    def _open(self, change: Any) -> None:
        """Read the document and display its first window."""
        self._document = one_document(self._trace, self.document)
        self._routes = routes(self._document)
        self._windows = strip.windows(len(self._document), TOKENS) or [strip.TokenRange(0, 0)]
        with self.hold_trait_notifications():
            self.pages, self.page, self.selected = len(self._windows), 0, None
        self._draw(change)

    def _draw(self, change: Any) -> None:
        where = {"layer": self.layer, "row": self.layers.index(self.layer), "rank": self.rank}
        tokens = strip.by_expert(self._document, self._routes, self._windows[self.page], **where)
        label = f"Text of document {self.document} coloured by expert at layer {self.layer}"
        self.data = strip.payload(tokens, self.selected, label)


def _printable(name: str) -> str:
    return "".join(part for part, _ in strip.parts(name))
