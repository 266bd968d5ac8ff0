"""JupyterLab behind the port forwarding of a workspace: only pages of this very workspace may speak to its kernels."""

import os
import re

pages = [r"localhost(:[0-9]+)?"]
if name := os.environ.get("CODESPACE_NAME"):
    domain = os.environ.get("GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN", "app.github.dev")
    pages.append(re.escape(f"{name}-8888.{domain}"))

c = get_config()  # noqa: F821 - Jupyter gives it to this file
c.ServerApp.open_browser = False
c.ServerApp.allow_remote_access = True
c.ServerApp.allow_origin_pat = f"https://({'|'.join(pages)})$"
