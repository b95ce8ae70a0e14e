"""Sessions of a running dashboard without a browser: the messages that Streamlit's own page sends and receives."""

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

PATIENCE = 120.0
"""Seconds."""


def visit(port: int, page: str = "") -> list[ForwardMsg]:
    """Open one page in a session of its own; returns what the server sent until the script was done."""
    with connect(f"ws://127.0.0.1:{port}/_stcore/stream", subprotocols=["streamlit"], max_size=None) as socket:
        request = BackMsg()
        request.rerun_script.page_name = page
        socket.send(request.SerializeToString())
        messages = []
        while not messages or messages[-1].WhichOneof("type") != "script_finished":
            messages.append(ForwardMsg.FromString(socket.recv(PATIENCE)))
    return messages


def headings(messages: list[ForwardMsg]) -> list[str]:
    """The headings that were drawn."""
    elements = [message.delta.new_element for message in messages if message.WhichOneof("type") == "delta"]
    return [element.heading.body for element in elements if element.WhichOneof("type") == "heading"]
