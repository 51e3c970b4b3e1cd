"""The commands `kandiflux params` and `kandiflux workflows`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kandiflux.cli.common import JsonOption, ObjectInfoOption, WorkflowArgument, reporting
from kandiflux.cli.server_options import Reach, reaching
from kandiflux.cli.terminal import print_json, print_message, print_result, print_table
from kandiflux.errors import ServerUnreachable

__all__ = ["params", "workflows"]


@reaching
def params(
    workflow: WorkflowArgument,
    reach: Reach,
    object_info: ObjectInfoOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what can be set: name, type, current value, range or choices.

    Lists the parameters that the workflow names. If it names none: the widgets
    of its subgraphs, the inputs of all nodes, and the inputs that App Mode
    shows. Values of nodes that the server lacks are taken from the file where
    it has their names; the number of other such nodes goes to standard error.
    If there is no server, all is taken from the file.

    \b
    Examples:
      kandiflux params kandinsky22_pocket_text_to_image
      kandiflux params flux.json --server http://gpu:8188 --json
    """
    from kandiflux.workflow.workflow import Workflow

    with reporting(as_json):
        loaded = Workflow.load(workflow)
        try:
            info = reach.object_info(object_info)
        except ServerUnreachable as error:
            print_message(f"{error.message} What follows is from the file alone: without types, ranges and choices.")
            info = dict[str, Any]()
        found, undescribed = loaded.describe(info), loaded.undescribed(info)
        if as_json:
            listed = [{key: value for key, value in vars(info).items() if value is not None} for info in found]
            presets = {name: dict(values) for name, values in loaded.presets.items()}
            left_out = {"left_out": undescribed} if undescribed else {}
            print_json({"parameters": listed, "presets": presets, **left_out})
            return
        rows = [(info.name, info.type, str(info.value), _bounds(vars(info)), info.description) for info in found]
        print_table(("name", "type", "value", "range", ""), rows)
        if undescribed:
            count = sum(map(len, undescribed.values()))
            print_message(f"Left out: {count} node(s) of unknown classes: {', '.join(sorted(undescribed))}.")
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
