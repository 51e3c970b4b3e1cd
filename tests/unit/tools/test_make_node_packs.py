"""The list of node classes and their repositories is made from ComfyUI-Manager's."""

from __future__ import annotations

from make_node_packs import node_packs


def test_repositories_by_stars_comfyui_first() -> None:
    node_map = {
        "https://github.com/a/few": [["X", "W", "X", 5], {"nodename_pattern": " \\(few\\)$"}],
        "https://github.com/a/many.git/": [["X"], {"nodename_pattern": "Anywhere"}],
        "https://github.com/a/none": [[], {"nodename_pattern": "^None"}],
        "https://github.com/comfyanonymous/ComfyUI": [["KSampler"], {}],
        "https://gist.github.com/a/5": [["Y"], {}],
    }
    packs, patterns = node_packs(node_map, {"https://github.com/a/many.git/": {"stars": 9}})
    assert list(packs.items()) == [("comfy-core", ["KSampler"]), ("a/many", ["X"]), ("a/few", ["W", "X"])]
    assert patterns == {" \\(few\\)$": "a/few", "^None": "a/none"}
