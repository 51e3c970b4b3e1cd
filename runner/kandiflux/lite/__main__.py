"""`python -m kandiflux.lite`: the same as `kandiflux host`."""

import typer

from kandiflux.lite.command import host

typer.run(host)
