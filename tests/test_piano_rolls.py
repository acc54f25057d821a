"""Piano-rolls are those of the data card, and MIDI files become the rolls they sound like."""

import hashlib
import os
import sys
from pathlib import Path

import mido
import numpy as np
import pytest
from scipy.io import savemat

from sfmts.datasets import fetch_piano_rolls, midi_to_roll, piano_rolls, roll_to_midi

NAMES = ["jsb_chorales", "musedata", "nottingham", "piano_midi"]
FOLDER = os.environ.get("SFMTS_PIANO_ROLLS")
real_data = [
    pytest.mark.real_data,
    pytest.mark.skipif(not FOLDER, reason="SFMTS_PIANO_ROLLS does not name a folder with the four .mat files"),
]


def random_roll(n_frames, rng, density=0.1):
    return (rng.uniform(size=(n_frames, 88)) < density).astype(np.uint8)


@pytest.fixture
def collection(tmp_path, monkeypatch):
    """A folder with a small file in the form of the real ones, and what it holds."""
    rng = np.random.RandomState(0)
    content = {part: [random_roll(length, rng) for length in (5, 9, 2)] for part in ("train", "valid", "test")}
    cells = {}
    for part, rolls in content.items():
        cells[f"{part}data"] = np.empty((1, len(rolls)), dtype=object)
        cells[f"{part}data"][0, :] = rolls
    path = tmp_path / "JSB_Chorales.mat"
    savemat(path, cells)
    remote = piano_rolls.FILES["jsb_chorales"]._replace(sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setitem(piano_rolls.FILES, "jsb_chorales", remote)
    return tmp_path, content


def assert_same_rolls(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


class TestFetch:
    def test_bunch(self, collection):
        folder, content = collection
        bunch = fetch_piano_rolls("jsb_chorales", data_home=folder)
        for part, rolls in content.items():
            assert_same_rolls(bunch[part], rolls)
            assert all(roll.dtype == np.float32 for roll in bunch[part])
        assert bunch.data is bunch.train
        assert bunch.name == "jsb_chorales"
        np.testing.assert_array_equal(bunch.midi_keys, np.arange(21, 109))
        assert "13 807 / 4 602 / 4 725" in bunch.DESCR

    @pytest.mark.parametrize("subset", ["train", "valid", "test"])
    def test_subset_and_its_next_frames(self, collection, subset):
        folder, content = collection
        assert_same_rolls(fetch_piano_rolls(data_home=folder, subset=subset).data, content[subset])
        X, y = fetch_piano_rolls(data_home=folder, subset=subset, return_X_y=True)
        assert_same_rolls(X, [roll[:-1] for roll in content[subset]])
        assert_same_rolls(y, [roll[1:] for roll in content[subset]])

    def test_dtype(self, collection):
        for dtype in (np.uint8, bool, np.float64, "float32"):
            rolls = fetch_piano_rolls(data_home=collection[0], dtype=dtype).train
            assert {roll.dtype for roll in rolls} == {np.dtype(dtype)}

    def test_own_folder_needs_no_pooch(self, collection, monkeypatch):
        monkeypatch.setitem(sys.modules, "pooch", None)
        assert len(fetch_piano_rolls(data_home=str(collection[0]), download_if_missing=False).train) == 3

    def test_damaged(self, collection):
        path = collection[0] / "JSB_Chorales.mat"
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(OSError, match=r"was expected.*Remove it"):
            fetch_piano_rolls(data_home=collection[0])

    def test_unknown_choice(self):
        with pytest.raises(ValueError, match=f"Unknown name 'jsb'; choose one of {', '.join(map(repr, NAMES))}"):
            fetch_piano_rolls("jsb")
        with pytest.raises(ValueError, match="Unknown subset 'all'; choose one of 'train', 'valid', 'test'"):
            fetch_piano_rolls(subset="all")

    @pytest.mark.parametrize("name", NAMES)
    def test_sources_are_pinned_and_may_be_missing(self, tmp_path, name):
        with pytest.raises(OSError, match=r"\.mat is missing, and download_if_missing is False.*pass data_home"):
            fetch_piano_rolls(name, data_home=tmp_path, download_if_missing=False)
        filename, url, sha256 = piano_rolls.FILES[name]
        assert url.startswith("https://")
        assert "/2f8c2b817050206397458dfd1f5a25ce8a32fe65/" in url
        assert url.endswith(f"/{filename}")
        assert len(bytes.fromhex(sha256)) == 32


class TestRealRolls:
    pytestmark = real_data

    FRAMES = {  # noqa: RUF012
        "jsb_chorales": ((229, 76, 77), (13_807, 4_602, 4_725), (25, 60, 129), 3.9),
        "musedata": ((524, 135, 124), (245_202, 82_755, 64_339), (9, 468, 3457), 3.5),
        "nottingham": ((694, 173, 170), (176_561, 45_513, 44_463), (40, 254, 1788), 4.0),
        "piano_midi": ((87, 12, 25), (75_911, 8_540, 19_036), (111, 873, 3857), 3.0),
    }

    @pytest.mark.parametrize("name", NAMES)
    def test_data_card(self, name):
        pieces, frames, lengths, keys = self.FRAMES[name]
        bunch = fetch_piano_rolls(name, data_home=FOLDER, download_if_missing=False)
        parts = [bunch.train, bunch.valid, bunch.test]
        assert tuple(map(len, parts)) == pieces
        assert tuple(sum(map(len, part)) for part in parts) == frames
        train = [len(roll) for roll in bunch.train]
        assert (min(train), round(np.mean(train)), max(train)) == lengths
        assert np.concatenate(bunch.train).sum(axis=1).mean() == pytest.approx(keys, abs=0.05)
        for roll in (roll for part in parts for roll in part):
            assert roll.shape[1] == 88
            assert ((roll == 0) | (roll == 1)).all()
        line = next(line for line in bunch.DESCR.splitlines() if line.startswith(f'"{name}"'))
        figures = [" / ".join(f"{n:,}".replace(",", " ") for n in triple) for triple in (pieces, frames)]
        figures += [" / ".join(map(str, lengths)), str(keys)]
        assert line.split("  ", 1)[1].split() == " ".join(figures).split()

    @pytest.mark.parametrize("name", NAMES)
    def test_transposed_to_c(self, name):
        counts = np.concatenate(fetch_piano_rolls(name, data_home=FOLDER).train).sum(axis=0)
        pitches = np.bincount((np.arange(88) + 21) % 12, weights=counts)
        assert set(np.argsort(pitches)[-2:]) == {0, 7}  # C and G

    @pytest.mark.parametrize(("unit", "step"), [("seconds", 0.3), ("quarters", 1.0)])
    def test_midi_round_trip(self, tmp_path, unit, step):
        for roll in fetch_piano_rolls(data_home=FOLDER).test[:20]:
            roll_to_midi(roll, tmp_path / "piece.mid", step, unit=unit)
            np.testing.assert_array_equal(midi_to_roll(tmp_path / "piece.mid", step, unit=unit), roll)


C, E, G = 60 - 21, 64 - 21, 67 - 21
QUARTER = 480


def write(path, *tracks, **options):
    """Write a MIDI file of (ticks since the start, message) for each track."""
    midi = mido.MidiFile(**{"type": 1, "ticks_per_beat": QUARTER} | options)
    for events in tracks:
        track, clock = mido.MidiTrack(), 0
        for time, message in events:
            track.append(message.copy(time=time - clock))
            clock = time
        midi.tracks.append(track)
    midi.save(path)
    return path


def on(note, **options):
    return mido.Message("note_on", note=note + 21, **options)


def off(note, **options):
    return mido.Message("note_off", note=note + 21, **options)


def tempo(quarters_per_minute):
    return mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(quarters_per_minute))


def frames_of(roll, key):
    return np.flatnonzero(roll[:, key]).tolist()


class TestMidiToRoll:
    def test_times_in_seconds(self, tmp_path):
        """At 120 quarters a minute a quarter lasts .5 s; frames are at 0, .3, .6, .9, 1.2 s, an end is excluded."""
        path = write(
            tmp_path / "a.mid",
            [(0, on(C)), (288, on(E)), (288, off(C)), (300, on(G)), (1152, off(G)), (1153, off(E))],
        )
        roll = midi_to_roll(path)
        assert roll.shape == (5, 88)
        assert roll.dtype == np.float32
        assert frames_of(roll, C) == [0]  # until .3 s
        assert frames_of(roll, E) == [1, 2, 3, 4]  # .3 to just after 1.2 s
        assert frames_of(roll, G) == [2, 3]  # .3125 to 1.2 s
        assert roll.sum() == 7

    def test_finer_steps_see_more(self, tmp_path):
        path = write(tmp_path / "a.mid", [(10, on(C)), (90, off(C)), (960, on(E)), (1440, off(E))])  # C: .01 to .094 s
        assert midi_to_roll(str(path), dtype=bool).dtype == bool
        assert frames_of(midi_to_roll(path, 0.3), C) == []
        assert frames_of(midi_to_roll(path, 0.05), C) == [1]
        assert frames_of(midi_to_roll(path, 0.3), E) == [4]  # 1 to 1.5 s
        assert frames_of(midi_to_roll(path, 0.25), E) == [4, 5]

    def test_tempo_changes_seconds_but_not_quarters(self, tmp_path):
        first = [(0, tempo(60)), (960, tempo(240))]
        path = write(tmp_path / "a.mid", first, [(0, on(C)), (960, off(C)), (960, on(E)), (1920, off(E))])
        seconds = midi_to_roll(path, 0.25)
        assert frames_of(seconds, C) == list(range(8))  # two quarters in 2 s
        assert frames_of(seconds, E) == [8, 9]  # two in .5 s
        quarters = midi_to_roll(path, 1, unit="quarters")
        assert frames_of(quarters, C) == [0, 1]
        assert frames_of(quarters, E) == [2, 3]

    @pytest.mark.parametrize(
        ("tracks", "frames"),
        [
            ([[(0, on(C)), (960, on(C, velocity=0)), (1920, on(E)), (2400, off(E))]], {C: [0, 1], E: [4]}),
            (
                [
                    [(0, on(C)), (960, off(C))],
                    [(480, on(C)), (1920, off(C))],  # the same key of the same channel: down until both are released
                    [(0, on(E, channel=3)), (1440, off(E, channel=3))],
                ],
                {C: [0, 1, 2, 3], E: [0, 1, 2]},
            ),
            ([[(0, on(C)), (960, on(C)), (1920, off(C))]], {C: [0, 1, 2, 3]}),
            (
                [[(0, on(C)), (0, on(E)), (480, off(E))], [(960, on(C, channel=1)), (1440, off(C, channel=1))]],
                {C: [0, 2], E: [0]},
            ),
            (
                [
                    [(0, on(E)), (3840, off(E))],
                    [(480, on(C)), (960, off(G)), (1920, mido.MetaMessage("end_of_track"))],
                ],
                {C: [1, 2, 3], E: [*range(8)]},
            ),
        ],
        ids=["velocity 0", "tracks and channels", "struck again", "release of another channel", "end of the track"],
    )
    def test_when_a_note_ends(self, tmp_path, tracks, frames):
        roll = midi_to_roll(write(tmp_path / "a.mid", *tracks), 1, unit="quarters")
        assert {key: frames_of(roll, key) for key in frames} == frames

    @pytest.mark.parametrize(
        ("events", "expected"),
        [
            ([(0, on), (480, on), (960, off), (1920, on), (2400, off)], "1111000011"),  # the first note is not released
            ([(0, on), (960, on), (960, off), (1920, off), (2400, on), (2880, off)], "111111110011"),
            ([(0, on), (960, off), (960, on), (1920, off), (2400, on), (2880, off)], "111111110011"),
            ([(0, on), (960, on), (960, off), (1920, on), (2400, off)], "1111000011"),
            ([(480, on), (480, off), (960, on), (1440, off)], "000011"),
            ([(0, off), (0, on), (480, off), (480, off), (960, on), (1440, off)], "110011"),
            ([(0, on), (480, on), (960, off), (1920, off)], "11111111"),  # two voices
            ([(0, on), (240, on), (480, on), (960, off), (1920, on), (2400, off)], "1111000011"),
        ],
        ids=["no release", "on and off", "off and on", "release of no length", "no length", "odd off", "nested", "two"],
    )
    def test_a_note_without_release_does_not_lengthen_others(self, tmp_path, events, expected):
        path = write(tmp_path / "a.mid", [(tick, kind(C)) for tick, kind in events])
        for options in ({"step": 0.25}, {"step": 0.5, "unit": "quarters"}):
            roll = midi_to_roll(path, **options)
            assert "".join(str(int(value)) for value in roll[:, C]) == expected

    def test_all_notes_off(self, tmp_path):
        before, after = [(0, on(C)), (0, on(E)), (0, on(G, channel=1)), (480, off(E))], (1920, off(G, channel=1))
        for control in (120, 123, 124, 127):
            silence = (960, mido.Message("control_change", control=control))
            path = write(tmp_path / "a.mid", [*before, silence, after], [(1920, on(C)), (2400, off(C))])
            roll = midi_to_roll(path, 1, unit="quarters")
            assert [frames_of(roll, key) for key in (C, E, G)] == [[0, 1, 4], [0], [0, 1, 2, 3]]
        write(tmp_path / "a.mid", [(0, on(C)), (960, mido.Message("control_change", control=64)), (1440, off(C))])
        assert frames_of(midi_to_roll(tmp_path / "a.mid", 1, unit="quarters"), C) == [0, 1, 2]

    def test_velocities_beyond_the_standard(self, tmp_path):
        path = write(tmp_path / "a.mid", [(0, on(C, velocity=99)), (960, off(C))])
        content = path.read_bytes()
        assert content.count(bytes([0x90, 60, 99])) == 1
        path.write_bytes(content.replace(bytes([0x90, 60, 99]), bytes([0x90, 60, 200])))
        assert frames_of(midi_to_roll(path, 1, unit="quarters"), C) == [0, 1]

    def test_what_is_left_out(self, tmp_path):
        drums = [(0, on(C, channel=9)), (480, off(C, channel=9))]
        beyond = [(0, on(-1)), (480, off(-1)), (480, on(88)), (960, off(88))]
        unended = [(0, on(G)), (480, off(E))]
        path = write(
            tmp_path / "a.mid", drums, beyond, unended, [(0, on(0)), (480, on(87)), (960, off(0)), (1440, off(87))]
        )
        roll = midi_to_roll(path, 1, unit="quarters")
        assert roll.shape == (3, 88)
        assert frames_of(roll, 0) == [0, 1]
        assert frames_of(roll, 87) == [1, 2]
        assert frames_of(roll, G) == [0]
        assert roll.sum() == 5

    @pytest.mark.parametrize(
        "event",
        [
            b"\xff\x59\x02\x09\x00",  # a key signature of nine sharps
            b"\xff\x59\x02\x00\x07",
            b"\xff\x59\x00",
            b"\xff\x58\x01\x04",  # half a time signature
            b"\xff\x54\x05\xff\xff\xff\xff\xff",
            b"\xff\x20\x00",
            b"\xf0\x03\x7e\x7f\xf7",
            b"\xf7\x01\xf8",
            b"\xfe",
        ],
        ids=lambda event: event.hex(),
    )
    def test_events_that_say_nothing_about_notes(self, tmp_path, event):
        path = write(tmp_path / "a.mid", [(0, on(C)), (960, off(C))])
        content = path.read_bytes()
        size = int.from_bytes(content[18:22]) + len(event) + 1
        path.write_bytes(content[:18] + size.to_bytes(4) + b"\x00" + event + content[22:])
        assert frames_of(midi_to_roll(path, 1, unit="quarters"), C) == [0, 1]

    def test_other_chunks(self, tmp_path):
        path = write(tmp_path / "a.mid", [(0, on(C)), (960, off(C))], [(0, on(E)), (480, off(E))])
        header, *tracks = path.read_bytes().split(b"MTrk")
        alien = b"XFIH\x00\x00\x00\x03abc"
        path.write_bytes(header + alien + b"MTrk" + tracks[0] + alien + b"MTrk" + tracks[1] + alien[:-1])
        roll = midi_to_roll(path, 1, unit="quarters")
        assert [frames_of(roll, key) for key in (C, E)] == [[0, 1], [0]]
        path.write_bytes(header + alien + b"MTrk" + tracks[0])
        with pytest.raises(ValueError, match=r"or damaged \(its header says 2 tracks, but it holds 1"):
            midi_to_roll(path)

    def test_riff(self, tmp_path):
        path = write(tmp_path / "a.mid", [(0, on(C)), (960, off(C))])
        content = path.read_bytes()
        expected = midi_to_roll(path)
        chunks = b"DISP\x03\x00\x00\x00abc\x00" + b"data" + len(content).to_bytes(4, "little") + content
        riff = b"RIFF" + (4 + len(chunks)).to_bytes(4, "little") + b"RMID" + chunks
        path.write_bytes(riff)
        np.testing.assert_array_equal(midi_to_roll(path), expected)
        path.write_bytes(riff[:-3])
        with pytest.raises(ValueError, match="is not a MIDI file, or damaged"):
            midi_to_roll(path)
        path.write_bytes(riff.replace(b"RMID", b"WAVE"))
        with pytest.raises(ValueError, match="begins with b'RIFF' instead of b'MThd'"):
            midi_to_roll(path)

    def test_other_files_and_parts_of_one(self, tmp_path):
        path = write(tmp_path / "a.mid", [(0, on(C)), (480, off(C)), (480, on(E)), (960, off(E))])
        content = path.read_bytes()
        for length in (0, 3, 20, 40, -3):
            path.write_bytes(content[:length])
            with pytest.raises(ValueError, match=r"a\.mid is not a MIDI file, or damaged"):
                midi_to_roll(path)
        path = tmp_path / "song.mp3"
        path.write_bytes(b"ID3" + bytes(range(256)))
        with pytest.raises(ValueError, match=r"song\.mp3 is not a MIDI file"):
            midi_to_roll(path)
        with pytest.raises(FileNotFoundError, match="nowhere"):
            midi_to_roll(tmp_path / "nowhere.mid")

    def test_no_common_time(self, tmp_path):
        path = write(tmp_path / "a.mid", [(0, on(C)), (480, off(C))], type=2)
        with pytest.raises(ValueError, match="has type 2, tracks without common time"):
            midi_to_roll(path)
        content = bytearray(write(tmp_path / "b.mid", [(0, on(C)), (480, off(C))]).read_bytes())
        content[12:14] = bytes([256 - 25, 40])  # 25 film frames a second, 40 ticks each
        (tmp_path / "b.mid").write_bytes(content)
        with pytest.raises(ValueError, match="counts time in film frames"):
            midi_to_roll(tmp_path / "b.mid")

    @pytest.mark.parametrize(
        ("events", "message"),
        [
            ([], "holds 0 notes"),
            ([(0, on(C, channel=9)), (480, off(C, channel=9))], "holds 0 notes"),
            ([(10, on(C)), (20, off(C))], "holds 1 notes .* but none is down at a multiple of 0.3 seconds"),
        ],
        ids=["empty", "drums", "too short"],
    )
    def test_nothing_to_hear(self, tmp_path, events, message):
        with pytest.raises(ValueError, match=message):
            midi_to_roll(write(tmp_path / "a.mid", events))

    @pytest.mark.parametrize("function", [midi_to_roll, lambda path, *a, **b: roll_to_midi(np.eye(88), path, *a, **b)])
    def test_step(self, tmp_path, function):
        path = write(tmp_path / "a.mid", [(0, on(C)), (480, off(C))])
        for step in (0, -0.3, 1e-5, np.nan, np.inf):
            with pytest.raises(ValueError, match=rf"step must be a time of at least 0.0001 seconds, but is {step}"):
                function(path, step)
        with pytest.raises(ValueError, match="Unknown unit 'bars'; choose one of 'seconds', 'quarters'"):
            function(path, unit="bars")


class TestRollToMidi:
    @pytest.mark.parametrize("unit", ["seconds", "quarters"])
    @pytest.mark.parametrize("step", [0.3, 0.25, 0.5, 1, 1 / 3, 0.07, 0.001, 20, np.pi / 10])
    def test_round_trip(self, tmp_path, unit, step):
        rng = np.random.RandomState(0)
        for number, density in [(0, 0.02), (1, 0.5), (2, 0.02), (2, 0.5)]:
            roll = random_roll(rng.randint(1, 300), rng, density)
            roll[-1, 40] = 1  # silence at the end is not kept
            roll[: number * 2] = 0  # silence at the beginning is
            path = tmp_path / "roll.mid"
            roll_to_midi(roll, path, step, unit=unit)
            np.testing.assert_array_equal(midi_to_roll(path, step, unit=unit), roll)

    @pytest.mark.slow
    @pytest.mark.parametrize("unit", ["seconds", "quarters"])
    def test_round_trip_at_any_step(self, tmp_path, unit):
        rng = np.random.RandomState(0)
        roll = random_roll(500, rng, 0.1)
        roll[-1, 40] = 1
        for step in (0.16667, 0.0005123, *np.exp(rng.uniform(np.log(1e-4), np.log(2.0), size=20))):
            roll_to_midi(roll, tmp_path / "roll.mid", step, unit=unit)
            np.testing.assert_array_equal(midi_to_roll(tmp_path / "roll.mid", step, unit=unit), roll, str(step))

    def test_failed_write_leaves_the_older_file(self, tmp_path, monkeypatch):
        path = tmp_path / "a.mid"
        roll_to_midi(np.eye(88), path)
        before = path.read_bytes()

        def fail(self, file):
            file.write(b"half")
            raise OSError("No space left on device")

        monkeypatch.setattr(mido.MidiFile, "_save", fail)
        with pytest.raises(OSError, match="No space left"):
            roll_to_midi(np.eye(88)[:3], path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
        with pytest.raises(FileNotFoundError, match=r"The folder '.*nowhere' does not exist"):
            roll_to_midi(np.eye(88), tmp_path / "nowhere" / "a.mid")

    def test_silence_at_the_end_and_a_long_piece(self, tmp_path):
        roll = np.zeros((6, 88))
        roll[1:3, C] = 1
        roll_to_midi(roll, tmp_path / "a.mid")
        np.testing.assert_array_equal(midi_to_roll(tmp_path / "a.mid"), roll[:3])
        roll = np.zeros((5000, 88), bool)
        roll[::2, C] = roll[-1, E] = True
        roll_to_midi(roll, tmp_path / "long.mid", 0.3)
        np.testing.assert_array_equal(midi_to_roll(tmp_path / "long.mid", 0.3), roll)

    @pytest.mark.parametrize(("unit", "seconds"), [("seconds", 0.3 * 4), ("quarters", 0.3 * 4 / 2)])
    def test_lasts_as_long_as_it_should(self, tmp_path, unit, seconds):
        roll_to_midi(np.eye(88)[:4], tmp_path / "a.mid", 0.3, unit=unit)
        assert mido.MidiFile(tmp_path / "a.mid").length == pytest.approx(seconds)

    def test_held_notes(self, tmp_path):
        roll = np.zeros((5, 88))
        roll[:3, C] = 1
        roll[4, C] = 1
        roll_to_midi(roll, tmp_path / "a.mid")
        kinds = [message.type for message in mido.MidiFile(tmp_path / "a.mid") if message.type.startswith("note")]
        assert kinds == ["note_on", "note_off"] * 2

    @pytest.mark.parametrize(
        ("roll", "message"),
        [
            (np.zeros((3, 87)), r"shape \(frames, 88\), but has \(3, 87\)"),
            (np.zeros(88), r"shape \(frames, 88\), but has \(88,\)"),
            (np.full((3, 88), 0.5), r"must be binary, 0 or 1, but holds 0\.5"),
            (np.full((3, 88), np.nan), "must be binary, 0 or 1, but holds nan"),
            (np.ma.masked_equal(np.eye(88), 1), "roll has 88 masked entries. Fill them"),
            (
                [np.zeros((3, 88)), np.ones((4, 88))],
                r"a list of rolls was given\. Pass one of them, such as rolls\[0\]",
            ),
        ],
    )
    def test_wrong_rolls(self, tmp_path, roll, message):
        with pytest.raises(ValueError, match=message):
            roll_to_midi(roll, tmp_path / "a.mid")
        assert list(Path(tmp_path).iterdir()) == []


@pytest.mark.parametrize("unit", ["seconds", "quarters"])
def test_numpy_steps(tmp_path, unit):
    roll = np.eye(88)
    for step in (np.float16(0.1), np.float32(0.1), np.float64(0.1), np.int8(1), np.uint64(2)):
        roll_to_midi(roll, tmp_path / "numpy.mid", step, unit=unit)
        roll_to_midi(roll, tmp_path / "python.mid", step.item(), unit=unit)
        assert (tmp_path / "numpy.mid").read_bytes() == (tmp_path / "python.mid").read_bytes()
        np.testing.assert_array_equal(midi_to_roll(tmp_path / "numpy.mid", step, unit=unit), roll)


def test_missing_mido(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mid", [(0, on(C)), (480, off(C))])
    monkeypatch.setitem(sys.modules, "mido", None)
    assert midi_to_roll(path).sum() == 2  # reading needs no library
    with pytest.raises(ImportError, match=r"'mido'.*pip install '\.\[data\]'"):
        roll_to_midi(np.eye(88), path)
