"""The authors' settings: as printed, as intended, as released, and this library's own.

The claims: the paper reports an accuracy of 0.9975 on waves, and log-likelihoods of -5.47 (SFM) and -5.45 (A-SFM) on
the JSB chorales, for weights from U(-0.1, 0.1) and AdaDelta with decay .95 and rate 1e-4.  The authors' released
program has other settings.  These are compared, on waves and on chorales, for an SFM of the paper's size:

paper           as printed; t is the step.
paper, rate 1   the same with AdaDelta's own rate of 1: the program reads the rate 1e-4 and never uses it.
intended        the program's start (rows of unit norm) and rate, and the time that its source spells out, step over
                length, which knows where a series ends.
released        the same, but time as the source of Theano has it computed: a division of integers, so 0 until the
                last step's 1.  Before it all frequencies are driven alike, and of music it is not scored.
library         this library's recipe at the paper's size.
library, own size   the estimators' defaults in all things.

AdaDelta's eps is PyTorch's default of 1e-6, which is the program's.  Authors' settings have batches of 20, no clipping,
no dropout and z itself as logits; on music they train 100 epochs and keep the epoch that is best on the validation
part, as the program does, while the library trains its 30 and keeps the last.  On waves, for which the authors released
no training program, channels are standardised and all train 30 epochs.  The program never trains an A-SFM, whatever it
is told; here it is that of the paper, with the phase omega_t t, and with the sum of omega_t in the library's recipe.

What is scored: on waves accuracy.  On chorales nats per frame of independent keys ("Bernoulli"), which is a
log-likelihood, and the sum of log softmax over the pressed keys, which is what the program scores and calls one: no
prediction can exceed its ceiling.  Each network is trained for one of the two, and for the mean over frames, but
"intended" and "released", trained for pressed keys, for the program's sum.  The program reads MIDI files every 0.3 s
instead of the published rolls, and scores the validation part.  Nothing was tuned.

The chorales come from the cache, the network, or the folder that the environment variable SFMTS_PIANO_ROLLS names.
With `--quick` they are random.

SFMDensity refuses a time that knows where a series ends, so models are put together here from the parts that they, too,
are made of; with a library preset they are what the estimators train.

    python experiments/settings.py
    python experiments/settings.py --only jsb_chorales library
"""

import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from _runs import (
    CONFIRMED,
    NO_RUNS,
    NOT_CONFIRMED,
    Outcome,
    Record,
    Run,
    estimator_parameters,
    mean_and_deviation,
    network_alone,
    progress,
    run_and_print,
    table,
)
from _runs import preset as of_table_1
from sklearn.model_selection import train_test_split
from torch import Tensor

from sfmts import SFMClassifier, SFMDensity
from sfmts._batch import channel_scale, channel_statistics
from sfmts.datasets import fetch_piano_rolls, make_waves
from sfmts.heads import BernoulliHead, ClassificationHead, Head
from sfmts.metrics import bernoulli_log_likelihood, softmax_pressed_ceiling, softmax_pressed_log_likelihood
from sfmts.networks import SFM
from sfmts.training import SequenceBatch, SequenceModel, Trainer, TrainingSettings, outputs

EXPERIMENT = "settings"
CLAIMS = {  # and the pages on them
    "Trained as printed, with AdaDelta at 1e-4, the SFM has an accuracy of 0.9975 on waves": "settings",
    "Trained as printed, the SFM scores -5.47 on JSB chorales": "settings",
}
PAPER = {"sfm": -5.47, "a_sfm": -5.45}
SEEDS = 3

AUTHORS = {
    "optimizer": "adadelta",
    "learning_rate": "constant",
    "learning_rate_init": 1.0,
    "batch_size": 20,
    "clip_norm": None,
    "dropout": 0.0,
    "recurrent_dropout": 0.0,
    "phase": "product",
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {**AUTHORS, "init": "paper", "learning_rate_init": 1e-4},
    "paper, rate 1": {**AUTHORS, "init": "paper"},
    "intended": {**AUTHORS, "init": "authors", "time": "normalized"},
    "released": {**AUTHORS, "init": "authors", "time": "zero_until_last"},
    "library": {},
    "library, own size": {},
}
ADAPTIVE = ("paper", "paper, rate 1", "intended", "library")
ESTIMATORS = {"waves": SFMClassifier, "jsb_chorales": SFMDensity}


