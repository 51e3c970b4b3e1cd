"""The parts of converting the editor's format to the API format; `kandiflux.conversion.convert` puts them together."""
