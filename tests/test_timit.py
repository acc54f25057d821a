"""TIMIT is read in each of its layouts, by the protocol; features and labels are those of the formulas."""

import math
import os
import shutil
import sys
from itertools import pairwise

import joblib
import numpy as np
import pandas as pd
import pytest
import soundfile

from sfmts.datasets import frame_labels, load_timit, mfcc, timit
from sfmts.datasets.timit import CORE_SPEAKERS, PHONES

RATE = 16_000


def sound(n_samples, seed=0):
    rng = np.random.RandomState(seed)
    time = np.arange(n_samples) / RATE
    voice = sum(np.sin(2 * np.pi * rng.uniform(100, 4000) * time + rng.uniform(0, 6)) for _ in range(5))
    return np.round(2000 * voice + 100 * rng.normal(size=n_samples)).astype(np.int16)


def htk(signal, rate=RATE, n_derivatives=1):
    """The formulas, one number at a time."""
    window, hop, n_fft = rate // 40, rate // 100, {16_000: 512, 8_000: 256}[rate]

    def mel(frequency):
        return 1127 * math.log(1 + frequency / 700)

    centres = [mel(rate / 2) * number / 27 for number in range(28)]
    rows = []
    for start in range(0, len(signal) - window + 1, hop):
        x = [float(value) for value in signal[start : start + window]]
        energy = math.log(sum(value**2 for value in x))
        y = [x[0] - 0.97 * x[0]] + [x[n] - 0.97 * x[n - 1] for n in range(1, window)]
        y = [value * (0.54 - 0.46 * math.cos(2 * math.pi * n / (window - 1))) for n, value in enumerate(y)]
        powers = np.exp(-2j * np.pi * np.outer(np.arange(n_fft // 2 + 1), np.arange(window)) / n_fft)
        magnitudes = np.abs(powers @ np.array(y))
        logs = []
        for low, centre, high in zip(centres, centres[1:], centres[2:], strict=False):
            total = 0.0
            for k, magnitude in enumerate(magnitudes):
                place = mel(k * rate / n_fft)
                if low < place <= centre:
                    total += magnitude * (place - low) / (centre - low)
                elif centre < place < high:
                    total += magnitude * (high - place) / (high - centre)
            logs.append(math.log(total))
        row = []
        for i in range(1, 13):
            c = math.sqrt(2 / 26) * sum(m * math.cos(math.pi * i / 26 * (j + 0.5)) for j, m in enumerate(logs))
            row.append(c * (1 + 22 / 2 * math.sin(math.pi * i / 22)))
        rows.append([*row, energy])
    parts = [np.array(rows)]
    for _ in range(n_derivatives):
        c = parts[-1]
        at = lambda t, c=c: c[min(max(t, 0), len(c) - 1)]  # noqa: E731
        parts.append(
            np.array([sum(k * (at(t + k) - at(t - k)) for k in (1, 2)) / (2 * (1 + 4)) for t in range(len(c))])
        )
    return np.concatenate(parts, axis=1)


class TestMFCC:
    @pytest.mark.parametrize(
        ("n_samples", "n_derivatives"), [(400, 2), (559, 1), (560, 0), (1_200, 1), (2_000, 0), (2_000, 2)]
    )
    def test_formulas(self, n_samples, n_derivatives):
        signal = sound(n_samples)
        features = mfcc(signal, n_derivatives=n_derivatives)
        assert features.shape == ((n_samples - 400) // 160 + 1, 13 * (1 + n_derivatives))
        np.testing.assert_allclose(features, htk(signal, n_derivatives=n_derivatives), rtol=0, atol=1e-5)

    def test_other_sample_rate(self):
        signal = sound(1_000)
        np.testing.assert_allclose(mfcc(signal, sample_rate=8_000), htk(signal, 8_000), rtol=0, atol=1e-5)

    def test_louder(self):
        """Ten times louder changes the log-energy and nothing else."""
        signal = sound(2_000).astype(float)
        change = mfcc(10 * signal) - mfcc(signal)
        expected = np.zeros(26)
        expected[12] = 2 * math.log(10)
        np.testing.assert_allclose(change, np.broadcast_to(expected, change.shape), atol=1e-9)

    def test_kinds_of_numbers_and_26_features_by_default(self):
        signal = sound(1_000)
        np.testing.assert_array_equal(mfcc(signal), mfcc(signal, n_derivatives=1))
        for other in (signal.astype(np.float32), signal.tolist()):
            np.testing.assert_array_equal(mfcc(other), mfcc(signal))

    def test_a_frame_sees_its_window_only(self):
        signal = sound(2_000)
        other = signal.copy()
        other[160 * 4 + 400 :] = 0
        before = mfcc(signal, n_derivatives=0)[:5]
        np.testing.assert_array_equal(mfcc(other, n_derivatives=0)[:5], before)
        assert np.isfinite(mfcc(np.zeros(1_000))).all()

    @pytest.mark.parametrize(
        ("signal", "options", "message"),
        [
            (np.zeros(399), {}, "A signal of 399 samples is shorter than one window of 400"),
            (np.zeros((1_000, 2)), {}, r"one channel of finite numbers.*but has shape \(1000, 2\)\."),
            (np.full(1_000, np.nan), {}, "holds NaN or infinity"),
            (np.zeros(1_000, complex), {}, "A signal must hold real numbers, but holds complex128 values"),
            (["0"] * 1_000, {}, "A signal must hold real numbers, but holds <U1 values"),
            (np.ma.masked_less(np.arange(1_000), 3), {}, "signal has 3 masked entries. Fill them"),
            (np.zeros(1_000), {"n_derivatives": 3}, "Unknown n_derivatives 3; choose one of 0, 1, 2"),
            (np.zeros(1_000), {"sample_rate": 16}, "sample_rate must be at least 1000 samples per second, but is 16"),
        ],
    )
    def test_errors(self, signal, options, message):
        with pytest.raises(ValueError, match=message):
            mfcc(signal, **options)

    def test_numpy_numbers(self):
        signal = sound(1_000)
        expected = mfcc(signal, sample_rate=8_000, n_derivatives=1)
        for kind in (np.int16, np.uint16, np.float32):
            np.testing.assert_array_equal(mfcc(signal, sample_rate=kind(8_000), n_derivatives=np.int8(1)), expected)


class TestFrameLabels:
    @pytest.mark.parametrize(("n_samples", "seed"), [(400, 0), (559, 1), (560, 2), (4_321, 3), (4_321, 4)])
    def test_phone_at_the_middle_of_the_window(self, n_samples, seed):
        rng = np.random.RandomState(seed)
        bounds = [0, *sorted(rng.choice(np.arange(1, n_samples), size=20, replace=False).tolist()), n_samples]
        segments = [(a, b, rng.choice(list(PHONES))) for a, b in pairwise(bounds)]
        expected = [
            next(label for start, end, label in segments if start <= 160 * i + 200 < end)
            for i in range((n_samples - 400) // 160 + 1)
        ]
        labels = frame_labels(segments, n_samples)
        assert labels.tolist() == expected
        assert len(labels) == len(mfcc(sound(n_samples)))

    def test_by_hand(self):
        """The middle of the first window is sample 200: an end is excluded, a start is not."""
        assert frame_labels([(0, 200, "h#"), (200, 400, "sh")], 400).tolist() == ["sh"]
        assert frame_labels([(0, 201, "h#"), (201, 400, "sh")], 400).tolist() == ["h#"]
        gaps = [(300, 400, "a"), (900, 1_000, "b")]  # middles at 200, 360, 520, 680, 840, 1000, 1160
        assert "".join(frame_labels(gaps, 1_360)) == "aaaaabb"
        assert frame_labels([(0, 101, "a"), (101, 400, "b")], 400, sample_rate=8_000).tolist() == ["a", "b", "b"]
        assert frame_labels([(0, 560, "a")], 400).tolist() == ["a"]  # the end may be missed by a frame

    @pytest.mark.parametrize(
        ("segments", "n_samples", "message"),
        [
            ([], 400, "segments is empty"),
            ([(0, 100, "a"), (200, 150, "b")], 400, r"segment 1 is \(200, 150, 'b'\)"),
            ([(0, 100, "a"), (200, 300, "b"), (100, 200, "c")], 400, r"in the order of time.*segment 2"),
            ([(np.uint32(200), np.uint32(300), "a"), (np.uint32(0), np.uint32(200), "b")], 400, "segment 1 is"),
            ([(0, np.nan, "a")], 400, "must be numbers of samples, but some are NaN or infinite"),
            ([(0, 8_000, "a")], 4_400, "Segments end at sample 8000, but the signal has only 4400 samples. It is"),
            ([(0, 561, "a")], 400, "Segments end at sample 561, but the signal has only 400 samples"),
            ([(0, 100, "a")], 399, "399 samples is shorter than one window of 400"),
        ],
    )
    def test_errors(self, segments, n_samples, message):
        with pytest.raises(ValueError, match=message):
            frame_labels(segments, n_samples)

    def test_numpy_numbers(self):
        segments = [(0, 300, "h#"), (300, 900, "sh")]
        expected = frame_labels(segments, 900).tolist()
        for kind in (np.int16, np.uint16, np.int64):
            given = [(kind(start), kind(end), label) for start, end, label in segments]
            assert frame_labels(given, kind(900), sample_rate=kind(16_000)).tolist() == expected
        assert frame_labels(np.array(segments, dtype=object), 900).tolist() == expected

    def test_data_frames_and_other_forms(self):
        segments = [(0, 360, "h#"), (360, 900, "sh"), (900, 1_000, "k")]
        expected = frame_labels(segments, 1_000).tolist()
        frame = pd.DataFrame(segments, columns=["start", "end", "label"])
        forms = [frame, frame[["label", "start", "end"]], frame.set_axis(["beg", "end", "key"], axis=1)]
        forms += [frame.set_axis(range(3), axis=1), frame.to_records(index=False), frame.convert_dtypes()]
        forms += [pd.Series(segments, index=[7, 8, 9]), [row for _, row in frame.iterrows()], iter(segments)]
        for form in forms:
            assert frame_labels(form, 1_000).tolist() == expected
        with pytest.raises(ValueError, match=r"order of time.*segment 1 is"):
            frame_labels(pd.Series(segments[::-1], index=[7, 8, 9]), 1_000)

    @pytest.mark.parametrize(
        ("segments", "error", "message"),
        [
            (pd.DataFrame({"start": [0], "end": [900]}), ValueError, r"columns \['start', 'end'\], but three"),
            (pd.DataFrame([["a", 0, 900]], columns=[*"lft"]), ValueError, r"Segment 0 is \['a', 0, 900\], but"),
            ([{"start": 0, "end": 900, "label": "a"}], ValueError, "Segment 0 is {'start': 0.*two numbers of samples"),
            ([[(0, 900, "a")]], ValueError, r"Segment 0 is \[\(0, 900, 'a'\)\], but must be \(start, end, label\)"),
            ([(0, 300, "a"), (300, 900)], ValueError, r"Segment 1 is \(300, 900\), but"),
            ([(0, 900, None)], ValueError, "Segment 0 is .*None.*a label"),
            ([(0, 900, np.nan)], ValueError, "Segment 0 is .*nan.*a label"),
            ([(0, 900, ["a", "b"])], ValueError, "Segment 0 is"),
            ([(False, True, "a")], ValueError, "Segment 0 is"),
            (["abc"], ValueError, "Segment 0 is 'abc'"),
            ("abc", TypeError, "segments is of type str, but must be a sequence"),
            ({"start": [0]}, TypeError, "segments is of type dict"),
            (None, TypeError, "segments is of type NoneType"),
        ],
    )
    def test_what_is_no_segment_is_named(self, segments, error, message):
        with pytest.raises(error, match=message):
            frame_labels(segments, 900)


TRAIN = ["dr1/fcjf0", "dr1/mcpm0", "dr8/mbcg0"]
TEST = ["dr1/mdab0", "dr2/fpas0", "dr8/mslb0"]  # the first two are of the core test
SENTENCES = ["sa1", "si1027", "sx37", "sx127"]
N_TRAIN, N_TEST = 9, 9
SILENCE = "h#"


def phone_lines(n_samples, seed):
    """Between silences, phones of 300 samples; all of them occur somewhere in the corpus."""
    names = [phone for phone in PHONES if phone != SILENCE]
    count = n_samples // 300 - 2
    chosen = [names[(seed * 7 + number) % len(names)] for number in range(count)]
    ends = [300 * (number + 1) for number in range(count + 1)]
    segments = [(0, 300, SILENCE), *zip(ends, ends[1:], chosen, strict=False), (ends[-1], n_samples, SILENCE)]
    return segments, "".join(f"{start} {end} {label}\n" for start, end, label in segments)


def write_sound(path, samples, kind):
    if kind == "riff":
        soundfile.write(path, samples, RATE, format="WAV", subtype="PCM_16")
    else:
        soundfile.write(path, samples, RATE, format="NIST", subtype="PCM_16", endian="LITTLE")


def make_corpus(folder, *, upper=True, inside="", kind="sphere", ending=".wav"):
    """A TIMIT of nine train and nine test utterances, besides SA; returns its content by name."""
    case = str.upper if upper else str.lower
    content = {}
    for split, speakers in (("train", TRAIN), ("test", TEST)):
        for number, (speaker, sentence) in enumerate((a, b) for a in speakers for b in SENTENCES):
            seed = number + 100 * (split == "test")
            samples = sound(6_000 + 333 * number, seed)
            segments, text = phone_lines(len(samples), seed)
            place = folder / inside / case(f"{split}/{speaker}")
            place.mkdir(parents=True, exist_ok=True)
            (place / case(f"{sentence}.phn")).write_text(text)
            (place / case(f"{sentence}.txt")).write_text("0 6000 She had your dark suit.\n")
            write_sound(place / (case(sentence + ".wav") + ending.removeprefix(".wav")), samples, kind)
            content[f"{split}/{speaker}/{sentence}"] = samples, segments
    return content


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    home = tmp_path_factory.mktemp("corpus")
    return home, make_corpus(home)


@pytest.fixture
def copy(corpus, tmp_path):
    """A corpus of one's own to spoil."""
    return shutil.copytree(corpus[0], tmp_path / "copy")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def load(cache):
    """`load_timit` for an incomplete corpus."""

    def load(home, **options):
        return load_timit(home, **{"strict": False, "n_valid": 2, "cache_home": cache} | options)

    return load


LAYOUTS = {
    "upper": {},
    "lower": {"upper": False},
    "in TIMIT": {"inside": "TIMIT"},
    "deep, lower": {"inside": "copies/lisa/data", "upper": False},
    "RIFF in .WAV": {"kind": "riff"},
    "x.WAV.wav": {"inside": "data", "kind": "riff", "ending": ".wav.wav"},
}


def assert_same(got, expected):
    for part in ("train", "valid", "test"):
        assert got[part].names == expected[part].names
        assert got[part].speakers.tolist() == expected[part].speakers.tolist()
        for key in ("data", "target"):
            for a, b in zip(got[part][key], expected[part][key], strict=True):
                np.testing.assert_array_equal(a, b)


class TestLayouts:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_all_are_read_alike(self, corpus, load, layout, tmp_path):
        make_corpus(tmp_path / "corpus", **LAYOUTS[layout])
        assert_same(load(tmp_path / "corpus"), load(corpus[0]))

    def test_readable_sound_beside_the_compressed(self, corpus, load, copy):
        for path in copy.rglob("*.WAV"):
            samples, _ = soundfile.read(path, dtype="int16")
            write_sound(path.with_name(path.name + ".wav"), samples, "riff")
            compress(path)
        assert_same(load(copy), load(corpus[0]))

    @pytest.mark.parametrize("subtype", ["PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
    def test_other_numbers(self, corpus, load, copy, subtype):
        for path in copy.rglob("*.WAV"):
            samples, _ = soundfile.read(path, dtype="float64")
            soundfile.write(path, samples, RATE, format="WAV", subtype=subtype)
        assert_same(load(copy), load(corpus[0]))

    def test_linked(self, corpus, load, tmp_path):
        (tmp_path / "TIMIT").symlink_to(corpus[0], target_is_directory=True)
        (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)  # leads nowhere new
        assert_same(load(tmp_path), load(corpus[0]))

    def test_two_corpora(self, copy, load):
        shutil.copytree(copy, copy / "again")
        with pytest.raises(ValueError, match=r"holds two corpora.*again.*Name one of them"):
            load(copy)

    def test_things_that_are_not_timit(self, corpus, copy, load):
        place = copy / "TRAIN" / "DR1" / "FCJF0"
        for name in ("._SI1027.PHN", "SI1027.WRD", "README.DOC"):
            (place / name).write_bytes(b"\x00\x05\x16\x07")
        (copy / "TRAIN" / "DR9" / "XCJF0").mkdir(parents=True)
        shutil.copy(place / "SI1027.PHN", copy / "TRAIN" / "DR9" / "XCJF0")
        assert_same(load(copy), load(corpus[0]))


class TestProtocol:
    def test_no_sa_sentences(self, corpus, load):
        parts = load(corpus[0])
        names = {part: parts[part].names for part in ("train", "valid", "test")}
        assert sorted(names["train"] + names["valid"]) == sorted(f"{a}/{b}" for a in TRAIN for b in SENTENCES[1:])
        assert sorted(names["test"]) == sorted(f"{a}/{b}" for a in TEST for b in SENTENCES[1:])
        assert parts.test.speakers.tolist() == [name.split("/")[1] for name in names["test"]]
        assert set(parts.test.speakers) == {"mdab0", "fpas0", "mslb0"}  # with their first letter

    def test_features_and_labels(self, corpus, load):
        home, content = corpus
        parts = load(home, standardize=False)
        for part in ("train", "valid", "test"):
            for name, X, y in zip(parts[part].names, parts[part].data, parts[part].target, strict=True):
                samples, segments = content[f"{'test' if part == 'test' else 'train'}/{name}"]
                assert X.dtype == np.float32
                np.testing.assert_allclose(X, mfcc(samples), rtol=1e-6)
                assert parts.target_names[y].tolist() == frame_labels(segments, len(samples)).tolist()
        static = [*(f"c{number}" for number in range(1, 13)), "energy"]
        assert parts.feature_names == static + [f"d_{name}" for name in static]
        np.testing.assert_array_equal(parts.mean, np.zeros(26))
        np.testing.assert_array_equal(parts.scale, np.ones(26))

    @pytest.mark.parametrize("n_valid", [0, 1, 5, 8])
    def test_validation_set(self, corpus, load, n_valid):
        parts = load(corpus[0], n_valid=n_valid, random_state=3)
        assert len(parts.valid.data) == len(parts.valid.target) == n_valid
        assert len(parts.train.data) == N_TRAIN - n_valid
        assert not set(parts.train.names) & set(parts.valid.names)
        assert parts.train.names == sorted(parts.train.names)

    def test_validation_set_follows_the_seed(self, corpus, load):
        def valid(seed):
            return load(corpus[0], random_state=seed).valid.names

        assert valid(1) == valid(1) == valid(np.random.RandomState(1))
        assert load(corpus[0]).valid.names == valid(0)  # the default is the same for everyone
        assert len({tuple(valid(seed)) for seed in range(6)}) > 1
        before = np.random.get_state()[1].copy()
        valid(None)
        np.testing.assert_array_equal(np.random.get_state()[1], before)

    def test_core_test(self, corpus, load):
        names = load(corpus[0], test_set="core").test.names
        assert names == [f"{speaker}/{sentence}" for speaker in TEST[:2] for sentence in sorted(SENTENCES[1:])]
        assert len(CORE_SPEAKERS) == 24
        assert sum(speaker.startswith("m") for speaker in CORE_SPEAKERS) == 16  # two men and a woman of each region

    def test_standardised_on_train(self, corpus, load):
        raw, parts = load(corpus[0], standardize=False), load(corpus[0])
        frames = np.concatenate(parts.train.data)
        np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(frames.std(axis=0), 1, atol=1e-5)
        train = np.concatenate(raw.train.data).astype(float)
        np.testing.assert_allclose(parts.mean, train.mean(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(parts.scale, train.std(axis=0), rtol=1e-5)
        for part in ("valid", "test"):
            for a, b in zip(parts[part].data, raw[part].data, strict=True):
                np.testing.assert_allclose(a, (b - parts.mean) / parts.scale, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("subset", ["train", "valid", "test"])
    def test_subset(self, corpus, load, subset):
        bunch = load(corpus[0], subset=subset)
        X, y = load(corpus[0], subset=subset, return_X_y=True)
        for got, expected in ((bunch.data, bunch[subset].data), (bunch.target, bunch[subset].target)):
            assert got is expected
        for got, expected in ((X, bunch.data), (y, bunch.target)):
            for a, b in zip(got, expected, strict=True):
                np.testing.assert_array_equal(a, b)
        assert bunch.names == bunch[subset].names
        assert "3696" in bunch.DESCR

    def test_derivatives(self, corpus, load):
        two, none = (load(corpus[0], n_derivatives=n, standardize=False) for n in (2, 0))
        assert len(two.feature_names) == two.train.data[0].shape[1] == len(set(two.feature_names)) == 39
        np.testing.assert_array_equal(two.train.data[0][:, :13], none.train.data[0])
        assert two.feature_names[:13] == none.feature_names

    def test_incomplete_corpus(self, corpus, cache, monkeypatch):
        with pytest.raises(ValueError, match="less than the number of train utterances, 9, but is 184"):
            load_timit(corpus[0], strict=False)  # the default of n_valid
        message = "holds 9 train and 9 test utterances.*has 3696 and 1344.*Pass strict=False"
        with pytest.raises(ValueError, match=message):
            load_timit(corpus[0], n_valid=2)
        monkeypatch.setattr(timit, "PROTOCOL", {"train": N_TRAIN, "test": N_TEST})
        assert len(load_timit(corpus[0], n_valid=2, cache_home=cache).train.data) == 7


class TestPhones:
    FOLDED = (  # the 61 phones, those they become of 48, and of 39
        "ax-h ax ah; axr er er; bcl vcl sil; dcl vcl sil; gcl vcl sil; pcl cl sil; tcl cl sil; kcl cl sil; em m m; "
        "eng ng ng; h# sil sil; pau sil sil; hv hh hh; nx n n; ux uw uw; q sil sil; ao ao aa; ax ax ah; ix ix ih; "
        "el el l; en en n; zh zh sh; epi epi sil"
    )

    @pytest.mark.parametrize("n_phones", [61, 48, 39])
    def test_folding_and_masked_glottal_stop(self, corpus, load, n_phones):
        folded = {phone: (phone, phone) for phone in PHONES}
        folded |= {a: (b, c) for a, b, c in (words.split() for words in self.FOLDED.split(";"))}
        original, parts = load(corpus[0]), load(corpus[0], n_phones=n_phones)
        assert len(parts.target_names) == n_phones
        seen = set()
        for before, after in zip(original.train.target, parts.train.target, strict=True):
            phones = original.target_names[before].tolist()
            expected = phones if n_phones == 61 else [folded[phone][n_phones == 39] for phone in phones]
            assert parts.target_names[after].tolist() == expected
            seen |= set(phones)
        assert seen == set(PHONES)
        assert len(seen) == 61
        masked = load(corpus[0], n_phones=n_phones, glottal_stop="mask").train.target
        for before, after, other in zip(original.train.target, masked, parts.train.target, strict=True):
            stops = (original.target_names[before] == "q") & (n_phones < 61)
            np.testing.assert_array_equal(after, np.where(stops, -1, other))
        assert any((target == -1).any() for target in masked) == (n_phones < 61)


class TestCache:
    def test_second_call_reads_no_sound(self, corpus, load, tmp_path, monkeypatch):
        first = load(corpus[0], cache_home=tmp_path)
        monkeypatch.setitem(sys.modules, "soundfile", None)
        assert_same(load(corpus[0], cache_home=tmp_path), first)
        assert load(corpus[0], cache_home=tmp_path, n_phones=39).train.data  # other labels of the same features
        with pytest.raises(ImportError, match=r"'soundfile'.*pip install '\.\[data\]'"):
            load(corpus[0], cache_home=tmp_path, n_derivatives=2)  # but not other features

    @pytest.mark.parametrize("pattern", ["TRAIN/DR1/FCJF0/SX37.WAV", "TRAIN/DR1/FCJF0/SX37.PHN"])
    def test_changed_corpus(self, load, copy, tmp_path, pattern):
        load(copy, cache_home=tmp_path / "cache")
        path = copy / pattern
        if path.suffix == ".WAV":
            write_sound(path, soundfile.read(path, dtype="int16")[0][::-1], "sphere")
        else:
            path.write_text(path.read_text().replace(SILENCE, "pau"))
        os.utime(path, (1, 1))
        changed = load(copy, cache_home=tmp_path / "cache")
        assert_same(changed, load(copy, cache_home=tmp_path / "other"))

    def test_damaged_cache(self, corpus, load, tmp_path):
        first = load(corpus[0], cache_home=tmp_path)
        (path,) = tmp_path.rglob("*.npz")
        path.write_bytes(path.read_bytes()[:1000])
        assert_same(load(corpus[0], cache_home=tmp_path), first)
        assert path.stat().st_size > 1000

    @pytest.mark.parametrize(
        "change",
        [
            lambda arrays: {**arrays, "phones": arrays["phones"][:-1]},
            lambda arrays: {**arrays, "bounds": arrays["bounds"][:-1]},
            lambda arrays: {"features": arrays["features"]},
        ],
        ids=["phones", "bounds", "missing"],
    )
    def test_cache_of_something_else(self, corpus, load, tmp_path, change):
        first = load(corpus[0], cache_home=tmp_path)
        (path,) = tmp_path.rglob("*.npz")
        np.savez(path, **change(dict(np.load(path).items())))
        for _ in range(2):
            assert_same(load(corpus[0], cache_home=tmp_path), first)

    def test_folder_that_cannot_be_written(self, corpus, load, tmp_path):
        (tmp_path / "timit").write_text("a file where the folder should be")
        with pytest.warns(UserWarning, match="cannot be cached in"):
            parts = load(corpus[0], cache_home=tmp_path)
        assert_same(parts, load(corpus[0]))

    def test_scikit_learns_folder_by_default(self, corpus, load, tmp_path, monkeypatch):
        monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path))
        load(corpus[0], cache_home=None)
        assert len(list(tmp_path.glob("timit/features-*.npz"))) == 1

    def test_progress(self, corpus, load, tmp_path, capsys):
        for verbose in (0, 1):
            load(corpus[0], cache_home=tmp_path / str(verbose), verbose=verbose)
            assert ("18/18" in capsys.readouterr().err) == bool(verbose)

    @pytest.mark.parametrize("backend", ["threading", "loky"])
    def test_parallel(self, corpus, load, tmp_path, backend):
        with joblib.parallel_config(backend=backend):
            parts = load(corpus[0], cache_home=tmp_path, n_jobs=2)
        assert_same(parts, load(corpus[0]))


def compress(path):
    """Make the header say what those of the compressed discs say."""
    content = path.read_bytes()
    head, body = content[:1024], content[1024:]
    head = head.replace(b"sample_coding -s3 pcm\n", b"")
    head = head.replace(b"end_head", b"sample_coding -s26 pcm,embedded-shorten-v2.00\nend_head")
    path.write_bytes(head[:1024].rstrip().ljust(1024) + b"ajkg\x02" + body[5:])


def rewrite(path, change=lambda samples: samples, rate=RATE, **options):
    """Write a sound again, changed."""
    samples, _ = soundfile.read(path, dtype="int16")
    soundfile.write(path, change(samples), rate, format="WAV", **options)


class TestErrors:
    SOUND = "TRAIN/DR1/MCPM0/SX127.WAV"
    PHONE_FILE = "TRAIN/DR1/MCPM0/SX127.PHN"

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (compress, r"is compressed \(pcm,embedded-shorten-v2\.00\).*with `sph2pipe"),
            (
                lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1"),
                "is not readable NIST SPHERE or RIFF.*begins with b'version http",
            ),
            (lambda path: rewrite(path, rate=8_000), "has 8000 Hz and 1 channel, but TIMIT has 16000 Hz and 1"),
            (lambda path: rewrite(path, lambda x: np.stack([x, x], axis=1)), "has 16000 Hz and 2 channels"),
            *(
                (
                    lambda path, subtype=subtype: rewrite(path, lambda x: x.astype(float), subtype=subtype),
                    r"holds floating-point samples of up to \d+, but .* between -1 and 1. Divide them by 32768",
                )
                for subtype in ("FLOAT", "DOUBLE")
            ),
            *(
                (
                    lambda path, value=value: rewrite(path, lambda x: np.append(x / 32768, value), subtype="FLOAT"),
                    "holds samples that are NaN or infinite. Convert it again",
                )
                for value in (np.nan, np.inf)
            ),
        ],
    )
    @pytest.mark.filterwarnings("error")
    def test_sounds(self, copy, load, spoil, message):
        spoil(copy / self.SOUND)
        with pytest.raises(ValueError, match=rf"SX127\.WAV {message}"):
            load(copy)

    @pytest.mark.parametrize(("kind", "lost"), [("sphere", 2), ("riff", 2), ("riff", 2_000)])
    def test_half_a_sound(self, copy, load, kind, lost):
        path = copy / self.SOUND
        samples, _ = soundfile.read(path, dtype="int16")
        write_sound(path, samples, kind)
        path.write_bytes(path.read_bytes()[:-lost])
        message = f"is incomplete: .* {len(samples)} samples, but it holds {len(samples) - lost // 2}. Copy"
        with pytest.raises(ValueError, match=rf"SX127\.WAV {message}"):
            load(copy)

    def test_sound_of_another_sentence(self, copy, load):
        samples, _ = soundfile.read(copy / self.SOUND, dtype="int16")
        ends = f"Segments end at sample {len(samples)}, but the signal has only 4400 samples. It is incomplete"
        for length, message in [(4_400, ends), (300, "A signal of 300 samples is shorter")]:
            write_sound(copy / self.SOUND, samples[:length], "sphere")
            with pytest.raises(ValueError, match=f"SX127: {message}"):
                load(copy)

    def test_loudest_sound(self, copy, load):
        path = copy / self.SOUND
        samples, _ = soundfile.read(path, dtype="int16")
        samples[::50] = 32767
        write_sound(path, samples, "sphere")
        expected = load(copy)
        scaled = np.where(samples == 32767, 1.0, samples / 32768)
        soundfile.write(path, scaled, RATE, format="WAV", subtype="FLOAT")  # its greatest value is 1
        assert_same(load(copy), expected)

    def test_no_sound(self, copy, load):
        (copy / self.SOUND).unlink()
        with pytest.raises(
            FileNotFoundError, match=r"SX127\.PHN has no sound in its folder\. Add it, for example as SX127\.WAV"
        ):
            load(copy)

    def test_phone_lines(self, copy, load):
        path = copy / self.PHONE_FILE
        first, _, *others = path.read_text().splitlines()
        for line in ("300 600 xx", "300 600", "three 600 sh"):
            path.write_text("\n".join([first, line, *others]))
            with pytest.raises(ValueError, match=rf"Line 2 of .*SX127\.PHN is '{line}', but must be .*'0 2260 h#'"):
                load(copy)
        path.write_text("\n")
        with pytest.raises(ValueError, match="SX127: segments is empty"):
            load(copy)

    def test_folders(self, tmp_path, copy, load):
        with pytest.raises(FileNotFoundError, match=r"folder '.*nowhere' does not exist.*licensed and not downloaded"):
            load(tmp_path / "nowhere")
        (tmp_path / "music").mkdir()
        with pytest.raises(FileNotFoundError, match=r"holds no TIMIT corpus.*This one holds nothing"):
            load(tmp_path / "music")
        (tmp_path / "music" / "song.mp3").touch()
        with pytest.raises(FileNotFoundError, match=r"This one holds song\.mp3"):
            load(tmp_path / "music")

    def test_choices(self, corpus, load):
        for n_valid in (-1, 9):
            with pytest.raises(ValueError, match=f"less than the number of train utterances, 9, but is {n_valid}"):
                load(corpus[0], n_valid=n_valid)
        for name, value, choices in [
            ("subset", "dev", "'train', 'valid', 'test'"),
            ("n_phones", 40, "61, 48, 39"),
            ("test_set", "all", "'full', 'core'"),
            ("glottal_stop", "drop", "'sil', 'mask'"),
            ("n_derivatives", 3, "0, 1, 2"),
        ]:
            with pytest.raises(ValueError, match=f"Unknown {name} {value!r}; choose one of {choices}"):
                load_timit("nowhere", **{name: value})  # before anything is read


@pytest.mark.real_data
@pytest.mark.skipif("SFMTS_TIMIT" not in os.environ, reason="SFMTS_TIMIT does not name a TIMIT corpus")
def test_real_corpus():
    parts = load_timit(os.environ["SFMTS_TIMIT"], n_jobs=2)
    assert [len(parts[part].data) for part in ("train", "valid", "test")] == [3512, 184, 1344]
    assert len({*parts.train.speakers, *parts.valid.speakers}) == 462
    assert len(set(parts.test.speakers)) == 168
    core = load_timit(os.environ["SFMTS_TIMIT"], test_set="core").test
    assert len(core.data) == 192
    assert set(core.speakers) == CORE_SPEAKERS
