//! Who asks: the client's certificate, else a bearer token. Nobody is let in without a name
//! (`cmd/kubelet/app/auth.go`, with anonymous authentication off).

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use rand::Rng;
use rustls::pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::authority::ClientCa;
use crate::backend::{ReviewError, Reviews};
use crate::cache::Cache;

/// How long an answer on a token holds, a good one and a bad one (`authentication.webhook.cacheTTL`).
pub(crate) const TOKEN_TTL: Duration = Duration::from_secs(120);
/// The most answers on tokens that are kept.
const TOKENS: usize = 4096;
/// The most reviews of tokens at once: strangers ask for them.
const AT_ONCE: usize = 32;
/// Everybody who is somebody is in it (`NewAuthenticatedGroupAdder`).
const AUTHENTICATED: &str = "system:authenticated";

/// The retries of a review (`DefaultAuthWebhookRetryBackoff` of apiserver).
const STEPS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const FACTOR: f64 = 1.5;
const JITTER: f64 = 0.2;

/// See the module.
pub(crate) struct Authenticator {
    authority: Option<ClientCa>,
    reviews: Arc<dyn Reviews>,
    /// By their digest: tokens are not to lie about in memory.
    tokens: Cache<[u8; 32], Option<UserInfo>>,
    gate: Semaphore,
}

impl Authenticator {
    pub(crate) fn new(authority: Option<ClientCa>, reviews: Arc<dyn Reviews>) -> Authenticator {
        Authenticator {
            authority,
            reviews,
            tokens: Cache::new(TOKENS),
            gate: Semaphore::new(AT_ONCE),
        }
    }

    /// Who this is; `None` for somebody without a name, and for everybody while it can't be known.
    pub(crate) async fn authenticate(
        &self,
        chain: &[CertificateDer<'static>],
        headers: &HeaderMap,
    ) -> Option<UserInfo> {
        let user = match self.by_certificate(chain) {
            Some(user) => user,
            None => self.by_token(bearer(headers)?).await?,
        };
        Some(authenticated(user))
    }

    /// One that is not accepted is as none: there may be a token.
    fn by_certificate(&self, chain: &[CertificateDer<'static>]) -> Option<UserInfo> {
        if chain.is_empty() {
            return None;
        }
        match self.authority.as_ref()?.user(chain, UnixTime::now()) {
            Ok(user) => Some(user),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::info!(error, "a client is not known by its certificate");
                None
            }
        }
    }

    async fn by_token(&self, token: &str) -> Option<UserInfo> {
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.tokens.get(&key) {
            return known;
        }
        let _turn = self.gate.acquire().await.ok()?;
        match retried(|| self.reviews.token(token)).await {
            Ok(status) => {
                let user = user_of(status);
                self.tokens.put(key, user.clone(), TOKEN_TTL);
                user
            }
            Err(error) => {
                tracing::warn!(%error, "a token can't be reviewed, and its bearer is refused");
                None
            }
        }
    }
}

/// A bearer token, as `apiserver/pkg/authentication/request/bearertoken` finds it.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
    let mut words = value.splitn(3, ' ');
    let scheme = words.next()?;
    let token = words.next()?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn user_of(status: TokenReviewStatus) -> Option<UserInfo> {
    if let Some(error) = status.error.filter(|error| !error.is_empty()) {
        tracing::info!(error, "a token is not accepted");
    }
    let user = status.user.filter(|_| status.authenticated == Some(true))?;
    let named = user.username.as_ref().is_some_and(|name| !name.is_empty());
    named.then_some(user)
}

fn authenticated(mut user: UserInfo) -> UserInfo {
    let groups = user.groups.get_or_insert_default();
    if !groups.iter().any(|group| group == AUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    user
}

/// Asks again while the server says that it could not answer just now.
pub(crate) async fn retried<T, F: Future<Output = Result<T, ReviewError>>>(
    ask: impl Fn() -> F,
) -> Result<T, ReviewError> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..STEPS {
        match ask().await {
            Err(error) if error.transient => {
                let jitter = rand::rng().random_range(1.0..1.0 + JITTER);
                tokio::time::sleep(pause.mul_f64(jitter)).await;
                pause = pause.mul_f64(FACTOR);
            }
            other => return other,
        }
    }
    ask().await
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_behind_its_scheme() {
        let of = |value: &str| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(of("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(of("  bEARER abc def").as_deref(), Some("abc"));
        for other in ["", "Bearer", "Bearer ", "Bearer  abc", "Basic abc", "abc"] {
            assert_eq!(of(other), None, "{other:?}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn a_review_without_a_name_is_nobody() {
        let status = |json: serde_json::Value| serde_json::from_value(json).unwrap();
        for nobody in [
            serde_json::json!({}),
            serde_json::json!({"authenticated": true}),
            serde_json::json!({"authenticated": true, "user": {"username": ""}}),
            serde_json::json!({"authenticated": false, "user": {"username": "eve"}}),
            serde_json::json!({"error": "expired", "user": {"username": "eve"}}),
        ] {
            assert_eq!(user_of(status(nobody.clone())), None, "{nobody}");
        }
        let ann = serde_json::json!({"authenticated": true, "user": {"username": "ann"}});
        let ann = authenticated(user_of(status(ann)).unwrap());
        assert_eq!(ann.groups.as_deref().unwrap(), [AUTHENTICATED]);
        assert_eq!(authenticated(ann.clone()), ann);
    }
}
