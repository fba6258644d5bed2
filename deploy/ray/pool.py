"""Many headless WebUIs behind one address: `serve run pool:app webui="python launch.py --nowebui"`.

Clients speak `/sdapi/v1/*` as with one WebUI. Which WebUI takes a request is Ray Serve's business: model
multiplexing, its queues, its retries. What is ours is the order in which WebUIs are offered to it: those with the
checkpoint on the card, those that keep it, those with its file in the page cache, the others; of equals first those
that have none.
docs/deploying.md tells how to run it.
"""

import json
import os
import random
import shlex
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import defaultdict
from typing import Any

import aiohttp
from pydantic import BaseModel
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from ray.serve.request_router import (
    FIFOMixin,
    MultiplexMixin,
    PendingRequest,
    RequestRouter,
    RunningReplica,
)
from starlette.requests import Request
from starlette.responses import Response

PLACES = CARD, KEPT, _, ANYWHERE = "card", "kept", "page cache", "anywhere"
STATUS, CHECKPOINTS = "/flux-speedup/v1/status", "/flux-speedup/v1/checkpoints"
OPTIONS, IMAGES = "/sdapi/v1/options", ("/sdapi/v1/txt2img", "/sdapi/v1/img2img")
NAME, OVERRIDE = "sd_model_checkpoint", "override_settings"
HANDED_ON = ("authorization", "content-type", "accept")
Answer = tuple[int, str, bytes]


class Arguments(BaseModel):
    """What `serve run pool:app KEY=VALUE ...` takes."""

    webui: str
    """The command that starts one WebUI without a page; `--port` is added."""
    folder: str = "."
    port: int = 7870
    """Of the first WebUI of a machine, for Prometheus; the next ones follow it."""
    replicas: int = 1
    most: int = 0
    """More than `replicas`: Ray Serve adds WebUIs up to so many while requests wait, and takes them away."""
    gpus: float = 1
    """Of Ray's, for each WebUI: 1 for a card or a MIG slice, 0 on a CPU."""
    cpus: float = 1
    waiting: int = 4
    """Requests that one WebUI has at most before others are offered; more: fewer loads and longer waits."""
    start_s: float = 600
    by_model: bool = True
    """False: Ray Serve's default routing, which knows nothing of checkpoints."""


