"""The Kandinsky networks in pure torch, one file per network.

Parameter names are those of the published weights, so state dicts load strictly.
"""
