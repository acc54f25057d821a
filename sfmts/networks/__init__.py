"""Networks as plain torch modules, which do not need an estimator."""

from sfmts.networks.associative import AssociativeLSTM
from sfmts.networks.base import NetworkOutput, SequenceNetwork, make_network, network_names, register_network
from sfmts.networks.checks import check_network, network_checks
from sfmts.networks.complex import ComplexGatedRNN, UnitaryMatrix, UnitaryRNN, stiefel_step
from sfmts.networks.depth import AdaptiveComputationTime, RecurrentHighway
from sfmts.networks.fourier import (
    CirculantUnitary,
    CirculantUnitary2d,
    ConvRotationGRU,
    DFTLayer,
    FNet,
    FourierMixing,
    RotationGRU,
)
from sfmts.networks.gated import GRU, LSTM
from sfmts.networks.multirate import ClockworkRNN, PhasedLSTM
from sfmts.networks.presets import match_budget, paper_preset
from sfmts.networks.recurrent import RecurrentLayer, RecurrentNetwork
from sfmts.networks.resonator import Resonator
from sfmts.networks.sfm import SFM
from sfmts.networks.sfm_kdd import KDDSFM

__all__ = [
    "GRU",
    "KDDSFM",
    "LSTM",
    "SFM",
    "AdaptiveComputationTime",
    "AssociativeLSTM",
    "CirculantUnitary",
    "CirculantUnitary2d",
    "ClockworkRNN",
    "ComplexGatedRNN",
    "ConvRotationGRU",
    "DFTLayer",
    "FNet",
    "FourierMixing",
    "NetworkOutput",
    "PhasedLSTM",
    "RecurrentHighway",
    "RecurrentLayer",
    "RecurrentNetwork",
    "Resonator",
    "RotationGRU",
    "SequenceNetwork",
    "UnitaryMatrix",
    "UnitaryRNN",
    "check_network",
    "make_network",
    "match_budget",
    "network_checks",
    "network_names",
    "paper_preset",
    "register_network",
    "stiefel_step",
]
