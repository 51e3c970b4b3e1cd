"""Group nodes: what the editor derives from a definition, and where the values and links of a use of it go."""

from __future__ import annotations

from typing import Any

import pytest
from kandiflux.errors import ConversionError, WorkflowError
from kandiflux.workflow.editor_format.convert import convert

from tests.support.conversion_cases import OBJECT_INFO, file, node

INFO = {
    **OBJECT_INFO,
    "Sized": {"input": {"required": {"seed": ["INT"], "size": ["INT", {"default": 9}]}}, "output": ["IMAGE"]},
}
MASK_AND_IMAGE = [["mask", "MASK", None], ["image", "IMAGE", None]]


def group(nodes: list[Any], links: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"nodes": nodes, "links": links or [], "external": [], **more}


def blur(**more: Any) -> dict[str, Any]:
    return node(0, "Blur", [1], MASK_AND_IMAGE, [["IMAGE"]], **more)


def image(*inputs: Any, **more: Any) -> dict[str, Any]:
    return node(0, "EmptyImage", [1, 2], list(inputs), [["IMAGE"]], **more)


def expanded(
    definition: Any, values: Any = (), inputs: list[Any] | None = None, outer: list[Any] | None = None,
    links: list[Any] | None = None, **more: Any
) -> dict[str, Any]:  # fmt: skip
    """{id: inputs} of a file with one use, 5, of the definition; `outer` are nodes beside it."""
    use = node(5, "workflow>g", list(values) if isinstance(values, tuple) else values, inputs or [], [], **more)
    prompt = convert(file([*(outer or []), use], links or [], extra={"groupNodes": {"g": definition}}), INFO).prompt
    return {node_id: about["inputs"] for node_id, about in prompt.items()}


# Names: a node's title or type comes before a name that was taken, and from the third on a number after that.


@pytest.mark.parametrize(
    ("titles", "name", "fed"),
    [
        ([None] * 4, "image", "5:0"),
        ([None] * 4, "Blur image", "5:1"),
        ([None] * 4, "Blur 2 image", "5:2"),
        ([None] * 4, "Blur 3 image", "5:3"),
        ([None] * 4, "Blur 4 image", None),
        ([None, "Soft", "Soft", None], "Soft image", "5:1"),
        ([None, "Soft", "Soft", None], "Soft 2 image", "5:2"),
        ([None, "Soft", "Soft", None], "Blur image", "5:3"),
    ],
)
def test_the_names_of_inputs_that_several_inner_nodes_have(
    titles: list[str | None], name: str, fed: str | None
) -> None:
    definition = group([blur(title=title) for title in titles])
    made = expanded(definition, (1, 2, 3, 4), [[name, "IMAGE", 7]], [image() | {"id": 1}], [[7, 1, 0, 5, 0, "IMAGE"]])
    assert {key: about["image"] for key, about in made.items() if "image" in about} == ({fed: ["1", 0]} if fed else {})
    assert [made[f"5:{number}"]["radius"] for number in range(4)] == [1, 2, 3, 4]


def test_a_label_and_a_name_from_the_configuration_are_the_names() -> None:
    labelled = blur()
    labelled["inputs"] = [dict(one, label="Paper") if one["name"] == "image" else one for one in labelled["inputs"]]
    definition = group([labelled, blur()], config={"1": {"input": {"image": {"name": "Ink"}}}})
    inputs = [["Ink", "IMAGE", 7], ["Paper", "IMAGE", 8], ["image", "IMAGE", 9]]
    outer = [image() | {"id": 1}, image() | {"id": 2}]
    links = [[7, 1, 0, 5, 0, "IMAGE"], [8, 2, 0, 5, 1, "IMAGE"], [9, 1, 0, 5, 2, "IMAGE"]]
    made = expanded(definition, (3, 4), inputs, outer, links)
    assert (made["5:0"]["image"], made["5:1"]["image"]) == (["2", 0], ["1", 0])


