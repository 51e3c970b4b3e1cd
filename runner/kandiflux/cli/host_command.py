"""The command `kandiflux host`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["host"]

_MB = 1024 * 1024


def host(
    listen: Annotated[
        str, typer.Option(help="Address to listen on. Anyone who can reach it can run prompts.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8188,
    models: Annotated[
        list[Path] | None, typer.Option(help="Folder of model folders; may be repeated, the first is preferred.")
    ] = None,
    input: Annotated[Path | None, typer.Option(help="Folder of input images.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder where pictures are saved.")] = None,
    temp: Annotated[Path | None, typer.Option(help="Folder for previews.")] = None,
    editor: Annotated[
        bool, typer.Option(help="Serve ComfyUI's graph editor at the URL; needs the extra `editor` of this package.")
    ] = False,
    user: Annotated[Path | None, typer.Option(help="Folder of the editor's settings and saved workflows.")] = None,
    node_pack: Annotated[list[Path] | None, typer.Option(help="Another node pack; may be repeated.")] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="Another host name of this machine, such as a reverse proxy's; may be repeated."),
    ] = None,
    max_upload_size: Annotated[int, typer.Option(min=1, help="Largest request body in MB.")] = 100,
    exit_with_stdin: Annotated[bool, typer.Option(help="Stop when standard input ends.")] = False,
    cpu: Annotated[bool, typer.Option(help="Do not use a GPU.")] = False,
    quiet: Annotated[bool, typer.Option(help="Log errors only.")] = False,
    verbose: Annotated[bool, typer.Option(help="Log more details.")] = False,
) -> None:
    """Run the lite host: ComfyUI's protocol for this pack and a few image nodes.

    Prints its URL as the only line on standard output once it listens. Folders that are not given
    are in $KANDIFLUX_HOME, else in the user's data folder.

    Requests are accepted for localhost, 127.0.0.1, [::1] and the address of --listen. With --listen 0.0.0.0,
    any IP address and this machine's own name are accepted too. Other names need --allow-host.

    \b
      kandiflux host --port 0 --cpu        on a free port, without the GPU
      kandiflux host --editor              with ComfyUI's graph editor, to open in a browser
    """
    import logging

    from kandiflux.cli.terminal import log_to_stderr
    from kandiflux.lite.process import Settings, launch
    from kandiflux.util.user_folders import home

    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    others = logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
    log_to_stderr(others, "%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kandiflux").setLevel(level)
    launch(
        Settings(
            listen=listen,
            port=port,
            models=models or [home() / "models"],
            input=input or home() / "input",
            output=output or home() / "output",
            temp=temp,
            node_packs=node_pack or [],
            max_upload=max_upload_size * _MB,
            exit_with_stdin=exit_with_stdin,
            cpu=cpu,
            editor=editor,
            user=user or home() / "user",
            host_names=allow_host or [],
        )
    )
