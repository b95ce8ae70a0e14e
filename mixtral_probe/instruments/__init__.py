"""What can be attached to one forward call."""

from mixtral_probe.instruments.copier import Copier, HostCopier, StreamCopier, copier_for
from mixtral_probe.instruments.growing import GrowingRecorder, SeenCall
from mixtral_probe.instruments.recorder import Recorder, Window

__all__ = ["Copier", "GrowingRecorder", "HostCopier", "Recorder", "SeenCall", "StreamCopier", "Window", "copier_for"]
