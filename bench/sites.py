"""nginx with a site of our own choosing, such as the configuration that Aerogram ships."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bench.servers import Place, Server, free_port
from deploy.dev.layout import CHECKOUT

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

SHIPPED = CHECKOUT / "deploy" / "nginx" / "aerogram.conf"
# Around every site the same, and the same as around the static file: what differs is the site.
_MAIN = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
{user}
events {{ worker_connections 1024; }}
http {{
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    include {folder}/site.conf;
}}
"""


class Sites(Place):
    """Where servers run, nginx in front of others among them."""

    def shipped(self, device_plane: Server, public: Path) -> AbstractContextManager[Server]:
        """deploy/nginx with the things changed that it says to change; `public` is what `tree export` wrote."""
        folder, port = self.folder / "shipped", free_port()
        changes = {
            "/srv/aerogram/public": str(public),
            "127.0.0.1:8001": f"127.0.0.1:{device_plane.port}",
            "listen 8080": f"listen 127.0.0.1:{port}",
            "/var/cache/nginx/aerogram": str(folder / "cache"),
            "/var/log/nginx/aerogram.log": str(folder / "access.log"),
        }
        text = SHIPPED.read_text()
        for shipped, ours in changes.items():
            if shipped not in text:
                raise ValueError(f"{SHIPPED.name}: expected {shipped} in it, got a file without")
            text = text.replace(shipped, ours)
        return self.site("nginx, shipped", folder, port, text)

    def site(self, name: str, folder: Path, port: int, text: str) -> AbstractContextManager[Server]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "site.conf").write_text(text)
        # Root's worker would become another user, who cannot look into a private folder.
        user = "user root;" if os.geteuid() == 0 else ""
        settings = folder / "nginx.conf"
        settings.write_text(_MAIN.format(folder=folder, user=user))
        command = ["nginx", "-p", str(folder), "-e", str(folder / "nginx-error.log"), "-c", str(settings)]
        return self.running(name, port, command, {})
