"""Uploading, viewing, loading and saving."""

from __future__ import annotations

import io
import json

import requests
from PIL import Image

from tests.conversations.common import PICTURE, node, png, scenario, show
from tests.support.recorder import Json, Recorder


@scenario
def images_are_uploaded_without_overwriting(client: Recorder) -> None:
    def upload(content: bytes, name: str = "up.png", **form: str) -> requests.Response:
        return client.request("POST", "/upload/image", files={"image": (name, content)}, data=form)

    red, blue = png((255, 0, 0, 255)), png((0, 0, 255, 128))
    assert upload(red).json() == {"name": "up.png", "subfolder": "", "type": "input"}
    assert upload(red).json()["name"] == "up.png"
    assert upload(blue).json()["name"] == "up (1).png"
    assert upload(blue).json()["name"] == "up (1).png"
    assert upload(blue, overwrite="true").json()["name"] == "up.png"
    assert upload(red, subfolder="deep/er").json() == {"name": "up.png", "subfolder": "deep/er", "type": "input"}
    assert upload(red, type="temp").json()["type"] == "temp"
    assert upload(red, name="../out.png").status_code == 400
    assert upload(red, subfolder="../..").status_code == 400
    assert client.request("POST", "/upload/image", files={"other": ("a.png", red)}).status_code == 400


@scenario
def masks_are_laid_over_the_original(client: Recorder) -> None:
    client.quietly("POST", "/upload/image", files={"image": ("plain.png", png((10, 20, 30), mode="RGB"))})
    mask = png((0, 0, 0, 77))
    for subfolder, original in (("masks", "plain.png"), ("nothing", "missing.png")):
        reference = json.dumps({"filename": original, "type": "input"})
        form = {"original_ref": reference, "subfolder": subfolder}
        answer = client.request("POST", "/upload/mask", files={"image": ("masked.png", mask)}, data=form)
        assert answer.json() == {"name": "masked.png", "subfolder": subfolder, "type": "input"}
    picture = client.picture({"filename": "masked.png", "subfolder": "masks", "type": "input"})
    assert picture.getpixel((0, 0)) == (10, 20, 30, 77)
    client.request("GET", "/view?filename=masked.png&subfolder=nothing&type=input")


@scenario
def view_gives_files_and_nothing_outside_the_folders(client: Recorder) -> None:
    client.quietly("POST", "/upload/image", files={"image": ("see.png", png((1, 2, 3, 4)))}, data={"overwrite": "1"})
    statuses = {
        "?filename=see.png&type=input": 200,
        "?filename=see.png [input]": 200,
        "?filename=see.png": 404,
        "?filename=see.png&type=elsewhere": 400,
        "?filename=../input/see.png&type=output": 400,
        "?filename=/etc/hostname&type=input": 400,
        "?filename=see.png&type=input&subfolder=../..": 403,
        "?filename=hostname&type=input&subfolder=/etc": 403,
        "?filename=": 400,
        "": 404,
    }
    for query, status in statuses.items():
        assert client.request("GET", f"/view{query}").status_code == status, query
    for query in ("", "&channel=rgb", "&channel=a", "&preview=webp;80", "&preview=jpeg;50", "&preview=jpeg&channel=a"):
        answer = client.quietly("GET", f"/view?filename=see.png&type=input{query}")
        picture = Image.open(io.BytesIO(answer.content))
        headers = {name: answer.headers[name] for name in ("Content-Type", "Content-Disposition")}
        client.log.append([query, headers, picture.format, picture.mode, picture.size])


@scenario
def pages_are_not_shown_as_pages(client: Recorder) -> None:
    client.quietly("POST", "/upload/image", files={"image": ("page.html", b"<script>")})
    answer = client.quietly("GET", "/view?filename=page.html&type=input")
    assert answer.headers["Content-Type"] == "application/octet-stream"


