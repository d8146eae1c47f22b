//! Who may: each request is a verb on a subresource of this Node, and the API server is asked
//! (`pkg/kubelet/server/auth.go`, and apiserver's webhook authorizer).

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use k8s_openapi::api::authentication::v1::UserInfo;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReviewSpec};

use crate::authn::retried;
use crate::backend::{ReviewError, Reviews};
use crate::cache::Cache;

/// How long a yes holds (`authorization.webhook.cacheAuthorizedTTL`).
pub(crate) const ALLOWED_TTL: Duration = Duration::from_secs(300);
/// How long a no holds (`authorization.webhook.cacheUnauthorizedTTL`).
pub(crate) const DENIED_TTL: Duration = Duration::from_secs(30);
/// The most answers that are kept, and how long a question of one may be, bytes.
const ANSWERS: usize = 8192;
const QUESTION: usize = 10_000;

/// Why somebody may not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A 403, with this text.
    Forbidden(String),
    /// There is no answer, and so a 500, with this text.
    Unknown(String),
}

/// See the module.
pub(crate) struct Authorizer {
    node: String,
    reviews: Arc<dyn Reviews>,
    answers: Cache<String, bool>,
}

impl Authorizer {
    pub(crate) fn new(node: &str, reviews: Arc<dyn Reviews>) -> Authorizer {
        Authorizer {
            node: node.to_owned(),
            reviews,
            answers: Cache::new(ANSWERS),
        }
    }

    /// Whether this user may: one of the subresources is enough.
    ///
    /// # Errors
    /// [`Refusal`], with the kubelet's texts.
    pub(crate) async fn authorize(
        &self,
        user: &UserInfo,
        method: &Method,
        path: &str,
    ) -> Result<(), Refusal> {
        let name = user.username.as_deref().unwrap_or_default();
        let verb = verb(method);
        let subresources = subresources(path);
        for subresource in subresources {
            match self.may(user, verb, subresource).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, user = name, verb, subresource, "authorization error");
                    return Err(Refusal::Unknown(format!(
                        "Authorization error (user={name}, verb={verb}, resource=nodes, subresource={subresource})"
                    )));
                }
            }
        }
        tracing::debug!(user = name, verb, ?subresources, "forbidden");
        Err(Refusal::Forbidden(format!(
            "Forbidden (user={name}, verb={verb}, resource=nodes, subresource(s)=[{}])\n",
            subresources.join(" ")
        )))
    }

    async fn may(
        &self,
        user: &UserInfo,
        verb: &str,
        subresource: &str,
    ) -> Result<bool, ReviewError> {
        let asked = self.question(user, verb, subresource);
        // Maps and lists are in their order, so the same question has the same text.
        let key = serde_json::to_string(&asked).map_err(|error| ReviewError {
            message: error.to_string(),
            transient: false,
        })?;
        if let Some(known) = self.answers.get(&key) {
            return Ok(known);
        }
        let status = retried(|| self.reviews.access(&asked)).await?;
        let denied = status.denied == Some(true);
        if denied && status.allowed {
            return Err(ReviewError {
                message: "the SubjectAccessReview both allows and denies".to_owned(),
                transient: false,
            });
        }
        if key.len() <= QUESTION {
            let ttl = if status.allowed {
                ALLOWED_TTL
            } else {
                DENIED_TTL
            };
            self.answers.put(key, status.allowed, ttl);
        }
        Ok(status.allowed)
    }

    fn question(&self, user: &UserInfo, verb: &str, subresource: &str) -> SubjectAccessReviewSpec {
        SubjectAccessReviewSpec {
            user: user.username.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.to_owned()),
                version: Some("v1".to_owned()),
                resource: Some("nodes".to_owned()),
                subresource: Some(subresource.to_owned()),
                name: Some(self.node.clone()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        }
    }
}

fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    }
}

/// What of the Node a path is about, the finer one first.
fn subresources(path: &str) -> &'static [&'static str] {
    let below = |parent: &str| {
        path == parent
            || path
                .strip_prefix(parent)
                .is_some_and(|rest| rest.starts_with('/'))
    };
    let fine: [(&str, &'static [&'static str]); 10] = [
        ("/pods", &["pods", "proxy"]),
        ("/healthz", &["healthz", "proxy"]),
        ("/configz", &["configz", "proxy"]),
        ("/runningpods", &["pods", "proxy"]),
        ("/stats", &["stats"]),
        ("/metrics", &["metrics"]),
        ("/logs", &["log"]),
        ("/checkpoint", &["checkpoint"]),
        ("/statusz", &["statusz"]),
        ("/flagz", &["configz"]),
    ];
    let found = fine.into_iter().find(|(parent, _)| below(parent));
    found.map_or(&["proxy"], |(_, subresources)| subresources)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_subresource_of_the_node() {
        for (path, expected) in [
            ("/pods", &["pods", "proxy"][..]),
            ("/pods/", &["pods", "proxy"]),
            ("/podsx", &["proxy"]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/healthz", &["healthz", "proxy"]),
            ("/healthz/syncloop", &["healthz", "proxy"]),
            ("/configz", &["configz", "proxy"]),
            ("/metrics", &["metrics"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/stats/summary", &["stats"]),
            ("/logs/", &["log"]),
            ("/checkpoint/a/b/c", &["checkpoint"]),
            ("/containerLogs/a/b/c", &["proxy"]),
            ("/exec/a/b/c", &["proxy"]),
            ("/", &["proxy"]),
            ("", &["proxy"]),
        ] {
            assert_eq!(subresources(path), expected, "{path}");
        }
    }

    #[test]
    fn a_method_is_a_verb() {
        assert_eq!(verb(&Method::GET), "get");
        assert_eq!(verb(&Method::POST), "create");
        assert_eq!(verb(&Method::HEAD), "");
    }
}
