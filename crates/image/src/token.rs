//! How one pull or push shows who it is: nothing at first, then what the registry asks for.
//!
//! The token service's protocol is distribution's: a GET with the user's password (spec/auth/token), or a POST with a
//! refresh token (spec/auth/oauth). A token that has expired in the middle of a pull is asked for again.

use reqwest::header::{ACCEPT, HeaderMap};
use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::answer::{Failure, body_start, detail, retry_after};
use crate::challenge::{Challenge, Realm, challenge};
use crate::credentials::Credentials;
use crate::error::Error;
use crate::http::Connection;

const CLIENT: &str = "coracle";
/// Far more than any token has: tokens go into a header.
const ANSWER_MAX: usize = 256 << 10;

/// What one connection does to the repository.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Action {
    /// It only reads.
    Pull,
    /// It writes, too.
    Push,
}

/// What goes into the `Authorization` header.
#[derive(Clone, PartialEq)]
pub(crate) enum Authorization {
    Bearer(String),
    Basic(String, String),
}

/// What is shown at present; one for all requests of a connection.
#[derive(Default)]
pub(crate) struct Pass(Mutex<Option<Authorization>>);

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

impl Authorization {
    pub(crate) fn on(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Authorization::Bearer(token) => request.bearer_auth(token),
            Authorization::Basic(user, password) => request.basic_auth(user, Some(password)),
        }
    }
}

impl Pass {
    pub(crate) async fn current(&self) -> Option<Authorization> {
        self.0.lock().await.clone()
    }
}

impl Connection<'_> {
    /// What to show after `stale` was refused with these headers; unless another request of this connection just
    /// found out.
    pub(crate) async fn authorize(
        &self,
        stale: Option<Authorization>,
        refusal: &HeaderMap,
    ) -> Result<Authorization, Failure> {
        let mut current = self.pass.0.lock().await;
        if let Some(newer) = current.as_ref().filter(|c| Some(*c) != stale.as_ref()) {
            return Ok(newer.clone());
        }
        let credentials = &self.options.credentials;
        let found = match (challenge(refusal), credentials) {
            (_, Credentials::Bearer(token)) => Authorization::Bearer(token.clone()),
            (Some(Challenge::Bearer(realm)), _) => Authorization::Bearer(self.token(&realm).await?),
            (_, Credentials::Basic(user, password)) => {
                Authorization::Basic(user.clone(), password.clone())
            }
            (_, Credentials::Anonymous | Credentials::Identity(_)) => {
                return Err(Failure::last(self.refused("401 Unauthorized", "")));
            }
        };
        *current = Some(found.clone());
        Ok(found)
    }

    /// Asks the registry's token service.
    async fn token(&self, realm: &Realm) -> Result<String, Failure> {
        let url = reqwest::Url::parse(&realm.realm).map_err(|_| {
            let reason = format!("its token service {:?} is no address", realm.realm);
            Failure::last(self.protocol(reason))
        })?;
        if !crate::client::may_reach(&url) {
            let reason = format!("its token service {:?} speaks plain HTTP", realm.realm);
            return Err(Failure::last(self.protocol(reason)));
        }
        let scope = realm.scope.clone().unwrap_or_else(|| self.scope());
        let request = match &self.options.credentials {
            Credentials::Identity(token) => self.http.post(url).form_body(&[
                ("grant_type", "refresh_token"),
                ("service", realm.service.as_deref().unwrap_or_default()),
                ("client_id", CLIENT),
                ("scope", &scope),
                ("refresh_token", token),
            ]),
            credentials => {
                let mut url = url;
                url.query_pairs_mut()
                    .extend_pairs(realm.service.as_deref().map(|s| ("service", s)))
                    .extend_pairs([("scope", scope.as_str()), ("client_id", CLIENT)]);
                let request = self.http.get(url);
                match credentials {
                    Credentials::Basic(user, password) => request.basic_auth(user, Some(password)),
                    _ => request,
                }
            }
        };
        self.token_of(request).await
    }

    async fn token_of(&self, request: RequestBuilder) -> Result<String, Failure> {
        let answer = request.header(ACCEPT, "application/json").send().await;
        let mut answer = answer.map_err(|e| self.cut(&e))?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(self.token_refused(answer).await);
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|e| self.cut(&e))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_MAX {
                let reason = format!("its token service sent more than {ANSWER_MAX} bytes");
                return Err(Failure::last(self.protocol(reason)));
            }
        }
        let answer: Option<Answer> = serde_json::from_slice(&bytes).ok();
        let token = answer.and_then(|a| a.token.or(a.access_token));
        // What can't stand in a header is no token.
        token
            .filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_graphic()))
            .ok_or_else(|| {
                let reason = "its token service gave no token".to_owned();
                Failure::last(self.protocol(reason))
            })
    }

    async fn token_refused(&self, answer: reqwest::Response) -> Failure {
        let (status, after) = (answer.status(), retry_after(answer.headers()));
        let detail = detail(&body_start(answer).await);
        let identity = matches!(self.options.credentials, Credentials::Identity(_));
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Failure::last(self.refused(&status.to_string(), &detail))
            }
            // How OAuth refuses a refresh token.
            StatusCode::BAD_REQUEST if identity => {
                Failure::last(self.refused(&status.to_string(), &detail))
            }
            StatusCode::TOO_MANY_REQUESTS => self.throttled(detail, after),
            s if s.is_server_error() || s == StatusCode::REQUEST_TIMEOUT => {
                self.unavailable(format!("its token service answers {status}{detail}"), after)
            }
            _ => {
                let reason = format!("unexpected answer {status} of its token service{detail}");
                Failure::last(self.protocol(reason))
            }
        }
    }

    /// What to ask for where the registry doesn't say.
    fn scope(&self) -> String {
        let actions = match self.action {
            Action::Pull => "pull",
            Action::Push => "pull,push",
        };
        format!("repository:{}:{actions}", self.repository())
    }

    /// An error for what the registry refuses.
    pub(crate) fn refused(&self, status: &str, detail: &str) -> Error {
        let advice = match self.options.credentials {
            Credentials::Anonymous => {
                "no credentials were given for it: log in (docker login, podman login), and check the name, for a registry may hide what one may not see"
            }
            _ => "check the name, the credentials and what they allow",
        };
        Error::Refused {
            registry: self.registry.clone(),
            image: self.image.clone(),
            status: status.to_owned(),
            detail: detail.to_owned(),
            advice,
        }
    }
}

/// A form, as OAuth wants it.
trait FormBody {
    fn form_body(self, fields: &[(&str, &str)]) -> RequestBuilder;
}

impl FormBody for RequestBuilder {
    fn form_body(self, fields: &[(&str, &str)]) -> RequestBuilder {
        // A form is written as a query is.
        let mut url = reqwest::Url::parse("http://form").ok();
        if let Some(url) = &mut url {
            url.query_pairs_mut().extend_pairs(fields);
        }
        let body = url.as_ref().and_then(|u| u.query()).unwrap_or_default();
        self.header("content-type", "application/x-www-form-urlencoded")
            .body(body.to_owned())
    }
}