@scenario
def loaded_images_are_scaled_batched_and_saved_alike(client: Recorder) -> None:
    buffer = io.BytesIO()
    gradient = Image.new("RGBA", (12, 9))
    gradient.putdata([(x * 20, y * 25, (x * y) % 256, 255 - x * 10) for y in range(9) for x in range(12)])
    gradient.save(buffer, "PNG")
    client.request("POST", "/upload/image", files={"image": ("gradient.png", buffer.getvalue())})
    prompt: Json = {"load": node("LoadImage", image="gradient.png")}
    scaled = [("nearest-exact", 7, 5, "disabled"), ("bilinear", 30, 10, "center"), ("area", 6, 0, "disabled")]
    scaled += [("bicubic", 10, 20, "center"), ("lanczos", 0, 18, "disabled")]
    for method, width, height, crop in scaled:
        prompt[method] = node(
            "ImageScale", image=["load", 0], upscale_method=method, width=width, height=height, crop=crop
        )
        batch = node("ImageBatch", image1=["load", 0], image2=[method, 0])
        save = node("SaveImage", images=["batch", 0], filename_prefix=f"scaled/{method}")
        ran = client.run({**prompt, "batch": batch, "save": save})
        for image in ran.history["outputs"]["save"]["images"]:
            client.picture(image)
        del prompt[method]


@scenario
def images_are_composited_alike(client: Recorder) -> None:
    for name, size in (("below.png", (16, 12)), ("above.png", (9, 7)), ("where.png", (5, 4))):
        picture = Image.new("RGB", size)
        places = [(x, y) for y in range(size[1]) for x in range(size[0])]
        values = [((x * 29 + y * 13) % 256, (x * y * 7) % 256, (len(name) * 20 + y * 9) % 256) for x, y in places]
        picture.putdata(values)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        client.quietly("POST", "/upload/image", files={"image": (name, buffer.getvalue())})
    prompt: Json = {
        "below": node("LoadImage", image="below.png"),
        "above": node("LoadImage", image="above.png"),
        "where": node("LoadImageMask", image="where.png", channel="red"),
        "two": node("ImageBatch", image1=["below", 0], image2=["below", 0]),
    }
    for destination, x, y, resized, masked in (
        ("below", 0, 0, False, True),
        ("below", 3, 2, False, False),
        ("two", 11, 9, False, True),
        ("below", 0, 0, True, True),
        ("two", 20, 2, False, False),
    ):
        mask: Json = {"mask": ["where", 0]} if masked else {}
        composite = node(
            "ImageCompositeMasked",
            destination=[destination, 0],
            source=["above", 0],
            x=x,
            y=y,
            resize_source=resized,
            **mask,
        )
        save = node("SaveImage", images=["composite", 0], filename_prefix=f"composite/{destination}{x}")
        ran = client.run({**prompt, "composite": composite, "save": save})
        for image in ran.history["outputs"]["save"]["images"]:
            client.picture(image)


