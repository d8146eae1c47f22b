//! What the API needs of others: the API server's word on who may, and what is known of pods.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use k8s_openapi::api::authorization::v1::{SubjectAccessReviewSpec, SubjectAccessReviewStatus};
use k8s_openapi::api::core::v1::Pod;

/// Asks the API server who somebody is, and what they may.
#[async_trait]
pub trait Reviews: Send + Sync + 'static {
    /// Creates a TokenReview.
    ///
    /// # Errors
    /// [`ReviewError`] if there is no answer; that a token is no good is one.
    async fn token(&self, token: &str) -> Result<TokenReviewStatus, ReviewError>;

    /// Creates a SubjectAccessReview.
    ///
    /// # Errors
    /// As [`Reviews::token`].
    async fn access(
        &self,
        asked: &SubjectAccessReviewSpec,
    ) -> Result<SubjectAccessReviewStatus, ReviewError>;
}

/// Why there is no review.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ReviewError {
    /// What went wrong.
    pub message: String,
    /// The server was there and could not answer now: the same question may be answered in a moment.
    pub transient: bool,
}

/// What is known of pods. Nothing here may block for long.
pub trait Backend: Send + Sync + 'static {
    /// The pods that are bound to this node, each with its latest status.
    fn pods(&self) -> Vec<Arc<Pod>>;

    /// One of them; the newest, where one of the same name is still ending.
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>>;

    /// The effective configuration: components by name, as `/configz` has it.
    fn configuration(&self) -> serde_json::Value;

    /// Opens the log of one run, which its `containerID` names. May block for as long as a disk does.
    ///
    /// # Errors
    /// [`LogError`].
    fn open_log(
        &self,
        pod: &Pod,
        container: &str,
        container_id: &str,
        options: logs::Options,
    ) -> Result<logs::Reader, LogError>;

    /// Resolves once that run runs no more, at once if it does not.
    fn ended(&self, pod_uid: &str, container: &str, container_id: &str) -> BoxFuture<'static, ()>;
}

/// Why a log can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The id is not one that this node gives.
    #[error("the container id {0:?} is not of this node")]
    Foreign(String),
    /// The folder is not there, or refuses.
    #[error("unable to retrieve container logs for {id}")]
    Folder {
        /// The container's id.
        id: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The log is not there, or refuses.
    #[error("unable to retrieve container logs for {id}")]
    Log {
        /// The container's id.
        id: String,
        /// What the reader said.
        #[source]
        source: logs::ReadError,
    },
}