def test_an_input_that_is_hidden_keeps_its_name_taken() -> None:
    definition = group([blur(), blur()], config={"0": {"input": {"image": {"visible": False}}}})
    outer, links = [image() | {"id": 1}], [[7, 1, 0, 5, 0, "IMAGE"]]
    hidden = expanded(definition, (3, 4), [["image", "IMAGE", 7]], outer, links)
    assert "image" not in hidden["5:0"] | hidden["5:1"]
    shown = expanded(definition, (3, 4), [["Blur image", "IMAGE", 7]], outer, links)
    assert (shown["5:1"]["image"], "image" in shown["5:0"]) == (["1", 0], False)


def test_inner_nodes_that_list_no_inputs_are_fed_each_by_its_own() -> None:
    bare = node(0, "Blur", [1], [], [["IMAGE"]])
    inputs = [["image", "IMAGE", 7], ["Blur image", "IMAGE", 8]]
    outer = [image() | {"id": 1}, image() | {"id": 2}]
    links = [[7, 1, 0, 5, 0, "IMAGE"], [8, 2, 0, 5, 1, "IMAGE"]]
    made = expanded(group([bare, bare, image()]), (3, 4, 5, 6), inputs, outer, links)
    assert (made["5:0"]["image"], made["5:1"]["image"]) == (["1", 0], ["2", 0])
    assert made["5:2"] == {"width": 5, "height": 6}


# Values


@pytest.mark.parametrize(
    ("values", "first", "second"),
    [
        ((11, "fixed", 12, 21, "fixed", 22), (11, 12), (21, 22)),
        ((11, "fixed", 12), (11, 12), (7, 8)),
        ((), (3, 4), (7, 8)),
        ({"seed": 11, "Sized size": 22}, (11, 4), (7, 22)),
    ],
)
def test_values_belong_to_the_inner_widgets_one_node_after_another(values: Any, first: Any, second: Any) -> None:
    inner = [node(0, "Sized", [3, "fixed", 4]), node(0, "Sized", [7, "fixed", 8])]
    made = expanded(group(inner), values)
    sent = [(made[key]["seed"], made[key]["size"]) for key in ("5:0", "5:1")]
    assert sent == [first, second]


def test_widgets_that_were_made_inputs_come_last() -> None:
    inner = [image(["width", "INT", None, True]), node(0, "Sized", [3, "fixed", 4])]
    made = expanded(group(inner), (20, 11, "fixed", 12, 10), [["width", "INT", None, True]])
    assert (made["5:0"], made["5:1"]) == ({"width": 10, "height": 20}, {"seed": 11, "size": 12})


def test_a_widget_that_an_inner_link_feeds_is_not_shown() -> None:
    inner = [node(0, "PrimitiveInt", [3, "fixed"], [], [["INT"]]), image(["width", "INT", None, True])]
    made = expanded(group(inner, [[0, 0, 1, 0, 4, "INT"]]), (30, "fixed", 20, 99))
    assert (made["5:0"], made["5:1"]) == ({"value": 30}, {"width": ["5:0", 0], "height": 20})


def test_an_inner_class_that_nobody_knows_keeps_what_the_file_says() -> None:
    riddle = node(0, "Riddle", ["x"], [["name", "STRING", None, True]], [["INT"]])
    made = expanded(group([riddle, image(["width", "INT", None, True])], [[0, 0, 1, 0, 4, "INT"]]), (8,))
    assert made == {"5:0": {"name": "x"}, "5:1": {"width": ["5:0", 0], "height": 8}}


@pytest.mark.parametrize(("title", "values"), [("side", (30, "fixed", 40)), (None, (30, "fixed", 40)), (None, ())])
def test_a_primitive_inside_has_the_widget_of_what_it_feeds(title: str | None, values: tuple[Any, ...]) -> None:
    inner = [node(0, "PrimitiveNode", [3, "fixed"], [], [["INT"]], title=title), image(["width", "INT", None, True])]
    made = expanded(group(inner, [[0, 0, 1, 0, 4, "INT"]]), values)
    assert made == {"5:1": {"width": 30, "height": 40} if values else {"width": 3, "height": 2}}


def test_a_primitive_that_feeds_nothing_shows_nothing() -> None:
    inner = [node(0, "PrimitiveNode", [3, "fixed"], [], [["INT"]]), image()]
    assert expanded(group(inner), (30, 40)) == {"5:1": {"width": 30, "height": 40}}


# Outputs


