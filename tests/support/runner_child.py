"""The runner of jobs of a controller's folder, in a process of its own that a test kills."""

import sys
import time
from pathlib import Path

from muster_controller.config import Folder, load_settings
from muster_controller.retraining.runner import Runner
from muster_controller.store.engine import open_database

if __name__ == "__main__":
    folder = Folder(Path(sys.argv[1]))
    Runner(open_database(folder.database), folder, load_settings(folder), clock=time.time).work()
