"""Everyone who takes part: starconv's ways of calling and every peer, in the order of the tables' columns."""

from .entrant import Entrant
from .filters import Ndimage, OpenCV, OpenCVSeparable, SignalFFT, SignalOverlapAdd
from .own import Call, CallChannelsLast, Correlate, Prepared, PreparedChannelsLast
from .pytorch import Torch, TorchChannelsLast
from .runtimes import OnnxRuntime, OpenVINO

ENTRANTS: tuple[Entrant, ...] = (
    Call(),
    CallChannelsLast(),
    Correlate(),
    Prepared(),
    PreparedChannelsLast(),
    Torch(),
    TorchChannelsLast(),
    OnnxRuntime(),
    OpenVINO(),
    OpenCV(),
    OpenCVSeparable(),
    Ndimage(),
    SignalFFT(),
    SignalOverlapAdd(),
)

__all__ = ["ENTRANTS", "Entrant"]
