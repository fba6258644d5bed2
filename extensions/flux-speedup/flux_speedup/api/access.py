"""Who may call the API: the same people as the WebUI's own."""

# No annotations as text here: FastAPI cannot resolve them for an object that is called.
import base64
import secrets
from collections.abc import Callable

from fastapi import FastAPI, HTTPException, Request
from fastapi.security import HTTPBasic, HTTPBasicCredentials

Login = Callable[[Request], bool]
BASIC = {"WWW-Authenticate": "Basic"}


class Access:
    """HTTP Basic where `api_auth` is set, else the gradio `login` where there is one, else open.

    api_auth: the WebUI's own text, "user:password,user2:password2"; a password may hold ":". An entry without
    ":" lets nobody in.
    """

    def __init__(self, api_auth: str | None, login: Login | None) -> None:
        self._passwords = _passwords(api_auth) if api_auth else None
        self._login = login

    def dependency(self) -> Callable[..., object]:
        """What FastAPI is to run before each route; raises HTTPException 401."""
        return _Basic(self._passwords) if self._passwords is not None else self._logged_in

    def _logged_in(self, request: Request) -> None:
        if self._login is not None and not self._login(request):
            raise HTTPException(status_code=401, detail="Not authenticated")


class _Basic(HTTPBasic):
    """FastAPI's HTTP Basic with the WebUI's answers, but for names and passwords in UTF-8."""

    def __init__(self, passwords: dict[bytes, bytes]) -> None:
        super().__init__(scheme_name="HTTPBasic")
        self._passwords = passwords

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
        if not _known(self._passwords, user, password):
            raise HTTPException(status_code=401, detail="Incorrect username or password", headers=BASIC)
        return HTTPBasicCredentials(username=user.decode("utf-8", "replace"), password="")


def _passwords(api_auth: str) -> dict[bytes, bytes]:
    pairs = (entry.partition(":") for entry in api_auth.split(","))
    return {_bytes(user): _bytes(password) for user, colon, password in pairs if colon}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _known(passwords: dict[bytes, bytes], user: bytes, password: bytes) -> bool:
    # Every pair is compared, whatever came before: the time must not tell which names exist.
    found = False
    for known_user, known_password in passwords.items():
        same_user = secrets.compare_digest(user, known_user)
        same_password = secrets.compare_digest(password, known_password)
        found |= same_user and same_password
    return found


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
