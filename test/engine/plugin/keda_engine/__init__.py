"""What makes vLLM's CPU build behave like a GPU behind KAITO's inference server.

It is put on the path of an engine's processes, not installed: a change of it needs
no new environment. steps.py emulates a GPU's step time, guard.py answers 429.
"""
