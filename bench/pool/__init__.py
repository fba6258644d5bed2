"""Many embedded WebUIs behind Ray Serve (deploy/ray). Runs in the environment of requirements/serve.txt."""
