"""What a host must do, as conversations with it. Each runs on the lite host and on ComfyUI.

A conversation asserts what matters and leaves all that was said in the recorder's log; tests/host
also compares the two logs.
"""

from tests.conversations import failing, files, running, serving
from tests.conversations.common import SCENARIOS, Scenario, forget

__all__ = ["SCENARIOS", "Scenario", "failing", "files", "forget", "running", "serving"]