class Nearest(MultiplexMixin, FIFOMixin, RequestRouter):
    """Offers WebUIs to Ray Serve by how far the checkpoint is; of equals it takes the shortest queue."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        if pending_request is None:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True
        name = pending_request.metadata.multiplexed_model_id
        ranks: dict[tuple[int, int], list[RunningReplica]] = defaultdict(list)
        for replica in random.sample(candidate_replicas, len(candidate_replicas)):
            asked_for = replica.multiplexed_model_ids
            where = replica.routing_stats.get(name, ANYWHERE)
            if name in asked_for:
                where = CARD
            elif where == CARD and asked_for:
                where = KEPT  # another one was asked for since, and will have taken its place
            ranks[PLACES.index(where), len(asked_for)].append(replica)
        return [ranks[rank] for rank in sorted(ranks)]


class WebUI:
    """One WebUI in a process of its own. It ends with this replica, and this replica ends with it."""

    def __init__(self, arguments: Arguments) -> None:
        port = arguments.port + serve.get_replica_context().rank.local_rank
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))  # raises OSError where somebody else is there
        self._url = f"http://127.0.0.1:{port}"
        # The kernel ends it with us, however we end: nobody is left behind who holds the card.
        command = ["setpriv", "--pdeathsig", "KILL", *shlex.split(arguments.webui), "--port", str(port)]
        self._process = subprocess.Popen(command, cwd=arguments.folder, stdin=subprocess.DEVNULL)
        self._client: aiohttp.ClientSession | None = None
        until = time.monotonic() + arguments.start_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the WebUI did not come up ({shlex.join(command)}); its words are above")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return bool(urllib.request.urlopen(self._url + STATUS, timeout=10).status)
        except urllib.error.HTTPError as error:
            return error.code == 401  # it is up, and wants a password
        except OSError:
            return False

    async def _asked(self, method: str, path: str, **options: Any) -> Answer:
        if self._client is None:
            self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        try:
            async with self._client.request(method, self._url + path, **options) as answer:
                kind = answer.headers.get("content-type", "application/json")
                return answer.status, kind, await answer.read()
        except aiohttp.ClientConnectionError:
            os._exit(1)  # so does the WebUI; Ray Serve starts another, and whoever waits asks another one

    @serve.multiplexed(max_num_models_per_replica=1)  # type: ignore[untyped-decorator]
    async def _chosen(self, name: str) -> str:
        """Tells Ray Serve which checkpoint comes to the card here; the WebUI itself brings it."""
        return name

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """What the WebUI answers: status, content type, body."""
        if name := serve.get_multiplexed_model_id():
            await self._chosen(name)
        return await self._asked(method, path, headers=headers, data=body)

    async def check_health(self) -> None:
        """For Ray Serve: raises where the WebUI does not answer well."""
        status, _, body = await self._asked("GET", STATUS)
        if status not in (200, 401):
            raise RuntimeError(f"{STATUS} answers {status}: {body[:200]!r}")

    async def record_routing_stats(self) -> dict[str, str]:
        """For Ray Serve: where each checkpoint is, by all its names; without the extension nobody knows."""
        status, _, body = await self._asked("GET", CHECKPOINTS)
        found = json.loads(body) if status == 200 else []
        return {name: one["where"] for one in found if one["where"] != "disk" for name in one["names"]}


class Door:
    """What clients speak to. Options that they set are kept here, and go with every request for images."""

    def __init__(self, webuis: DeploymentHandle, by_model: bool) -> None:
        self._webuis = webuis
        self._by_model = by_model
        self._options: dict[str, Any] = {}

    async def __call__(self, request: Request) -> Response:
        path, body, name = request.url.path, await request.body(), ""
        if request.method != "GET" and not path.startswith("/sdapi/"):
            return _refused(405, "this is asked of one WebUI, not of many")
        if path == OPTIONS:
            return await self._set_or_get(request, body)
        if request.method == "POST" and path in IMAGES:
            try:
                asked = json.loads(body)
                override = {**self._options, **(asked.get(OVERRIDE) or {})}
            except (ValueError, AttributeError, TypeError):
                override = {}  # the WebUI says what is wrong with it
            if override:
                body = json.dumps({**asked, OVERRIDE: override}).encode()
            name = str(override.get(NAME) or "")
        return _response(await self._ask(name, request.method, request, body))

    async def _set_or_get(self, request: Request, body: bytes) -> Response:
        # Nothing is set in a WebUI: that one may end, and others would not know.
        status, kind, found = await self._ask("", "GET", request, b"")
        if status != 200:
            return _response((status, kind, found))
        known = {**json.loads(found), **self._options}
        if request.method != "POST":
            return _response((200, kind, json.dumps(known).encode()))
        try:
            asked = dict(json.loads(body))
        except (ValueError, TypeError):
            return _refused(422, "the body is no JSON object")
        if unknown := [key for key in asked if key not in known]:
            return _refused(422, f"no such options: {', '.join(unknown)}; nothing is set")
        self._options |= asked
        return Response("null", media_type="application/json")

    async def _ask(self, name: str, method: str, request: Request, body: bytes) -> Answer:
        headers = {key: value for key, value in request.headers.items() if key in HANDED_ON}
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        webuis = self._webuis.options(multiplexed_model_id=name if self._by_model else "")
        for again in (False, True):
            try:
                return await webuis.ask.remote(method, path, headers, body)  # type: ignore[no-any-return]
            except RayActorError as error:
                if again:
                    detail = json.dumps({"detail": f"two WebUIs ended over this request ({error})"})
                    return 503, "application/json", detail.encode()
        raise AssertionError


def _refused(status: int, why: str) -> Response:
    return Response(json.dumps({"detail": why}), status, media_type="application/json")


def _response(answer: Answer) -> Response:
    status, kind, body = answer
    return Response(body, status, headers={"content-type": kind})


def app(arguments: Arguments) -> serve.Application:
    """The application, for `serve run` and for `import_path` in a file for `serve deploy`."""
    many: dict[str, Any] = {"num_replicas": arguments.replicas}
    if arguments.most > arguments.replicas:
        least, target = arguments.replicas, max(1, arguments.waiting // 2)
        scaling = {"min_replicas": least, "max_replicas": arguments.most, "target_ongoing_requests": target}
        many = {"num_replicas": "auto", "autoscaling_config": scaling}
    webuis = serve.deployment(WebUI).options(
        **many,
        max_ongoing_requests=arguments.waiting,
        health_check_period_s=5,
        request_router_config=RequestRouterConfig(
            **({"request_router_class": Nearest} if arguments.by_model else {}),
            request_routing_stats_period_s=0.5,
        ),
        ray_actor_options={"num_gpus": arguments.gpus, "num_cpus": arguments.cpus},
    )
    door = serve.deployment(Door).options(max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})
    return door.bind(webuis.bind(arguments), arguments.by_model)