@pytest.mark.parametrize(
    ("external", "config", "sources"),
    [
        # An output that feeds an inner node is hidden, unless it is used outside, too.
        ([], {}, {0: "5:1", 1: None}),
        ([[0, 0, "IMAGE"]], {}, {0: "5:0", 1: "5:1", 2: None}),
        ([[0, 0]], {}, {0: "5:0", 1: "5:1"}),
        ([[0, 1, "IMAGE"], [1, 0, "IMAGE"], ["0", 0], 5, [0]], {}, {0: "5:1", 1: None}),
        ([], {"0": {"output": {"0": {"visible": True}}}}, {0: "5:0", 1: "5:1"}),
        ([[0, 0, "IMAGE"]], {"0": {"output": {"0": {"visible": False}}}}, {0: "5:1", 1: None}),
        ([], {"1": {"output": {"0": {"visible": False}}}}, {0: None}),
        ([], 5, {0: "5:1"}),
    ],
)
def test_the_outputs_that_a_group_node_shows(external: list[Any], config: Any, sources: dict[int, str | None]) -> None:
    definition = group([image(), blur()], [[0, 0, 1, 1, 4, "IMAGE"]], external=external, config=config)
    for number, source in sources.items():
        save = node(9, "SaveImage", ["x"], [["images", "IMAGE", 3]])
        made = expanded(definition, (1, 2, 3), [], [save], [[3, 5, number, 9, 0, "IMAGE"]])
        assert made["9"].get("images") == (None if source is None else [source, 0])
        assert made["5:1"]["image"] == ["5:0", 0]


def test_links_to_what_is_not_there_are_left_out() -> None:
    wires = [[0, 0, 7, 0, 4, "IMAGE"], [-1, 0, 1, 1, 4, "IMAGE"], [None, 0, 1, 1, 4, "IMAGE"], [0, "x", 1, 1, 4]]
    assert "image" not in expanded(group([image(), blur()], [*wires, [2, 0, 1, 1, 4]]), (1, 2, 3))["5:1"]
    assert expanded(group([image(), blur()], [[0, 0, 1, 1]]), (1, 2, 3))["5:1"]["image"] == ["5:0", 0]


@pytest.mark.parametrize("broken", [5, [0, 0, 1], None])
def test_a_link_in_a_group_that_cannot_be_read(broken: Any) -> None:
    with pytest.raises(WorkflowError, match="A link in a group node is malformed"):
        expanded(group([image()], [broken]))


@pytest.mark.parametrize("broken", [5, {}, {"nodes": 5}])
def test_a_definition_that_cannot_be_read(broken: Any) -> None:
    with pytest.raises(WorkflowError, match="The group node 'g' has no readable definition") as caught:
        expanded(broken)
    assert caught.value.got == repr(broken)


# Reroutes


@pytest.mark.parametrize(
    ("links", "external", "name"),
    [
        ([[0, 0, 1, 1, 4, "IMAGE"]], [], "IMAGE"),  # named after what it feeds
        ([], [], "*"),
        ([], [[0, 0, "LATENT"]], "LATENT"),
        ([[2, 0, 0, 0, 4, "IMAGE"]], [], None),
    ],
)
def test_the_name_of_what_goes_into_a_reroute(links: list[Any], external: list[Any], name: str | None) -> None:
    inner = [node(0, "Reroute", None, [["", "*", None]], [["*"]]), blur(), image()]
    outer = [image() | {"id": 1}, node(9, "SaveImage", ["x"], [["images", "IMAGE", 3]])]
    for given in ("IMAGE", "*", "LATENT", ""):
        use = [[given, "IMAGE", 7]]
        made = expanded(
            group(inner, links, external=external), (1, 2, 3), use, outer,
            [[7, 1, 0, 5, 0, "IMAGE"], [3, 5, 0, 9, 0, "IMAGE"]],
        )  # fmt: skip
        behind = made["5:1"].get("image") if links and links[0][2] == 1 else made["9"].get("images")
        expected = ["5:2", 0] if name is None else ["1", 0] if given == name else None
        assert behind == expected, given


# Uses


