//! What a call to the API server can come back with, sorted by what to do about it.

use std::fmt;
use std::time::Duration;

use kube::core::Status;

/// A call that failed: what was asked for, in the words RBAC uses, and why it was refused.
///
/// The verb and the resource are always named, so that a missing permission can be granted from the message alone.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {detail}")]
pub struct CallError {
    call: Call,
    detail: Detail,
    kind: Kind,
    retry_after: Option<Duration>,
    #[source]
    source: Option<Box<kube::Error>>,
}

/// A verb on a resource, by its names in RBAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub verb: &'static str,
    /// The resource, with its subresource: `pods/status`.
    pub resource: &'static str,
    /// `namespace/name`, or `name`; empty for a collection.
    pub name: String,
}

/// What an answer means for the one who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 401: these credentials are not accepted (expired, revoked, of another cluster).
    Unauthorized,
    /// 403: the identity may not do this. Just after a pod is bound this is the authorizer's lag.
    Forbidden,
    /// 404: there is no such object.
    NotFound,
    /// 409 `AlreadyExists`.
    AlreadyExists,
    /// 409 or 422 because the object of this name has another UID.
    OtherUid,
    /// 409 for any other reason: somebody else wrote in between.
    Conflict,
    /// 400, 413, 415 or 422: the server will never take this request as it is.
    Invalid,
    /// 429: the server asks for fewer requests.
    Throttled,
    /// 410: the resource version is too old.
    Expired,
    /// Any other 5xx.
    Server,
    /// No answer in time.
    Timeout,
    /// No connection, or one that broke.
    Unreachable,
    /// An answer that can't be understood.
    Garbled,
}

impl Kind {
    /// Whether the same request can succeed later without anything of ours changing.
    pub fn may_heal(self) -> bool {
        !matches!(
            self,
            Kind::NotFound | Kind::AlreadyExists | Kind::OtherUid | Kind::Invalid
        )
    }

    /// Whether the API server itself is away, rather than this one request refused.
    pub fn is_outage(self) -> bool {
        matches!(self, Kind::Server | Kind::Timeout | Kind::Unreachable)
    }
}

#[derive(Debug)]
struct Detail(String);

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if self.name.is_empty() {
            return Ok(());
        }
        write!(f, " {}", self.name)
    }
}

impl Call {
    /// A verb on a namespaced object.
    pub fn of(verb: &'static str, resource: &'static str, namespace: &str, name: &str) -> Call {
        Call {
            verb,
            resource,
            name: format!("{namespace}/{name}"),
        }
    }

    /// A verb on a cluster-wide object, or on a collection if `name` is empty.
    pub fn on(verb: &'static str, resource: &'static str, name: &str) -> Call {
        Call {
            verb,
            resource,
            name: name.to_owned(),
        }
    }

    /// Runs the request under a time limit and sorts its failure.
    ///
    /// # Errors
    /// [`CallError`], with [`Kind::Timeout`] once `limit` has passed.
    pub async fn run<T>(
        self,
        limit: Duration,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, CallError> {
        match tokio::time::timeout(limit, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(CallError::new(self, error)),
            Err(_) => Err(CallError {
                call: self,
                detail: Detail(format!(
                    "no answer from the API server in {} s",
                    limit.as_secs()
                )),
                kind: Kind::Timeout,
                retry_after: None,
                source: None,
            }),
        }
    }
}

impl CallError {
    /// Sorts what the client returned for `call`.
    pub fn new(call: Call, error: kube::Error) -> CallError {
        let (kind, detail, retry_after) = match &error {
            kube::Error::Api(status) => {
                let kind = sort(status);
                (kind, explain(kind, &call, status), retry_after(status))
            }
            kube::Error::SerdeError(why) => (
                Kind::Garbled,
                format!("the answer can't be read: {why}"),
                None,
            ),
            kube::Error::BuildRequest(why) => (
                Kind::Invalid,
                format!("the request can't be built: {why}"),
                None,
            ),
            other => (Kind::Unreachable, unreachable(other), None),
        };
        CallError {
            call,
            detail: Detail(detail),
            kind,
            retry_after,
            source: Some(Box::new(error)),
        }
    }

    /// What the failure means.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What was asked for.
    pub fn call(&self) -> &Call {
        &self.call
    }

