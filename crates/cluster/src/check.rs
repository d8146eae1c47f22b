//! What can be asked before a node registers: whether the server answers, what time it has, and what this identity may do.

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use k8s_openapi::api::authorization::v1::{
    FieldSelectorAttributes, ResourceAttributes, SelfSubjectAccessReview,
    SelfSubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldSelectorRequirement;
use kube::api::PostParams;
use kube::client::Body;
use kube::{Api, Client};

use crate::Access;
use crate::access::HEARTBEAT_LIMIT;
use crate::error::{Call, CallError};

/// A server that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `v1.36.3`.
    pub version: String,
    /// What time it has, to the second, where it said so.
    pub date: Option<Timestamp>,
}

/// Something that a node has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deed {
    /// `get`, `list`, …
    pub verb: &'static str,
    /// The API group; empty for core.
    pub group: &'static str,
    /// `nodes`
    pub resource: &'static str,
    /// `status`; empty for the resource itself.
    pub subresource: &'static str,
    /// Empty for all, and for what is in none.
    pub namespace: &'static str,
    /// Whether it is done to the object of the node's own name.
    pub own: bool,
    /// The field that is selected by the node's name; empty for none.
    pub selected_by: &'static str,
}

const PLAIN: Deed = Deed {
    verb: "",
    group: "",
    resource: "",
    subresource: "",
    namespace: "",
    own: false,
    selected_by: "",
};

const fn own(verb: &'static str, resource: &'static str, subresource: &'static str) -> Deed {
    Deed {
        verb,
        resource,
        subresource,
        own: true,
        ..PLAIN
    }
}

const fn lease(verb: &'static str) -> Deed {
    Deed {
        verb,
        group: "coordination.k8s.io",
        resource: "leases",
        namespace: "kube-node-lease",
        own: true,
        ..PLAIN
    }
}

const fn pods(verb: &'static str) -> Deed {
    Deed {
        verb,
        resource: "pods",
        selected_by: "spec.nodeName",
        ..PLAIN
    }
}

/// Everything that this crate does and that can be asked about without a pod. The Node authorizer allows it to
/// `system:node:<name>` (`plugin/pkg/auth/authorizer/node`); nobody has to grant anything.
pub const DEEDS: &[Deed] = &[
    Deed {
        verb: "create",
        resource: "nodes",
        ..PLAIN
    },
    own("get", "nodes", ""),
    own("patch", "nodes", ""),
    own("patch", "nodes", "status"),
    lease("get"),
    lease("create"),
    lease("update"),
    pods("list"),
    pods("watch"),
    Deed {
        verb: "patch",
        resource: "pods",
        subresource: "status",
        ..PLAIN
    },
    Deed {
        verb: "delete",
        resource: "pods",
        ..PLAIN
    },
    Deed {
        verb: "create",
        resource: "events",
        ..PLAIN
    },
    Deed {
        verb: "create",
        group: "certificates.k8s.io",
        resource: "certificatesigningrequests",
        ..PLAIN
    },
];

impl std::fmt::Display for Deed {
    /// As RBAC names it: `patch nodes/status`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        Ok(())
    }
}

/// Asks.
pub struct Check(Client);

impl Check {
    /// As this identity.
    ///
    /// # Errors
    /// As [`Access::pods`].
    pub fn of(access: &Access) -> kube::Result<Check> {
        access.pods().map(Check)
    }

    /// Asks the server for its version and its time.
    ///
    /// # Errors
    /// [`CallError`] if it does not answer within 10 s, or refuses.
    pub async fn server(&self) -> Result<Server, CallError> {
        let call = Call::on("get", "/version", "");
        call.run(HEARTBEAT_LIMIT, version(&self.0)).await
    }

