"""stable-worldmodel's datasets for `wmkit bench data`; run by a Python that has stable-worldmodel 0.1.1.

Requests, in this order (see `serving.serve`):

    describe    takes the settings; versions
    take        reads one episode from `pixels.npy` (L, S, S, 3) and `action.npy` (L, action_size)
    write       writes all episodes with their writers
    open        opens their dataset; the seconds of it
    batches     draws shuffled batches through torch's DataLoader; their seconds, the filling of its queue left out
"""

import importlib
import importlib.metadata
import itertools
import time
from pathlib import Path
from typing import Any

_PACKAGES = ("stable-worldmodel", "torch", "h5py")
_FILES = {"hdf5": "data.h5", "memory": "data.h5", "lance": "data.lance"}


class Side:
    """One set of episodes, in several formats."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.folder = Path()
        self.writers: dict[str, Any] = {}
        self.datasets: dict[str, Any] = {}
        self.running: dict[tuple[str, int], Any] = {}

    def describe(self, folder: str, threads: int, **settings: Any) -> dict[str, Any]:
        """Settings: batch, frames, device."""
        self.settings, self.folder = settings, Path(folder)
        importlib.import_module("stable_worldmodel")
        torch = importlib.import_module("torch")
        torch.set_num_threads(threads)
        if settings["device"] != "cpu" and not torch.cuda.is_available():
            raise ValueError(f"the peer's torch {torch.__version__} sees no CUDA device")
        return {"packages": {name: importlib.metadata.version(name) for name in _PACKAGES}}

    def take(self, formats: list[str]) -> dict[str, Any]:
        """Write one episode in every format."""
        numpy = importlib.import_module("numpy")
        names = ("pixels", "action")
        episode = {name: list(numpy.load(self.folder / f"{name}.npy")) for name in names}
        for file in dict.fromkeys(_FILES[form] for form in formats):
            if file not in self.writers:
                self.writers[file] = _writer(self.folder / file).__enter__()
            self.writers[file].write_episode(episode)
        return {"steps": len(episode["action"])}

    def write(self) -> dict[str, Any]:
        """Close the files."""
        for writer in self.writers.values():
            writer.__exit__(None, None, None)
        return {}

    def open(self, form: str, skip: int) -> dict[str, Any]:
        """Open a dataset, "memory" with all its columns cached."""
        start = time.perf_counter()
        module = importlib.import_module(f"stable_worldmodel.data.formats.{'lance' if form == 'lance' else 'hdf5'}")
        dataset_class = module.LanceDataset if form == "lance" else module.HDF5Dataset
        options: dict[str, Any] = {"frameskip": skip, "num_steps": self.settings["frames"]}
        if form == "memory":
            options["keys_to_cache"] = ["pixels", "action"]
        self.datasets[form] = dataset_class(path=str(self.folder / _FILES[form]), **options)
        return {"seconds": time.perf_counter() - start, "clips": len(self.datasets[form])}

    def batches(self, form: str, workers: int, count: int) -> dict[str, Any]:
        """Draw `count` batches, loaded by so many processes, in its own for 0.

        Processes load ahead while nobody asks. What waits is thrown away first, enough batches are drawn for the rest
        of it to matter little, and the answer comes when the processes should be idle again.
        """
        torch = importlib.import_module("torch")
        if (form, workers) not in self.running:
            self.running[form, workers] = iter(self._loader(torch, form, workers))
        batches, device, ahead = self.running[form, workers], self.settings["device"], 2 * workers
        for _ in itertools.islice(batches, ahead):
            continue
        drawn = max(count, 4 * ahead)
        start = time.perf_counter()
        for batch in itertools.islice(batches, drawn):
            for value in batch.values():
                value.to(device, non_blocking=True)
        if device != "cpu":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        time.sleep(min(2.0, ahead * seconds / drawn))
        return {"seconds": seconds * count / drawn}

    def _loader(self, torch: Any, form: str, workers: int) -> Any:
        """Return an endless loader."""
        data, dataset, settings = torch.utils.data, self.datasets[form], self.settings
        sampler = data.RandomSampler(dataset, replacement=True, num_samples=10**9)
        pin = settings["device"] != "cpu"
        return data.DataLoader(dataset, settings["batch"], sampler=sampler, num_workers=workers, pin_memory=pin)


def _writer(path: Path) -> Any:
    """Return their writer of a file."""
    if path.suffix == ".lance":
        return importlib.import_module("stable_worldmodel.data.formats.lance").LanceWriter(path)
    return importlib.import_module("stable_worldmodel.data.formats.hdf5").HDF5Writer(path)


if __name__ == "__main__":
    from serving import serve

    _side = Side()
    serve({name: getattr(_side, name) for name in ("describe", "take", "write", "open", "batches")})