    /// How long the server asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

fn sort(status: &Status) -> Kind {
    match (status.code, status.reason.as_str()) {
        (401, _) => Kind::Unauthorized,
        (403, _) => Kind::Forbidden,
        (404, _) => Kind::NotFound,
        (409, "AlreadyExists") => Kind::AlreadyExists,
        // A patch that names another UID fails validation; a deletion fails the storage layer's precondition, which has
        // no reason of its own but this sentence.
        (422, _) if names_uid(status) => Kind::OtherUid,
        (409, _) if status.message.contains("UID in precondition") => Kind::OtherUid,
        (409, _) => Kind::Conflict,
        (410, _) => Kind::Expired,
        (408 | 504, _) => Kind::Timeout,
        (429, _) => Kind::Throttled,
        (400..=499, _) => Kind::Invalid,
        _ => Kind::Server,
    }
}

fn names_uid(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .into_iter()
        .any(|cause| cause.field == "metadata.uid")
}

fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
}

fn explain(kind: Kind, call: &Call, status: &Status) -> String {
    let message = match status.message.as_str() {
        "" => format!("HTTP {} {}", status.code, status.reason),
        message => message.to_owned(),
    };
    match kind {
        Kind::Forbidden => format!(
            "forbidden: {message} (this identity needs the verb {:?} on the resource {:?}; a node's own identity, system:node:<name> in the group system:nodes, has it for itself)",
            call.verb, call.resource
        ),
        Kind::Unauthorized => format!(
            "{message} (the server doesn't accept the credentials of the kubeconfig: expired, revoked, or of another cluster)"
        ),
        _ => message,
    }
}

/// The chain of causes in one line: hyper's own message stops at "client error (Connect)".
fn unreachable(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let said = parts.last().is_some_and(|last| last.ends_with(&text));
        if !said {
            parts.push(text);
        }
        next = error.source();
    }
    let chain = parts.join(": ");
    match chain.contains("UnknownIssuer") {
        true => format!(
            "{chain} (the server's certificate isn't signed by the cluster's certificate-authority in the kubeconfig)"
        ),
        false => chain,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn api(code: u16, reason: &str, message: &str) -> CallError {
        let status = Status::failure(message, reason).with_code(code);
        CallError::new(
            Call::of("patch", "pods/status", "ns", "web"),
            kube::Error::Api(status.boxed()),
        )
    }

    #[test]
    fn a_403_names_verb_and_resource() {
        let text = api(403, "Forbidden", "pods \"web\" is forbidden").to_string();
        assert!(text.contains("patch pods/status ns/web"), "{text}");
        assert!(
            text.contains("\"patch\" on the resource \"pods/status\""),
            "{text}"
        );
    }

    #[test]
    fn answers_are_sorted_by_what_to_do() {
        let uid = "Precondition failed: UID in precondition: a, UID in object meta: b";
        for (code, reason, message, kind, heals) in [
            (401, "Unauthorized", "", Kind::Unauthorized, true),
            (404, "NotFound", "", Kind::NotFound, false),
            (409, "AlreadyExists", "", Kind::AlreadyExists, false),
            (409, "Conflict", uid, Kind::OtherUid, false),
            (409, "Conflict", "modified", Kind::Conflict, true),
            (410, "Expired", "", Kind::Expired, true),
            (413, "RequestEntityTooLarge", "", Kind::Invalid, false),
            (422, "Invalid", "bad", Kind::Invalid, false),
            (429, "TooManyRequests", "", Kind::Throttled, true),
            (500, "InternalError", "", Kind::Server, true),
            (504, "Timeout", "", Kind::Timeout, true),
        ] {
            let error = api(code, reason, message);
            assert_eq!(
                (error.kind(), error.kind().may_heal()),
                (kind, heals),
                "{code} {reason}"
            );
        }
    }

    #[test]
    fn a_patch_that_names_another_uid_is_told_from_a_bad_one() {
        let cause = |field: &str| {
            let details = serde_json::json!({ "causes": [{ "field": field, "reason": "FieldValueInvalid" }] });
            let status = Status::failure("is invalid", "Invalid").with_code(422);
            let status = status.with_details(serde_json::from_value(details).unwrap());
            CallError::new(
                Call::on("patch", "pods/status", "web"),
                kube::Error::Api(status.boxed()),
            )
            .kind()
        };
        assert_eq!(
            [cause("metadata.uid"), cause("status.podIP")],
            [Kind::OtherUid, Kind::Invalid]
        );
    }

    #[test]
    fn the_server_says_how_long_to_wait() {
        let details =
            serde_json::from_value(serde_json::json!({ "retryAfterSeconds": 3 })).unwrap();
        let status = Status::failure("slow down", "TooManyRequests")
            .with_code(429)
            .with_details(details);
        let error = CallError::new(
            Call::on("list", "pods", ""),
            kube::Error::Api(status.boxed()),
        );
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
        assert_eq!(error.to_string(), "list pods: slow down");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_a_timeout() {
        let call = Call::on("get", "nodes", "n");
        let error = call
            .run(
                Duration::from_secs(10),
                std::future::pending::<kube::Result<()>>(),
            )
            .await
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Timeout);
        assert_eq!(
            error.to_string(),
            "get nodes n: no answer from the API server in 10 s"
        );
    }
}