def plan(quick: bool = False) -> list[Run]:
    """Return all runs, seed by seed."""
    return [
        Run(settings(task, preset, row, quick), seed)
        for seed in range(1 if quick else SEEDS)
        for task in (
            {"name": "jsb_chorales", "objective": "pressed"},
            {"name": "waves", "variant": "hard"},
            {"name": "jsb_chorales", "objective": "bernoulli"},
            {"name": "waves", "variant": "paper"},
        )
        for row in ("sfm", "a_sfm")
        for preset in (PRESETS if row == "sfm" else ADAPTIVE)
    ]


def settings(task: dict[str, Any], preset: str, row: str, quick: bool) -> dict[str, Any]:
    """Return what determines a run except for the seed, with the parameters that are not the estimator's defaults."""
    music = task["name"] == "jsb_chorales"
    parameters: dict[str, Any] = {"frequencies": "adaptive"} if row == "a_sfm" else {}
    if preset != "library, own size":
        parameters |= of_table_1("music" if music else "waves", row)
    parameters |= PRESETS[preset]
    if not music:
        parameters["max_iter"] = 30
    elif not preset.startswith("library"):
        parameters["max_iter"] = 100
    if quick:
        parameters["max_iter"] = 1
    else:
        parameters["n_iter_no_change"] = parameters.get("max_iter", 30)  # nobody stops early
    if music:
        size: dict[str, Any] = {"rolls": "random" if quick else "published"}
    else:
        size = {"n_series": 40, "n_steps": 12} if quick else {"n_series": 2000, "n_steps": 500}
    parameters = estimator_parameters(parameters)
    return {"task": {**task, **size}, "row": row, "preset": preset, "parameters": parameters}


class PressedKeysHead(Head):
    """Trained for what the authors' program scores: the sum of log softmax over the pressed keys of the next frame.

    Training divides the loss of a mini-batch by its number of frames.  With ``summed`` that is undone: the program's
    loss is the sum, and AdaDelta, for its eps, does notice.
    """

    per_step = True

    def __init__(
        self, in_features: int, n_keys: int, kind: str, generator: torch.Generator, summed: bool = False
    ) -> None:
        super().__init__(in_features, n_keys, kind, generator)
        self.summed = summed

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return minus that sum over all frames, times their number if ``summed``."""
        n_frames = len(output) if weight is None else weight.sum()
        return -self.score(output, target, weight) * (n_frames if self.summed else 1.0)

    def score(self, output: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
        """Return that sum over all frames."""
        frames = (output.log_softmax(dim=1) * target).sum(dim=1)
        return frames.sum() if weight is None else (frames * weight).sum()


def fit(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Train and score one network."""
    task = settings["task"]
    estimator = ESTIMATORS[task["name"]]
    parameters = {**network_alone(estimator).get_params(), **settings["parameters"]}
    parameters["network_params"] = {**estimator._network_defaults, **(parameters["network_params"] or {})}
    generator = torch.Generator().manual_seed(int(np.random.RandomState(seed).randint(2**31 - 1)))
    return (fit_waves if task["name"] == "waves" else fit_chorales)(task, parameters, generator)


