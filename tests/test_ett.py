"""ETTh1 becomes a frame with an hourly index, as the data card says."""

import hashlib
import os
import sys

import numpy as np
import pandas as pd
import pytest

from sfmts.datasets import ett, fetch_etth1

FOLDER = os.environ.get("SFMTS_ETT")
COLUMNS = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder with a small file in the form of the real one, and what it holds."""
    index = pd.date_range("2016-07-01", periods=30, freq="h", name="date")
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 7)), index, COLUMNS)
    path = tmp_path / "ETTh1.csv"
    frame.to_csv(path)
    monkeypatch.setattr(ett, "FILE", ett.FILE._replace(sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    return tmp_path, frame


def test_bunch(small):
    folder, frame = small
    bunch = fetch_etth1(data_home=folder, download_if_missing=False)
    pd.testing.assert_frame_equal(bunch.frame, frame, check_exact=True)
    assert bunch.frame.index.freq == "h"
    assert "CC BY-ND" in bunch.DESCR


def test_damaged(small):
    path = small[0] / "ETTh1.csv"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(OSError, match=r"was expected.*Remove it"):
        fetch_etth1(data_home=small[0])


def test_pandas_is_named_where_it_is_missing(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="'pandas', which is missing: pip install"):
        fetch_etth1(data_home=small[0])


def test_source_is_pinned_and_may_be_missing(tmp_path):
    with pytest.raises(OSError, match=r"\.csv is missing, and download_if_missing is False.*pass data_home"):
        fetch_etth1(data_home=tmp_path, download_if_missing=False)
    assert ett.FILE.url.startswith("https://")
    assert ett.FILE.url.endswith("/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/ETTh1.csv")


@pytest.mark.real_data
@pytest.mark.skipif(not FOLDER, reason="SFMTS_ETT does not name a folder with ETTh1.csv")
def test_data_card():
    frame = fetch_etth1(data_home=FOLDER, download_if_missing=False).frame
    assert frame.shape == (17_420, 7)
    assert list(frame) == COLUMNS
    assert str(frame.index[0]) == "2016-07-01 00:00:00"
    assert str(frame.index[-1]) == "2018-06-26 19:00:00"
    assert (frame.dtypes == np.float64).all()
    assert not frame.isna().any(axis=None)
    loads = frame.drop(columns="OT")
    repeats = {lag: loads.corrwith(loads.shift(lag)) for lag in (12, 24)}
    assert (repeats[24] > repeats[12]).all()  # cycles of a day