    /// Whether this identity may do it for `node`; the reason why not, where the server gives one.
    ///
    /// # Errors
    /// [`CallError`] if it can't be asked.
    pub async fn may(&self, deed: &Deed, node: &str) -> Result<Result<(), String>, CallError> {
        let review = review(deed, node);
        let api: Api<SelfSubjectAccessReview> = Api::all(self.0.clone());
        let params = PostParams::default();
        let call = Call::on("create", "selfsubjectaccessreviews", "");
        let answer = call
            .run(HEARTBEAT_LIMIT, api.create(&params, &review))
            .await?;
        let status = answer.status.unwrap_or_default();
        Ok(match status.allowed {
            true => Ok(()),
            false => Err(status.reason.unwrap_or_default()),
        })
    }
}

async fn version(client: &Client) -> kube::Result<Server> {
    let request = http::Request::get("/version")
        .body(Body::empty())
        .map_err(kube::Error::HttpError)?;
    let answer = client.send(request).await?;
    let date = answer.headers().get(http::header::DATE);
    let date = date.and_then(|date| {
        let date = date.to_str().ok()?;
        Some(rfc2822::parse(date).ok()?.timestamp())
    });
    let refused = answer.status();
    let body = answer.into_body().collect_bytes().await?;
    if !refused.is_success() {
        let status = serde_json::from_slice(&body).unwrap_or_default();
        let mut status: kube::core::Status = status;
        status.code = refused.as_u16();
        return Err(kube::Error::Api(status.boxed()));
    }
    let info: serde_json::Value = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
    let version = info.get("gitVersion").and_then(|version| version.as_str());
    Ok(Server {
        version: version.unwrap_or_default().to_owned(),
        date,
    })
}

fn review(deed: &Deed, node: &str) -> SelfSubjectAccessReview {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let selector = some(deed.selected_by).map(|key| FieldSelectorAttributes {
        requirements: Some(vec![FieldSelectorRequirement {
            key,
            operator: "In".to_owned(),
            values: Some(vec![node.to_owned()]),
        }]),
        ..FieldSelectorAttributes::default()
    });
    let attributes = ResourceAttributes {
        verb: some(deed.verb),
        group: some(deed.group),
        version: Some("v1".to_owned()),
        resource: some(deed.resource),
        subresource: some(deed.subresource),
        namespace: some(deed.namespace),
        name: deed.own.then(|| node.to_owned()),
        field_selector: selector,
        ..ResourceAttributes::default()
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check() -> Check {
        let service = tower::service_fn(|request: http::Request<Body>| async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect_bytes().await.unwrap();
            let asked = String::from_utf8(body.to_vec()).unwrap();
            let answer = match path.as_str() {
                "/version" => r#"{"gitVersion":"v1.36.3"}"#.to_owned(),
                _ => {
                    let ours = asked.contains(r#""values":["n"]"#);
                    format!(
                        r#"{{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{{}},
                        "status":{{"allowed":{ours},"reason":"only with a selector"}}}}"#
                    )
                }
            };
            let answer = http::Response::builder()
                .header("date", "Sat, 28 Nov 2026 07:15:05 GMT")
                .body(Body::from(answer.into_bytes()))
                .unwrap();
            Ok::<_, std::convert::Infallible>(answer)
        });
        Check(Client::new(service, "default"))
    }

    #[tokio::test]
    async fn a_server_says_its_version_and_its_time() {
        let said = check().server().await.unwrap();
        assert_eq!(said.version, "v1.36.3");
        assert_eq!(said.date, "2026-11-28T07:15:05Z".parse().ok());
    }

    #[tokio::test]
    async fn what_is_asked_has_its_selector_and_what_is_refused_its_reason() {
        assert_eq!(check().may(&pods("list"), "n").await.unwrap(), Ok(()));
        let refused = check()
            .may(&own("patch", "nodes", "status"), "n")
            .await
            .unwrap();
        assert_eq!(refused, Err("only with a selector".to_owned()));
        assert_eq!(
            own("patch", "nodes", "status").to_string(),
            "patch nodes/status"
        );
        assert_eq!(lease("get").to_string(), "get leases.coordination.k8s.io");
    }
}