def test_the_inner_nodes_stand_in_the_place_of_the_use() -> None:
    nodes = [
        node(8, "workflow>g", [1, 2, 3, 4], order=2), node(7, "workflow/g", [5, 6, 7, 8], order=1),
        image() | {"id": 9, "order": 1.2},
    ]  # fmt: skip
    conversion = convert(file(nodes, extra={"groupNodes": {"g": group([image(title="Mine"), image()])}}), INFO)
    assert list(conversion.prompt) == ["9", "7:0", "7:1", "8:0", "8:1"]
    assert conversion.prompt["7:0"]["_meta"] == {"title": "Mine"}
    assert conversion.prompt["7:1"]["inputs"] == {"width": 7, "height": 8}


def nest(depth: int) -> dict[str, Any]:
    groups: dict[str, Any] = {f"g{level}": group([node(0, f"workflow>g{level + 1}")]) for level in range(depth)}
    groups[f"g{depth}"] = group([image()])
    return {"groupNodes": groups}


def test_group_nodes_in_group_nodes() -> None:
    assert list(convert(file([node(5, "workflow>g0")], extra=nest(2)), INFO).prompt) == ["5:0:0:0"]
    assert len(convert(file([node(5, "workflow>g0")], extra=nest(18)), INFO).prompt) == 1
    with pytest.raises(ConversionError, match="contain each other in a cycle") as caught:
        convert(file([node(5, "workflow>g0")], extra=nest(20)), INFO)
    assert str(caught.value.got).startswith("g0, g1, ")


@pytest.mark.parametrize(("mode", "sent"), [(0, True), (2, False), (4, False), (1, True)])
def test_a_group_node_that_does_not_run_is_not_expanded(mode: int, sent: bool) -> None:
    assert bool(expanded(group([image()]), (1, 2), mode=mode)) is sent


def test_an_inner_node_need_not_list_its_inputs() -> None:
    inner = [node(0, "Blur", [1], [], [["IMAGE"]]), node(0, "Blur", [1], [["mask", "MASK", None]], [["IMAGE"]])]
    listed = [["mask", "MASK", None], ["image", "IMAGE", 7], ["Blur mask", "MASK", None], ["Blur image", "IMAGE", 7]]
    made = expanded(group(inner), (3, 4), listed, [image() | {"id": 1}], [[7, 1, 0, 5, 1, "IMAGE"]])
    assert made["5:0"] == {"radius": 3, "image": ["1", 0]}
    assert made["5:1"] == {"radius": 4, "image": ["1", 0]}


@pytest.mark.parametrize(("kind", "sent"), [(["INT"], 30), (["IMAGE"], 3), ([], 3)])
def test_a_primitive_inside_that_feeds_a_class_nobody_knows_goes_by_its_link(kind: list[str], sent: int) -> None:
    inner = [node(0, "PrimitiveNode", [3], [], [["INT"]]), node(0, "Riddle", [7], [["n", "INT", None, True]])]
    made = expanded(group(inner, [[0, 0, 1, 0, 4, *kind]]), (30, "fixed"))
    assert made == {"5:1": {"n": sent}}


def test_a_widget_that_an_inner_class_has_gained_moves_no_value() -> None:
    # As in an official example: the inner node lists its widgets as inputs, and `style` came later.
    info = {
        "Guide": {
            "input": {"required": {"cfg": ["FLOAT"], "style": [["regular", "nested"], {"default": "regular"}]}},
            "output": ["GUIDER"],
        },
        "Sized": {"input": {"required": {"seed": ["INT"], "mode": [["fast", "good"]]}}, "output": ["IMAGE"]},
    }
    listed = [["seed", "INT", None, True], ["mode", "COMBO", None, True]]
    inner = [node(0, "Sized", [1, "fixed", "fast"], listed), node(0, "Guide", [2.0], [["cfg", "FLOAT", None, True]])]
    group_node = {"nodes": inner, "links": [], "external": []}
    use = node(5, "workflow>Both", [850933585641497, "randomize", "good", 5.0])
    conversion = convert(file([use], extra={"groupNodes": {"Both": group_node}}), info)
    assert conversion.prompt["5:0"]["inputs"] == {"seed": 850933585641497, "mode": "good"}
    assert conversion.prompt["5:1"]["inputs"] == {"cfg": 5.0, "style": "regular"}
    assert conversion.notes == ["Nothing runs: no node that runs saves or shows a result."]
