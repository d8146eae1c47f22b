//! TokenReviews and SubjectAccessReviews: who somebody is, and what they may. A node's own identity may create both.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::authorization::v1::{
    SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::error::{Call, CallError};

/// How long a call may take: somebody waits for it.
const LIMIT: Duration = Duration::from_secs(10);

/// Asks the API server.
#[derive(Clone)]
pub struct Reviews {
    tokens: Api<TokenReview>,
    access: Api<SubjectAccessReview>,
}

impl Reviews {
    /// Asks with this client's identity.
    pub fn new(client: Client) -> Reviews {
        Reviews {
            tokens: Api::all(client.clone()),
            access: Api::all(client),
        }
    }

    /// Whose a bearer token is. That it is nobody's is an answer.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn token(&self, token: &str) -> Result<TokenReviewStatus, CallError> {
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec {
                token: token.to_owned(),
                audiences: None,
            },
            status: None,
        };
        let params = PostParams::default();
        let asked = self.tokens.create(&params, &review);
        let call = Call::on("create", "tokenreviews", "");
        let answer = call.run(LIMIT, asked).await?;
        Ok(answer.status.unwrap_or_default())
    }

    /// Whether somebody may do something.
    ///
    /// # Errors
    /// As [`Reviews::token`].
    pub async fn access(
        &self,
        spec: &SubjectAccessReviewSpec,
    ) -> Result<SubjectAccessReviewStatus, CallError> {
        let review = SubjectAccessReview {
            metadata: ObjectMeta::default(),
            spec: spec.clone(),
            status: None,
        };
        let params = PostParams::default();
        let asked = self.access.create(&params, &review);
        let call = Call::on("create", "subjectaccessreviews", "");
        let answer = call.run(LIMIT, asked).await?;
        // One without a word allows nothing.
        Ok(answer.status.unwrap_or_default())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use http::{Request, Response};
    use kube::client::Body;

    use super::*;
    use crate::Kind;

    /// An API server that gives one answer, and keeps what it was asked.
    fn server(code: u16, text: &'static str) -> (Reviews, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let kept = kept.clone();
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect_bytes().await.unwrap();
                let body = String::from_utf8(body.to_vec()).unwrap();
                kept.lock().unwrap().push(format!("{path} {body}"));
                let answer = Response::builder().status(code);
                let body = Body::from(text.as_bytes().to_vec());
                Ok::<_, std::convert::Infallible>(answer.body(body).unwrap())
            }
        });
        (Reviews::new(Client::new(service, "default")), asked)
    }

    #[tokio::test]
    async fn a_token_is_sent_and_its_user_comes_back() {
        let (reviews, asked) = server(
            201,
            r#"{"metadata":{},"spec":{},"status":{"authenticated":true,"user":{"username":"ann"}}}"#,
        );
        let status = reviews.token("t0ken").await.unwrap();
        assert_eq!(status.user.unwrap().username.as_deref(), Some("ann"));
        let asked = asked.lock().unwrap().remove(0);
        assert!(asked.starts_with("/apis/authentication.k8s.io/v1/tokenreviews "));
        assert!(asked.contains(r#""token":"t0ken""#), "{asked}");
    }

    #[tokio::test]
    async fn an_answer_without_a_word_allows_nothing() {
        let (reviews, asked) = server(201, r#"{"metadata":{},"spec":{}}"#);
        let spec = SubjectAccessReviewSpec {
            user: Some("ann".to_owned()),
            ..SubjectAccessReviewSpec::default()
        };
        assert!(!reviews.access(&spec).await.unwrap().allowed);
        let asked = asked.lock().unwrap().remove(0);
        assert!(asked.starts_with("/apis/authorization.k8s.io/v1/subjectaccessreviews "));
        assert!(asked.contains(r#""user":"ann""#), "{asked}");
    }

    #[tokio::test]
    async fn no_answer_is_an_error() {
        let down = r#"{"kind":"Status","status":"Failure","message":"etcd","code":500}"#;
        let (reviews, _) = server(500, down);
        let error = reviews.token("t0ken").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Server);
        assert!(!error.to_string().contains("t0ken"), "{error}");
    }
}
