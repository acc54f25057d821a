"""
A grid search on a cluster: networks compared through joblib's dask backend
===========================================================================

The task is to tell square waves from sawtooth waves of unequal length.  Each worker of the cluster fits one candidate
on one fold at a time; scikit-learn neither knows nor minds.  The cluster is started here, in two processes of this
machine, or stands elsewhere already.

Run it::

    python examples/cluster_grid_search.py
    python examples/cluster_grid_search.py --scheduler tcp://host:8786

A cluster of several machines is a scheduler and on each machine workers of one thread, as many as it has cores (-1);
the program prints what to set in their environment (ENVIRONMENT below)::

    dask scheduler
    dask worker tcp://host:8786 --nworkers -1 --nthreads 1

One thread for each worker, because fits beside one another use cores better than threads within a fit do.  PyTorch
reads OMP_NUM_THREADS and MKL_NUM_THREADS, which dask, too, sets to 1 in its workers unless they are set already.  All
machines need the same versions of Python, of sfmts and of what it rests on.  Workers are spawned, not forked, so that
those with a GPU can use it.

Fits of a worker that dies are repeated by the others.  For this all workers are given the data at once (``scatter``)
and keep them (``client.amm.stop()``).  By default joblib hands a large array to one worker and dask's memory manager
drops copies of it: if that worker dies, the data and the search are lost.

Needs dask: ``pip install ".[dask]"``.  Takes about half a minute.
"""

# sphinx_gallery_thumbnail_path = "pictures/archive_frequencies.svg"

import argparse

import dask
import numpy as np
from dask.distributed import Client, LocalCluster
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from sfmts import PanelScaler, SFMClassifier
from sfmts.datasets import make_waves

FREQUENCIES = [{"frequencies": name} for name in ("fixed", "adaptive")]
GRIDS = [
    {"model__network": ["sfm"], "model__network_params": FREQUENCIES, "model__n_states": [8, 16]},
    {"model__network": ["lstm", "gru"], "model__n_states": [16]},
]

# By default dask's workers hand freed memory back at once, and a fit spends as long in taking it again as in computing.
# Its profiler, which looks at all threads every 10 ms, costs a small network another third.
ENVIRONMENT = {
    "OMP_NUM_THREADS": 1,
    "MKL_NUM_THREADS": 1,
    "MALLOC_TRIM_THRESHOLD_": 2**27,
    "MALLOC_MMAP_THRESHOLD_": 2**25,
}
CONFIGURATION = {"distributed.nanny.pre-spawn-environ": ENVIRONMENT, "distributed.worker.profile.enabled": False}


def make_data():
    """Return waves seen at 30 to 60 random times, and their classes."""
    X, y = make_waves(150, n_steps=60, random_state=0)
    lengths = np.random.RandomState(0).randint(30, 61, size=len(X))
    return [series[:length] for series, length in zip(X, lengths, strict=True)], y


def search(client):
    """Cross-validate all candidates on the workers, and fit the best one here."""
    X, y = make_data()
    model = SFMClassifier(base=None, pooling="last", max_iter=15, batch_size=32, random_state=0)
    pipeline = Pipeline([("scale", PanelScaler()), ("model", model)])
    folds = StratifiedKFold(n_splits=3, shuffle=True, random_state=0)
    client.amm.stop()
    with parallel_config(backend="dask", client=client, scatter=[X, y]):
        return GridSearchCV(pipeline, GRIDS, cv=folds, n_jobs=-1).fit(X, y)


def print_table(results):
    """Print the candidates, the best one first."""
    print(f"\n{'network':14}  {'states':>6}  {'accuracy':>15}  {'seconds of a fit':>16}")
    for i in np.argsort(results["rank_test_score"], kind="stable"):
        parameters = results["params"][i]
        name = " ".join([parameters["model__network"], *parameters.get("model__network_params", {}).values()])
        accuracy = f"{results['mean_test_score'][i]:.3f} ± {results['std_test_score'][i]:.3f}"
        print(f"{name:14}  {parameters['model__n_states']:6}  {accuracy:>15}  {results['mean_fit_time'][i]:16.2f}")


def main():
    parser = argparse.ArgumentParser(description="A grid search on a dask cluster.")
    parser.add_argument("--scheduler", help="address of a cluster that is there, such as tcp://host:8786")
    parser.add_argument("--workers", type=int, default=2, help="processes of this machine, if there is no --scheduler")
    arguments = parser.parse_args()
    if arguments.scheduler:
        cluster = arguments.scheduler
    else:
        with dask.config.set(CONFIGURATION):
            cluster = LocalCluster(n_workers=arguments.workers, threads_per_worker=1, dashboard_address=":0")
        environment = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
        print("for a real cluster, one thread per worker, run on each machine")
        print(f"  {environment} dask worker tcp://host:8786 --nworkers -1 --nthreads 1")
        print("and here: python examples/cluster_grid_search.py --scheduler tcp://host:8786")
    with Client(cluster) as client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        print(f"{len(workers)} workers of {sorted({worker['nthreads'] for worker in workers.values()})} threads")
        print(f"dashboard: {client.dashboard_link}", flush=True)
        found = search(client)
    if not arguments.scheduler:
        cluster.close()
    print_table(found.cv_results_)


if __name__ == "__main__":  # workers are spawned and import this file
    main()
