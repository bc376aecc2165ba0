"""Lightning's way to share a training among processes, one a GPU, which end together (``vision/together``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from stylematch.vision.array_files import wait_until_kept
from stylematch.vision.together import begin_first, ended_together, follow_first, watch_others


class SharedTraining(DDPStrategy):
    """Each process learns from its share of every batch; arguments as Lightning's own takes them."""

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)


class _Launcher(_SubprocessScriptLauncher):
    def launch(self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any) -> Any:  # noqa: ARG002 (Lightning's name)
        """Do what Lightning's does, under another watch."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if self.cluster_environment.creates_processes_externally:
            follow_first()
        else:
            begin_first()
            wait_until_kept()  # or each would cut all pictures again
            self._call_children_scripts()
            watch_others(self.procs)
        _set_num_threads_if_needed(num_processes=self.num_processes)
        with ended_together():
            return function(*args, **kwargs)
