"""The OpenID Connect provider: where a login is asked for, and whom its answer names.

Authorization code with PKCE, state and nonce. Source: OpenID Connect Core 1.0, 3.1; RFC 7636.
"""

import threading
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from joserfc import errors as jose
from joserfc import jwt
from joserfc.jwk import KeySet

from datamgr.config_web import OidcSettings
from datamgr.errors import ForbiddenError, InvalidError, UnavailableError

TIMEOUT_S = 10.0
METADATA_S = 3600.0
LEEWAY_S = 60
# Signatures by a key that only the provider has; `none` and shared secrets are not among them.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class Provider:
    """The provider that is configured; safe to use from threads."""

    def __init__(self, section: OidcSettings) -> None:
        """Nothing is asked of the provider before somebody logs in.

        Raises:
            InvalidError: it is not configured, or would be asked without TLS.
        """
        if section.issuer is None or not section.client_id:
            raise InvalidError("web.login is oidc, which needs oidc.issuer and oidc.client_id")
        _require_tls(section.issuer)
        self.issuer = section.issuer
        self._section = section
        self._metadata: dict[str, Any] = {}
        self._read_at = 0.0
        self._mutex = threading.Lock()

    def authorization_url(self, callback: str, state: str, nonce: str, verifier: str) -> str:
        """Where to send a browser that is to come back to `callback`.

        Raises:
            UnavailableError: the provider does not answer.
        """
        with self._client(callback) as client:
            url, _ = client.create_authorization_url(
                self._endpoint("authorization_endpoint"),
                state=state,
                nonce=nonce,
                code_verifier=verifier,
                **self._section.parameters,
            )
        return str(url)

    def login(
        self, code: str, verifier: str, nonce: str, issuer: str, callback: str
    ) -> tuple[str, str]:
        """Whom the provider logged in: its name for them, which never changes; and its ID token.

        `issuer`: what came back with the code, if anything. Source: RFC 9207.

        Raises:
            ForbiddenError: the answer is not the provider's to this question.
            UnavailableError: the provider does not answer.
        """
        if issuer and issuer != self.issuer:
            raise ForbiddenError("another provider answered; log in again")
        endpoint = self._endpoint("token_endpoint")
        try:
            with self._client(callback) as client:
                token = client.fetch_token(
                    endpoint, code=code, code_verifier=verifier, timeout=TIMEOUT_S
                )
        except AuthlibBaseError as error:
            raise ForbiddenError("the provider takes its own code no more; log in again") from error
        except (requests.RequestException, ValueError) as error:
            raise _away(self.issuer) from error
        id_token = str(token.get("id_token", ""))
        client_id = self._section.client_id
        return verified_subject(id_token, self._keys(), self.issuer, client_id, nonce), id_token

    def logout_url(self, id_token: str, back: str) -> str | None:
        """Where a browser ends the login at the provider, and is sent to `back`; None for nowhere.

        Source: OpenID Connect RP-Initiated Logout 1.0, 2.
        """
        if not self._section.logout:
            return None
        try:
            address = self._endpoint("end_session_endpoint")
        except UnavailableError:  # it has none, or is away: who logs out here is logged out here
            return None
        told = {
            "id_token_hint": id_token,
            "client_id": self._section.client_id,
            "post_logout_redirect_uri": back,
        }
        return address + ("&" if urlsplit(address).query else "?") + urlencode(told)

    def _client(self, callback: str) -> OAuth2Session:
        secret = self._section.client_secret
        return OAuth2Session(
            self._section.client_id,
            None if secret is None else secret.get_secret_value(),
            token_endpoint_auth_method="none" if secret is None else "client_secret_basic",
            scope=" ".join(self._section.scopes),
            redirect_uri=callback,
            code_challenge_method="S256",
        )

    def _endpoint(self, name: str) -> str:
        """An address of the provider, from what it says about itself.

        Raises:
            UnavailableError: it does not answer, or not as it is configured.
        """
        with self._mutex:
            if time.monotonic() - self._read_at > METADATA_S or not self._metadata:
                place = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
                found = _get_json(place, self.issuer)
                # Source: OpenID Connect Discovery 1.0, 4.3: it must be who was asked.
                if found.get("issuer") != self.issuer:
                    raise UnavailableError(
                        f"the provider at {self.issuer} calls itself {found.get('issuer')!r}; "
                        "oidc.issuer must be exactly that"
                    )
                self._metadata, self._read_at = found, time.monotonic()
            address = str(self._metadata.get(name, ""))
        try:
            _require_tls(address)
        except InvalidError as error:
            raise UnavailableError(f"the provider names no usable {name}") from error
        return address

    def _keys(self) -> KeySet:
        try:
            found = _get_json(self._endpoint("jwks_uri"), self.issuer)
            return KeySet.import_key_set(found)  # type: ignore[arg-type]
        except (jose.JoseError, ValueError, KeyError, TypeError) as error:
            raise UnavailableError(f"the keys of {self.issuer} cannot be read") from error


def verified_subject(id_token: str, keys: KeySet, issuer: str, client_id: str, nonce: str) -> str:
    """Whom a token names, once everything about it was checked.

    Raises:
        ForbiddenError: it is not signed by one of the keys, not from this issuer, not for this
            client, not the answer to this question, or too old.
    """
    registry = jwt.JWTClaimsRegistry(
        leeway=LEEWAY_S,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": client_id},
        nonce={"essential": True, "value": nonce},
        sub={"essential": True},
        exp={"essential": True},
        iat={"essential": True},
    )
    try:
        claims = jwt.decode(id_token, keys, algorithms=ALGORITHMS).claims
        registry.validate(claims)
    except (jose.JoseError, ValueError, KeyError, TypeError) as error:
        raise ForbiddenError("what the provider says cannot be believed; log in again") from error
    # Source: OpenID Connect Core 1.0, 3.1.3.7: of several audiences one is who asked.
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if (several or "azp" in claims) and claims.get("azp") != client_id:
        raise ForbiddenError("the provider logged you in for another application; log in again")
    return str(claims["sub"])


def _get_json(address: str, issuer: str) -> dict[str, Any]:
    try:
        answer = requests.get(address, timeout=TIMEOUT_S, allow_redirects=False)
        answer.raise_for_status()
        found = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise _away(issuer) from error
    if answer.status_code != 200 or not isinstance(found, dict):
        raise _away(issuer)
    return found


def _away(issuer: str) -> UnavailableError:
    return UnavailableError(f"the identity provider {issuer} does not answer; try again later")


def _require_tls(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise InvalidError(f"{address!r} must begin with https://, for secrets go there")
