"""Write README.md and figures/ of the experiments from their results, and from nothing else.

    python experiments/report.py
    python experiments/report.py --results FOLDER --output FOLDER --quick

Each script has a section: what its `report` makes of its records.  It may have `CLAIM`, a short sentence in Markdown,
for the table on top, `verdict(records)`, one that is computed from the records, for the list below it, and
`draw(records, folder)`, which writes pictures.  `REPORTS_NOTHING` says that `report` is to be asked even if
there are no records.
"""

import argparse
import importlib
from pathlib import Path
from types import ModuleType

from _runs import RESULTS, Record, load, of_plan, progress, table

FOLDER = Path(__file__).parent
SECTIONS = ("waves", "music", "timit", "settings", "mechanism", "frequencies", "rivals")

HEAD = """<!-- Written by `python experiments/report.py`: change the scripts or their results, not this file. -->
# Experiments

Each script beside this file puts one claim to the test, about State-Frequency Memory networks as published
(H. Hu and G.-J. Qi, "State-Frequency Memory Recurrent Neural Networks", ICML 2017) or about what has been made of them
here.

- `python experiments/NAME.py` does those of its runs that are missing, and may be stopped at any time; `--list` says
  what is missing, `--quick` tries everything out in less than a minute.
- `results/NAME.jsonl` holds a line of JSON for each run: its settings, seed, scores, trainable parameters, epochs,
  seconds of training and the versions of the software.
- `python experiments/report.py` makes this page and `figures/` from those files and from nothing else.  Numbers after ±
  are standard deviations over seeds, numbers in parentheses say how many seeds.
- Data: piano-rolls are downloaded, or found where `SFMTS_PIANO_ROLLS` says.  ETTh1 needs `--ett ETTh1.csv` or
  `SFMTS_ETT`; it is `ETT-small/ETTh1.csv` of [ETDataset](https://github.com/zhouhaoyi/ETDataset).  TIMIT needs
  `--timit FOLDER` or `SFMTS_TIMIT`; it is LDC93S1, under licence.  What has no data is left out."""


def experiments() -> list[ModuleType]:
    """Return the available scripts, in the order of their sections."""
    return [importlib.import_module(name) for name in SECTIONS if (FOLDER / f"{name}.py").exists()]


def collect(results: Path, quick: bool = False) -> dict[ModuleType, list[Record]]:
    """Return all scripts with the records of their plans."""
    return {
        experiment: of_plan(load(experiment.EXPERIMENT, results), experiment.plan(quick))
        for experiment in experiments()
    }


def title(experiment: ModuleType) -> str:
    """Return the subject of a script, the first line of its docstring."""
    return (experiment.__doc__ or experiment.EXPERIMENT).strip().splitlines()[0].rstrip(".")


def section(experiment: ModuleType, records: list[Record]) -> str:
    """Return a script's section on its records."""
    if records or getattr(experiment, "REPORTS_NOTHING", False):
        return str(experiment.report(records)).strip()
    return f"## {title(experiment)}\n\nNo run has been made yet: `python experiments/{experiment.__name__}.py`."


def verdicts(found: dict[ModuleType, list[Record]], quick: bool) -> str:
    """Return the table of all claims and their results."""
    rows, said = [], []
    for experiment, records in found.items():
        name = experiment.__name__
        claim = getattr(experiment, "CLAIM", title(experiment))
        rows.append([claim, f"[{name}.py]({name}.py)", progress(records, experiment.plan(quick))])
        if records and hasattr(experiment, "verdict"):
            said.append(f"- **{title(experiment)}**: {experiment.verdict(records)}.")
    parts = [table(["Claim", "Script", "Done"], rows).replace("---:", "---")]
    return "\n\n".join([*parts, "What came out:", "\n".join(said)] if said else parts)


def text(found: dict[ModuleType, list[Record]], quick: bool = False) -> str:
    """Return the whole page."""
    records = [record for group in found.values() for record in group]
    made_with = sorted({f"sfmts {r['versions']['sfmts']} on PyTorch {r['versions']['torch']}" for r in records})
    hours = sum(record["seconds"] for record in records) / 3600.0
    count = f"{len(records)} runs, {hours:.1f} hours of training on one core"
    count = f"{count}, made with {', '.join(made_with)}." if records else "No run has been made yet."
    parts = [HEAD, count, verdicts(found, quick), *(section(*item) for item in found.items())]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="where the records are")
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="FOLDER", help="where the page is to go")
    parser.add_argument("--quick", action="store_true", help="the records are of quick runs")
    arguments = parser.parse_args()
    found = collect(arguments.results, arguments.quick)
    figures = arguments.output / "figures"
    for experiment, records in found.items():
        if records and hasattr(experiment, "draw"):
            figures.mkdir(parents=True, exist_ok=True)
            experiment.draw(records, figures)
    arguments.output.mkdir(parents=True, exist_ok=True)
    page = arguments.output / "README.md"
    page.write_text(text(found, arguments.quick), encoding="utf-8")
    print(f"wrote {page}, pictures in {figures}")


if __name__ == "__main__":
    main()
