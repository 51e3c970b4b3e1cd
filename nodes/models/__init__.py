"""The Kandinsky networks: pure torch, one file a network, no import of any host.

Parameter names are those of the published weights, so a state dict loads strictly and unchanged.
"""
