"""Load the hourly loads and oil temperature of an electricity transformer.

Notes
-----
**Data card**

ETTh1 has 17 420 hours from 1 July 2016, 00:00, to 26 June 2018, 19:00, without gaps. The six loads have daily cycles;
the temperature follows the year and, less clearly, the day.

============  ========================================================================
column        meaning
============  ========================================================================
HUFL, HULL    high useful load, high useless load
MUFL, MULL    middle useful load, middle useless load
LUFL, LULL    low useful load, low useless load
OT            temperature of the oil in degrees Celsius, which is usually forecast
============  ========================================================================

The task of the literature is to forecast all columns, 24 to 720 hours ahead. The first 12 months (8 640 hours) are for
training, the next 4 for validation and the next 4 for the test. Errors are those of values standardised by the training
months.

Source: H. Zhou et al., "Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting", AAAI 2021;
the file ETTh1.csv of the repository zhouhaoyi/ETDataset, pinned by commit and sha256. Licence: CC BY-ND 4.0.
"""

import os
from inspect import cleandoc
from typing import Any

from sklearn.utils import Bunch

from sfmts.datasets._cache import RemoteFile, fetch_file, require

FILE = RemoteFile(
    "ETTh1.csv",
    "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/ETTh1.csv",
    "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
)


def fetch_etth1(
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    verbose: int = 0,
) -> Any:  # a Bunch, which has no types
    """Load the hourly loads and oil temperature of a transformer, and download them (2.6 MB) if necessary.

    The data card is in the module's documentation and in the attribute `DESCR` of the result.

    Parameters
    ----------
    data_home : str, path-like or None, default=None
        Folder of the data. If None, scikit-learn's data folder (`~/scikit_learn_data`). Downloads go to its subfolder
        `ett`, which processes may share. A file ETTh1.csv directly in the folder is used instead, so a folder with your
        own copy needs no network.
    download_if_missing : bool, default=True
        If False, raise OSError if the data is missing instead of downloading it.
    n_retries : int, default=3
        Number of retries after a failed download.
    verbose : int, default=0
        If positive, downloads show a progress bar.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the attributes

        frame : DataFrame of shape (17420, 7)
            The seven columns, float64, with an hourly index.
        DESCR : str
            The data card.

    Raises
    ------
    OSError
        If the data is missing or damaged and cannot be downloaded. A failed download leaves no file behind.
    ImportError
        If pandas is missing, or the data must be downloaded and pooch is missing.

    References
    ----------
    H. Zhou et al., "Informer: Beyond Efficient Transformer for Long Sequence Time-Series Forecasting", AAAI 2021.

    Examples
    --------
    >>> from sfmts.datasets import fetch_etth1
    >>> oil = fetch_etth1().frame["OT"]  # doctest: +SKIP
    >>> oil.index[0], len(oil)  # doctest: +SKIP
    (Timestamp('2016-07-01 00:00:00'), 17420)
    """
    pandas = require("pandas")
    path = fetch_file(
        FILE,
        data_home,
        folder="ett",
        download_if_missing=download_if_missing,
        n_retries=n_retries,
        verbose=verbose,
    )
    frame = pandas.read_csv(path, index_col="date", parse_dates=["date"], float_precision="round_trip").asfreq("h")
    return Bunch(frame=frame, DESCR=cleandoc(__doc__ or ""))