def fit_waves(task: dict[str, Any], parameters: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
    """Return the accuracy on a fifth of the waves."""
    X, y = make_waves(task["n_series"], n_steps=task["n_steps"], variant=task["variant"], random_state=0)
    parts = train_test_split(X.astype(np.float32), y, test_size=0.2, stratify=y, random_state=0)
    train, test = (batch(X, y) for X, y in zip(parts[:2], parts[2:], strict=True))
    network = make_sfm(train, 1 if parameters["head"] == "none" else None, parameters, generator)
    head = ClassificationHead(network.output_size, 2, parameters["head"], generator)
    mean, variance = channel_statistics(train)
    model = SequenceModel(network, head, mean=mean, scale=channel_scale(mean, variance), dropout=parameters["dropout"])
    found = train_model(model.float(), train, None, parameters, generator)
    if "diverged" in found["scores"]:
        return found
    assert test.target is not None
    right = head.score(outputs(model, test, 256), test.target, None)
    return {**found, "scores": {**found["scores"], "accuracy": float(right) / len(test)}}


def fit_chorales(task: dict[str, Any], parameters: dict[str, Any], generator: torch.Generator) -> dict[str, Any]:
    """Return both scores of the test part."""
    parts = random_rolls() if task["rolls"] == "random" else published_rolls()
    as_program = "time" in parameters["network_params"]
    train, valid, test = (next_frames(part, last=as_program) for part in parts)
    n_keys = train.n_channels
    network = make_sfm(train, n_keys, parameters, generator)
    if task["objective"] == "pressed":
        head: Head = PressedKeysHead(network.output_size, n_keys, parameters["head"], generator, summed=as_program)
    else:
        pressed = np.concatenate([roll[1:] for roll in parts[0]])
        rates = torch.from_numpy((pressed.sum(axis=0, dtype=np.float64) + 0.5) / (len(pressed) + 1.0))
        head = BernoulliHead(network.output_size, n_keys, parameters["head"], generator, rates)
    model = SequenceModel(network, head, dropout=parameters["dropout"])
    chosen = valid if parameters["optimizer"] == "adadelta" else None
    found = train_model(model, train, chosen, parameters, generator)
    if "diverged" in found["scores"]:
        return found
    frames = [roll[1:] for roll in parts[2]]
    logits = np.split(outputs(model, test, 256).double().numpy(), test.lengths.cumsum(0)[:-1].numpy())
    logits = [z[: len(frame)] for z, frame in zip(logits, frames, strict=True)]
    scores = {
        **found["scores"],
        "bernoulli": bernoulli_log_likelihood(frames, [1.0 / (1.0 + np.exp(-z)) for z in logits]),
        "pressed": softmax_pressed_log_likelihood(frames, logits),
        "ceiling": softmax_pressed_ceiling(frames),
    }
    return {**found, "scores": scores}


def published_rolls() -> list[list[np.ndarray]]:
    """Return the JSB chorales for training, validation and test."""
    rolls = fetch_piano_rolls("jsb_chorales", data_home=os.environ.get("SFMTS_PIANO_ROLLS"))
    return [rolls[part] for part in ("train", "valid", "test")]


def random_rolls() -> list[list[np.ndarray]]:
    """Return the same number of parts of short noise."""
    rng = np.random.default_rng(0)
    return [[(rng.random((steps, 88)) < 0.05).astype(np.float32) for steps in (9, 5, 12)] for _ in range(3)]


def batch(X: Sequence[np.ndarray], target: np.ndarray, **options: Any) -> SequenceBatch:
    """Return series with their targets."""
    lengths = torch.tensor([len(series) for series in X])
    return SequenceBatch(torch.from_numpy(np.concatenate(X)), lengths, target=torch.from_numpy(target), **options)


def next_frames(rolls: list[np.ndarray], last: bool) -> SequenceBatch:
    """Return frames with the next ones as targets; as in the program, the ``last`` without target is read as well."""
    if not last:
        following = np.concatenate([roll[1:] for roll in rolls])
        return batch([roll[:-1] for roll in rolls], following, target_per_step=True)
    following = np.concatenate([np.roll(roll, -1, axis=0) for roll in rolls])
    weight = np.concatenate([np.arange(len(roll)) < len(roll) - 1 for roll in rolls]).astype(np.float32)
    return batch(rolls, following, weight=torch.from_numpy(weight), target_per_step=True)


def make_sfm(
    train: SequenceBatch, n_outputs: int | None, parameters: dict[str, Any], generator: torch.Generator
) -> SFM:
    """Return the network as an estimator makes it."""
    sizes = {name: parameters[name] for name in ("n_states", "n_frequencies")}
    options = {"n_outputs": n_outputs, **sizes, **parameters["network_params"]}
    return SFM(train.n_channels, **options, max_length=int(train.lengths.max()), generator=generator)


def train_model(
    model: SequenceModel,
    train: SequenceBatch,
    valid: SequenceBatch | None,
    parameters: dict[str, Any],
    generator: torch.Generator,
) -> dict[str, Any]:
    """Train in place; says, too, how far the weights have moved, as a share of the norm of where they began.

    Without clipping a loss may become NaN, and then that is all there is to say.
    """
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    options = {name: value for name, value in parameters.items() if name in TrainingSettings.__dataclass_fields__}
    settings = TrainingSettings(**options, **(parameters["optimizer_params"] or {}))
    trainer = Trainer(model, settings, generator)
    start = time.perf_counter()
    try:
        trainer.fit(train, valid)
        moved = torch.nn.utils.parameters_to_vector(model.parameters()).detach() - before
        scores: dict[str, Any] = {"moved": float(moved.norm() / before.norm())}
    except FloatingPointError:
        scores = {"diverged": True}
    return {
        "scores": scores,
        "n_parameters": before.numel(),
        "epochs": len(trainer.history.loss),
        "seconds": time.perf_counter() - start,
    }


def select(records: list[Record], preset: str, row: str, **task: str) -> list[Record]:
    """Return the records of all seeds of one preset on one task."""
    return [
        record
        for record in records
        if (record["settings"]["preset"], record["settings"]["row"]) == (preset, row)
        and task.items() <= record["settings"]["task"].items()
    ]


def scores(records: list[Record], name: str, digits: int = 3) -> str:
    """Return mean and deviation of a score, "-" if it is missing, and the number of trainings that ended in NaN."""
    said = mean_and_deviation([record["scores"][name] for record in records if name in record["scores"]], digits)
    diverged = sum("diverged" in record["scores"] for record in records)
    if not diverged:
        return said
    return f"diverged ({diverged})" if diverged == len(records) else f"{said}, diverged ({diverged})"


def report(records: list[Record]) -> str:
    """Return a table for waves and one for chorales."""
    lines: dict[str, list[list[object]]] = {"waves": [], "chorales": []}
    for row in ("sfm", "a_sfm"):
        for preset in PRESETS:
            easy, hard = (select(records, preset, row, variant=variant) for variant in ("paper", "hard"))
            pressed, bernoulli = (select(records, preset, row, objective=goal) for goal in ("pressed", "bernoulli"))
            waves = [scores(easy, "accuracy"), scores(hard, "accuracy"), scores(hard, "moved")]
            chorales = [scores(pressed, "pressed", 2), scores(bernoulli, "bernoulli", 2)]
            chorales += [scores(bernoulli, "pressed", 2), scores(pressed, "moved")]
            for name, cells, found in (("waves", waves, easy + hard), ("chorales", chorales, pressed + bernoulli)):
                if found:
                    seconds = statistics.mean(record["seconds"] for record in found)
                    lines[name].append([preset, row, found[0]["n_parameters"], *cells, f"{seconds:.0f}"])
    header = ["Settings", "Network", "Parameters"]
    parts = [
        f'# Settings: printed, intended, released, our own\n\n{progress(records, plan())}.  "Moved" is the '
        'distance of the trained weights from the first ones, as a share of the norm of those; "diverged": the loss '
        "became NaN."
    ]
    if lines["waves"]:
        columns = ['Accuracy, "paper"', 'Accuracy, "hard"', 'Moved, "hard"', "Seconds"]
        parts.append(f"## Accuracy on waves\n\nThe paper: 0.9975.\n\n{table([*header, *columns], lines['waves'])}")
    if lines["chorales"]:
        columns = ["Pressed keys", "Bernoulli", "Pressed keys, trained for Bernoulli", "Moved", "Seconds"]
        parts.append(
            "## JSB chorales, test part, nats per frame\n\n"
            f"Pressed keys: the program's score, of networks trained for it; the paper has {PAPER['sfm']} for the SFM "
            f"and {PAPER['a_sfm']} for the A-SFM, on other frames, and the ceiling here is {ceiling(records):.2f}.  "
            "Bernoulli: a log-likelihood, of networks trained for it.\n\n"
            f"{table([*header, *columns], lines['chorales'])}"
        )
    return "\n\n".join(parts)


def ceiling(records: list[Record]) -> float:
    """Return the ceiling of the pressed keys' score."""
    return next(float(record["scores"]["ceiling"]) for record in records if "ceiling" in record["scores"])


def outcomes(records: list[Record]) -> list[Outcome]:
    """Compare the printed settings with the paper's figure and with the best ones."""
    result = []
    for name, task, claimed in (
        ("accuracy", {"variant": "paper"}, 0.9975),
        ("pressed", {"objective": "pressed"}, PAPER["sfm"]),
    ):
        means = {
            preset: statistics.mean(found)
            for preset in PRESETS
            if (found := [r["scores"][name] for r in select(records, preset, "sfm", **task) if name in r["scores"]])
        }
        if "paper" not in means:
            result.append(NO_RUNS)
            continue
        best = max(means, key=lambda preset: means[preset])
        said = f"as printed {means['paper']:.3f}, best {means[best]:.3f} ({best})"
        if name == "pressed" and any("ceiling" in record["scores"] for record in records):
            said += f", ceiling {ceiling(records):.2f}; the paper's frames are others"
        result.append(Outcome(said, CONFIRMED if means["paper"] >= claimed else NOT_CONFIRMED))
    return result


if __name__ == "__main__":
    run_and_print(EXPERIMENT, __doc__, plan, fit, report)
