"""Write the pages docs/experiments/*.md and the figures of the experiments from their results, and from nothing else.

    python experiments/report.py
    python experiments/report.py --results FOLDER --output FOLDER --quick

Each script has `CLAIMS`, short sentences in Markdown with the names of their pages; `outcomes(records)`, what was
measured about each of them and its verdict, for the table of the first page; and `report(records)`, its own page, or
`pages(records)`, several of them by name.  A script may have `draw(records, folder)`, which writes pictures.
`REPORTS_NOTHING` says that `report` is to be asked even if there are no records.
"""

import argparse
import importlib
import re
from pathlib import Path
from types import ModuleType

from _runs import NO_RUNS, RESULTS, Outcome, Record, load, of_plan, progress, table

FOLDER = Path(__file__).parent
SECTIONS = ("waves", "music", "timit", "settings", "mechanism", "frequencies", "rivals")
PAGES, FIGURES = "docs/experiments", "experiments/figures"
INDEX = "index"

NOTE = "<!-- Written by `python experiments/report.py`: change the scripts or their results, not this file. -->"

METHOD = """## How these numbers were made

`python experiments/NAME.py` makes the missing runs of a script, and `python experiments/report.py` writes these pages
from the recorded runs in `experiments/results` (`experiments/README.md` says how).  Numbers after ± are standard
deviations over seeds; numbers in parentheses say how many seeds.  Verdicts are computed from the runs: "in part" means
that a claim held on some of the tasks or measures on which it was tested."""


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


def pages(experiment: ModuleType, records: list[Record]) -> dict[str, str]:
    """Return a script's pages on its records, by name."""
    name = experiment.__name__
    if not records and not getattr(experiment, "REPORTS_NOTHING", False):
        return {name: f"# {title(experiment)}\n\nNo run has been made yet: `python experiments/{name}.py`."}
    return experiment.pages(records) if hasattr(experiment, "pages") else {name: experiment.report(records)}


def outcomes(experiment: ModuleType, records: list[Record]) -> list[Outcome]:
    """Return what became of each claim of a script."""
    asked = records or getattr(experiment, "REPORTS_NOTHING", False)
    return experiment.outcomes(records) if asked else [NO_RUNS] * len(experiment.CLAIMS)


def index(found: dict[ModuleType, list[Record]], quick: bool) -> str:
    """Return the first page: a line for each claim, and one for each page."""
    records = [record for group in found.values() for record in group]
    made_with = sorted({f"sfmts {r['versions']['sfmts']} on PyTorch {r['versions']['torch']}" for r in records})
    hours = sum(record["seconds"] for record in records) / 3600.0
    count = f"{len(records)} runs, {hours:.1f} hours of training on one core"
    count = f"{count}, made with {', '.join(made_with)}." if records else "No run has been made yet."
    claims, contents = [], []
    for experiment, own in found.items():
        name = experiment.__name__
        written = pages(experiment, own)
        for (claim, page), outcome in zip(experiment.CLAIMS.items(), outcomes(experiment, own), strict=True):
            page = page if page in written else name
            claims.append([f"[{claim}](PAGE:{page})", outcome.measured, f"**{outcome.verdict}**"])
        links = ", ".join(f"[{page_title(text)}](PAGE:{page})" for page, text in written.items())
        contents.append(f"- {links}: [{name}.py]({name}.py), {progress(own, experiment.plan(quick))}")
    return "\n\n".join(
        [
            "# Experiments: the paper's claims",
            'The claims of H. Hu and G.-J. Qi, "State-Frequency Memory Recurrent Neural Networks" (ICML 2017), and two '
            "of our own.  Each claim links to its page.",
            table(["Claim", "Measured", "Verdict"], claims).replace("---:", "---"),
            f"## Pages\n\n{count}",
            "\n".join(contents),
            METHOD,
        ]
    )


def page_title(text: str) -> str:
    """Return the heading of a page."""
    return text.partition("\n")[0].removeprefix("# ")


def linked(text: str) -> str:
    """Return a page with links that start in the folder of the pages; names of pages are neighbours."""
    text = re.sub(r"\]\((?!\w+:|#|\w+\.md\))", "](../../experiments/", text.strip())
    return re.sub(r"\]\(PAGE:(\w+)\)", r"](\1.md)", text)


def texts(found: dict[ModuleType, list[Record]], quick: bool = False) -> dict[str, str]:
    """Return all pages by name."""
    result = {INDEX: index(found, quick)}
    for experiment, records in found.items():
        result |= pages(experiment, records)
    return {name: f"{NOTE}\n{linked(text)}\n" for name, text in result.items()}


def main() -> None:
    """Write the pages and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="where the records are")
    parser.add_argument(
        "--output", type=Path, default=FOLDER.parent, metavar="FOLDER", help=f"where to write {PAGES} and {FIGURES}"
    )
    parser.add_argument("--quick", action="store_true", help="the records are of quick runs")
    arguments = parser.parse_args()
    found = collect(arguments.results, arguments.quick)
    folder, figures = arguments.output / PAGES, arguments.output / FIGURES
    for experiment, records in found.items():
        if records and hasattr(experiment, "draw"):
            figures.mkdir(parents=True, exist_ok=True)
            experiment.draw(records, figures)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts(found, arguments.quick).items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    print(f"wrote {folder}, pictures in {figures}")


if __name__ == "__main__":
    main()
