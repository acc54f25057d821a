"""Networks as plain torch modules, usable without any estimator."""

from sfmts.networks.base import NetworkOutput, SequenceNetwork, make_network, network_names, register_network
from sfmts.networks.gated import GRU, LSTM
from sfmts.networks.sfm import SFM

__all__ = [
    "GRU",
    "LSTM",
    "SFM",
    "NetworkOutput",
    "SequenceNetwork",
    "make_network",
    "network_names",
    "register_network",
]
