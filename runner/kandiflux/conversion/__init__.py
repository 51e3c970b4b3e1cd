"""The parts of converting the editor's format to the API format; `kandiflux.convert` puts them together."""
