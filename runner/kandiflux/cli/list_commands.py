"""The commands `kandiflux params` and `kandiflux workflows`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kandiflux.cli.common import JsonOption, ObjectInfoOption, WorkflowArgument, reporting
from kandiflux.cli.server_options import Reach, reaching
from kandiflux.cli.terminal import print_json, print_result, print_table

__all__ = ["params", "workflows"]


@reaching
def params(
    workflow: WorkflowArgument,
    reach: Reach,
    object_info: ObjectInfoOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the parameters of a workflow: name, type, current value, range or choices.

    \b
    Examples:
      kandiflux params kandinsky22_pocket_text_to_image
      kandiflux params flux.json --server http://gpu:8188 --json
    """
    from kandiflux.workflow.workflow import Workflow

    with reporting(as_json):
        loaded = Workflow.load(workflow)
        found = loaded.describe(reach.object_info(object_info))
        if as_json:
            listed = [{key: value for key, value in vars(info).items() if value is not None} for info in found]
            presets = {name: dict(values) for name, values in loaded.presets.items()}
            print_json({"parameters": listed, "presets": presets})
            return
        rows = [(info.name, info.type, str(info.value), _bounds(vars(info)), info.description) for info in found]
        print_table(("name", "type", "value", "range", ""), rows)
        for name, values in loaded.presets.items():
            print_result(f"--preset {name}: " + ", ".join(f"{key}={value}" for key, value in values.items()))


def workflows(as_json: JsonOption = False) -> None:
    """List the workflows that come with kandiflux.

    \b
    Example:
      kandiflux workflows
    """
    from kandiflux.workflow.workflow import Workflow, shipped_workflows

    with reporting(as_json):
        shipped = [Workflow.load(path) for path in shipped_workflows().values()]
        if as_json:
            listed = [{"name": found.name, "title": found.title, "description": found.description} for found in shipped]
            print_json(listed)
        else:
            print_table(("name", "title", ""), [(found.name, found.title, found.description) for found in shipped])


def _bounds(info: Mapping[str, Any]) -> str:
    if info["choices"] is not None:
        names = [str(choice) for choice in info["choices"]]
        return ", ".join(names[:6]) + (f", … ({len(names)})" if len(names) > 6 else "")
    low, high = info["min"], info["max"]
    if low is None and high is None:
        return ""
    return f"{'' if low is None else low} … {'' if high is None else high}"
