"""Who may call the API: the same people as the WebUI's own."""

# No annotations as text here: FastAPI cannot resolve them for an object that is called.
import base64
from collections.abc import Callable, Mapping

from fastapi import FastAPI, HTTPException, Request
from fastapi.security import HTTPBasic, HTTPBasicCredentials

from ..facts.plain import text
from ..hosts.common.credentials import Credentials
from ..hosts.common.inside import Forbidden

Login = Callable[[Request], bool]
BASIC = {"WWW-Authenticate": "Basic"}


class Access:
    """HTTP Basic where there are credentials for it, else the gradio `login` where there is one, else open."""

    def __init__(self, credentials: Credentials | None, login: Login | None) -> None:
        self._credentials = credentials
        self._login = login

    def dependency(self) -> Callable[..., object]:
        """What FastAPI is to run before each route; raises HTTPException 401."""
        return _Basic(self._credentials) if self._credentials is not None else self._logged_in

    def _logged_in(self, request: Request) -> None:
        if self._login is not None and not self._login(request):
            raise HTTPException(status_code=401, detail="Not authenticated")


class _Basic(HTTPBasic):
    """FastAPI's HTTP Basic with the WebUI's answers, but for names and passwords in UTF-8."""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__(scheme_name="HTTPBasic")
        self._credentials = credentials

    async def __call__(self, request: Request) -> HTTPBasicCredentials:  # type: ignore[override]
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "basic":
            raise HTTPException(status_code=401, detail="Not authenticated", headers=BASIC)
        try:
            user, colon, password = base64.b64decode(encoded).partition(b":")
        except ValueError:
            colon = b""
        if not colon:
            raise HTTPException(status_code=401, detail="Invalid authentication credentials", headers=BASIC)
        if not self._credentials.have(user, password):
            raise HTTPException(status_code=401, detail="Incorrect username or password", headers=BASIC)
        return HTTPBasicCredentials(username=user.decode("utf-8", "replace"), password="")


def let_through(check: Callable[[Mapping[str, str]], None]) -> Callable[[Request], None]:
    """What FastAPI is to run before each route, of the rules for tab and API alike; answers as they say."""

    def rules(request: Request) -> None:
        try:
            check(request.headers)
        except Forbidden as why:
            raise HTTPException(status_code=why.status, detail=text(why)) from why

    return rules


def gradio_login(app: FastAPI) -> Login | None:
    """Whether a request comes from a logged-in session of this gradio app; None where it has no login."""
    if getattr(app, "auth", None) is None:
        return None

    def logged_in(request: Request) -> bool:
        # gradio 4 adds an id of the app to the names; 3 has none.
        suffix = f"-{app.cookie_id}" if hasattr(app, "cookie_id") else ""
        token = request.cookies.get(f"access-token{suffix}") or request.cookies.get(
            f"access-token-unsecure{suffix}"
        )
        tokens: dict[str, str] = getattr(app, "tokens", {})
        return token is not None and tokens.get(token) is not None

    return logged_in