@scenario
def pictures_are_changed_alike(client: Recorder) -> None:
    picture = Image.new("RGB", (24, 20))
    picture.putdata([(x * 10, y * 12, (x * y) % 256) for y in range(20) for x in range(24)])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    client.quietly("POST", "/upload/image", files={"image": ("changed.png", buffer.getvalue())})
    image: Json = {"image": ["load", 0]}
    pad = {"left": 8, "top": 0, "right": 16, "bottom": 8}
    changes: dict[str, Json] = {
        "inverted": node("ImageInvert", **image),
        "smaller": node("ImageScaleBy", **image, upscale_method="lanczos", scale_by=0.55),
        "cropped": node("ImageCrop", **image, width=9, height=50, x=3, y=4),
        "cropped outside": node("ImageCrop", **image, width=9, height=9, x=300, y=400),
        "padded": node("ImagePadForOutpaint", **image, **pad, feathering=7),
        "padded hard": node("ImagePadForOutpaint", **image, **pad, feathering=40),
        "repeated": node("RepeatImageBatch", **image, amount=2),
        "picked": node("ImageFromBatch", image=["repeated", 0], batch_index=7, length=3),
        "flipped": node("ImageFlip", **image, flip_method="x-axis: vertically"),
        "mirrored": node("ImageFlip", **image, flip_method="y-axis: horizontally"),
        "turned": node("ImageRotate", **image, rotation="90 degrees"),
        "turned back": node("ImageRotate", **image, rotation="270 degrees"),
    }
    masks: dict[str, Json] = {
        "solid": node("SolidMask", value=0.25, width=5, height=3),
        "inverted mask": node("InvertMask", mask=["solid", 0]),
        "blue": node("ImageToMask", **image, channel="blue"),
    }
    prompt: Json = {"load": node("LoadImage", image="changed.png"), **changes, **masks}
    shown = [[name, 0] for name in changes] + [[f"{name} shown", 0] for name in (*masks, "edge", "hard edge")]
    for name, source in [
        *((name, [name, 0]) for name in masks),
        ("edge", ["padded", 1]),
        ("hard edge", ["padded hard", 1]),
    ]:
        prompt[f"{name} shown"] = node("MaskToImage", mask=source)
    for number, source in enumerate(shown):
        prompt[f"save {number}"] = node("SaveImage", images=source, filename_prefix=f"changed/{number:02}")
    ran = client.run(prompt)
    assert ran.history["status"]["status_str"] == "success"
    sizes = []
    for number in range(len(shown)):
        sizes += [client.picture(image).size for image in ran.history["outputs"][f"save {number}"]["images"]]
    assert sizes[:5] == [(24, 20), (13, 11), (9, 16), (1, 1), (48, 28)]
    client.log = [entry for entry in client.log if "picture" in entry]


@scenario
def masks_are_loaded_from_each_channel(client: Recorder) -> None:
    client.quietly("POST", "/upload/image", files={"image": ("channels.png", png((51, 102, 153, 204)))})
    client.quietly("POST", "/upload/image", files={"image": ("opaque.png", png((51, 102, 153), mode="RGB"))})
    for name in ("channels.png", "opaque.png"):
        for channel in ("alpha", "red", "green", "blue"):
            ran = client.run({"1": node("LoadImageMask", image=name, channel=channel), "2": show("1", 0)})
            assert ran.history["status"]["status_str"] == "success"
        ran = client.run({"1": node("LoadImage", image=name), "2": show("1", 1)})


@scenario
def a_changed_file_is_loaded_again(client: Recorder) -> None:
    prompt = {
        "1": node("LoadImage", image="changing.png"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="changing/x"),
    }
    for colour, executing in (
        ((1, 1, 1, 255), ["1", "2", None]),
        ((1, 1, 1, 255), [None]),
        ((2, 2, 2, 255), ["1", "2", None]),
    ):
        files = {"image": ("changing.png", png(colour))}
        client.quietly("POST", "/upload/image", files=files, data={"overwrite": "true"})
        ran = client.run(prompt)
        assert ran.executing == executing
        client.picture(ran.history["outputs"]["2"]["images"][0])


@scenario
def files_are_numbered_after_the_last(client: Recorder) -> None:
    names = ["number_00007_.png", "number_x_.png", "numbers_00099_.png", "number.png"]
    for name in names:
        form = {"subfolder": "numbers", "type": "output"}
        client.quietly("POST", "/upload/image", files={"image": (name, png((0, 0, 0, 0)))}, data=form)
    for prefix in ("numbers/number", "numbers/other%batch_num%", "./numbers//number"):
        ran = client.run({"1": PICTURE, "2": node("SaveImage", images=["1", 0], filename_prefix=prefix)})
        client.log.append(ran.history["outputs"]["2"])


@scenario
def saving_outside_the_output_folder_fails(client: Recorder) -> None:
    ran = client.run({"1": PICTURE, "2": node("SaveImage", images=["1", 0], filename_prefix="../../outside")})
    assert ran.history["status"]["status_str"] == "error"
    client.log.clear()  # the two say it in different words
