"""What the pocket weights are made of and measured by: drawn scenes, captions, a tokenizer and a judge.

Nothing is imported here, so that the judge can be used without torch and the captions without numpy.
"""
