//! Requests to one registry on behalf of one pull or push: documents, attempts, redirects.
//!
//! One connection has one client and one set of credentials, so that nobody else's requests can use them.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, LOCATION};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::OnceCell;

use crate::answer::Failure;
use crate::client::{build, may_reach, scheme};
use crate::digest::Digest;
use crate::error::Error;
use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, Descriptor, OCI_INDEX, OCI_MANIFEST};
use crate::reference::Reference;
use crate::registry::{Progress, PullOptions};
use crate::token::{Action, Authorization, Pass};

const BACKOFF_MAX: Duration = Duration::from_secs(20);
const REDIRECTS_MAX: usize = 10;
/// How many tags an error names, at most.
const TAGS_SHOWN: usize = 10;
/// Where the hub's registry is.
const HUB: (&str, &str) = ("docker.io", "registry-1.docker.io");

/// One pull's or push's way to its registry.
pub(crate) struct Connection<'a> {
    pub(crate) options: &'a PullOptions,
    pub(crate) http: reqwest::Client,
    pub(crate) action: Action,
    pub(crate) image: String,
    pub(crate) registry: String,
    pub(crate) pass: Pass,
    name: Reference,
    base: OnceCell<String>,
}

/// A manifest or index as it came.
pub(crate) struct RawManifest {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: String,
}

/// What is put onto a request each time it is made.
pub(crate) type Shape<'s> = &'s (dyn Fn(RequestBuilder) -> RequestBuilder + Send + Sync);

impl<'a> Connection<'a> {
    pub(crate) fn open(
        name: &Reference,
        options: &'a PullOptions,
        action: Action,
    ) -> Result<Connection<'a>, Error> {
        let registry = name.registry().to_owned();
        let http = build(name, options).map_err(|reason| Error::Credentials {
            source_name: format!("registry {registry}"),
            reason,
        })?;
        Ok(Connection {
            options,
            http,
            action,
            image: name.to_string(),
            registry,
            pass: Pass::default(),
            name: name.clone(),
            base: OnceCell::new(),
        })
    }

    pub(crate) fn repository(&self) -> &str {
        self.name.repository()
    }

    /// `https://registry/v2/repository`, with no slash at its end.
    pub(crate) async fn base(&self) -> &str {
        let base = self.base.get_or_init(|| async {
            let host = match self.registry.as_str() {
                hub if hub == HUB.0 => HUB.1,
                host => host,
            };
            let scheme = scheme(&self.name).await;
            format!("{scheme}://{host}/v2/{}", self.repository())
        });
        base.await
    }

    /// What the name stands for.
    pub(crate) async fn manifest(&self, name: &Reference) -> Result<RawManifest, Error> {
        let digest = name.digest();
        let (last, thing) = match (digest, name.tag()) {
            (Some(digest), _) => (digest.to_string(), format!("manifest {digest}")),
            (None, tag) => {
                let tag = tag.unwrap_or("latest");
                (tag.to_owned(), format!("tag {tag:?}"))
            }
        };
        let url = format!("{}/manifests/{last}", self.base().await);
        let what = format!("the manifest of {name}");
        let (bytes, headers) = match self.whole(&url, &what, &thing).await {
            Err(Error::NotFound { detail, .. }) if digest.is_none() => {
                return Err(self.missing(thing, detail).await);
            }
            other => other?,
        };
        let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let promised = header("docker-content-digest").and_then(|d| d.parse::<Digest>().ok());
        let actual = Digest::of(&bytes);
        for expected in [digest, promised].into_iter().flatten() {
            if expected != actual {
                return Err(Error::digest(format!("digest of {what}"), expected, actual));
            }
        }
        let media_type = header(CONTENT_TYPE.as_str())
            .and_then(|t| t.split(';').next())
            .unwrap_or(OCI_MANIFEST);
        Ok(RawManifest {
            media_type: media_type.trim().to_owned(),
            bytes,
        })
    }

    /// Whether the repository is missing or the tag alone: many registries say the same of both, except where they
    /// are asked for the tags.
    async fn missing(&self, thing: String, detail: String) -> Error {
        #[derive(serde::Deserialize)]
        struct Tags {
            tags: Option<Vec<String>>,
        }
        let url = format!("{}/tags/list?n=1000", self.base().await);
        let tags = async {
            let response = self.get(&url, "repository", &|r| r).await?;
            self.body(response, "the list of tags").await
        };
        let what = match tags.await {
            Ok((bytes, _)) => match serde_json::from_slice::<Tags>(&bytes) {
                Ok(Tags { tags: Some(tags) }) if !tags.is_empty() => format!(
                    "{thing} in repository {:?}, which has {}",
                    self.repository(),
                    shortened(&tags)
                ),
                _ => format!("{thing} in repository {:?}", self.repository()),
            },
            Err(Failure {
                error: Error::NotFound { .. },
                ..
            }) => format!("repository {:?}", self.repository()),
            Err(_) => thing,
        };
        Error::NotFound {
            registry: self.registry.clone(),
            image: self.image.clone(),
            what,
            detail,
        }
    }

    /// A manifest or configuration that is known by its digest.
    pub(crate) async fn document(&self, what: &str, wanted: &Descriptor) -> Result<Vec<u8>, Error> {
        let is_manifest = matches!(
            wanted.media_type.as_str(),
            OCI_MANIFEST | OCI_INDEX | DOCKER_MANIFEST | DOCKER_LIST
        );
        let kind = if is_manifest { "manifests" } else { "blobs" };
        let url = format!("{}/{kind}/{}", self.base().await, wanted.digest);
        let (bytes, _) = self
            .whole(&url, what, &format!("blob {}", wanted.digest))
            .await?;
        if bytes.len() as u64 != wanted.size {
            return Err(Error::size(
                format!("size of {what}"),
                wanted.size,
                bytes.len() as u64,
            ));
        }
        let actual = Digest::of(&bytes);
        if actual != wanted.digest {
            return Err(Error::digest(
                format!("digest of {what}"),
                wanted.digest,
                actual,
            ));
        }
        Ok(bytes)
    }

    /// A small body, whole, and its headers.
    async fn whole(
        &self,
        url: &str,
        what: &str,
        thing: &str,
    ) -> Result<(Vec<u8>, HeaderMap), Error> {
        let mut attempt = 1;
        loop {
            let result = async {
                let response = self.get(url, thing, &|r| r).await?;
                self.body(response, what).await
            };
            match result.await {
                Ok(whole) => return Ok(whole),
                Err(failure) => self.wait(failure, attempt).await?,
            }
            attempt += 1;
        }
    }

    async fn body(
        &self,
        mut response: Response,
        what: &str,
    ) -> Result<(Vec<u8>, HeaderMap), Failure> {
        let headers = response.headers().clone();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.cut(&e))? {
            bytes.extend_from_slice(&chunk);
            crate::store::check_document_size(what, bytes.len() as u64).map_err(Failure::last)?;
        }
        Ok((bytes, headers))
    }

    /// One GET of something that has to be there.
    pub(crate) async fn get(
        &self,
        url: &str,
        thing: &str,
        shape: Shape<'_>,
    ) -> Result<Response, Failure> {
        let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, "*/*"].join(", ");
        let shape = |request: RequestBuilder| shape(request.header(ACCEPT, &accept));
        let response = self.request(Method::GET, url, &shape).await?;
        self.check(response, thing).await
    }

    /// One request, made twice where the registry asks for credentials in between. The answer may be any.
    pub(crate) async fn request(
        &self,
        method: Method,
        url: &str,
        shape: Shape<'_>,
    ) -> Result<Response, Failure> {
        let url = Url::parse(url).map_err(|e| {
            let reason = format!("an address that is none, {url:?}: {e}");
            Failure::last(self.protocol(reason))
        })?;
        let known = self.pass.current().await;
        let response = self.send(&method, &url, shape, known.as_ref()).await?;
        // Whoever else asks for credentials, on a way that a registry sent us, gets none.
        let ours = response.url().origin() == url.origin();
        if response.status() != StatusCode::UNAUTHORIZED || !ours {
            return Ok(response);
        }
        let authorization = self.authorize(known, response.headers()).await?;
        self.send(&method, &url, shape, Some(&authorization)).await
    }

    /// Sends a request, and follows where a read is sent to. Only the place that was asked for is shown credentials.
    async fn send(
        &self,
        method: &Method,
        url: &Url,
        shape: Shape<'_>,
        authorization: Option<&Authorization>,
    ) -> Result<Response, Failure> {
        let may_follow = matches!(*method, Method::GET | Method::HEAD);
        let mut at = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = shape(self.http.request(method.clone(), at.clone()));
            if let Some(authorization) = authorization.filter(|_| at.origin() == url.origin()) {
                request = authorization.on(request);
            }
            let response = request.send().await.map_err(|e| self.cut(&e))?;
            let location = response.headers().get(LOCATION).cloned();
            let Some(location) =
                location.filter(|_| may_follow && response.status().is_redirection())
            else {
                return Ok(response);
            };
            let next = location.to_str().ok().and_then(|l| at.join(l).ok());
            at = next.filter(may_reach).ok_or_else(|| {
                let reason = "it redirects to plain HTTP, or to no address".to_owned();
                Failure::last(self.protocol(reason))
            })?;
        }
        let reason = format!("it redirects more than {REDIRECTS_MAX} times");
        Err(Failure::last(self.protocol(reason)))
    }

    /// Waits before the next attempt, or gives the failure back if there is to be none.
    pub(crate) async fn wait(&self, failure: Failure, attempt: u32) -> Result<(), Error> {
        if !failure.transient || attempt >= self.options.attempts {
            return Err(failure.error);
        }
        let doubled = self
            .options
            .backoff
            .saturating_mul(1 << (attempt - 1).min(16))
            .min(BACKOFF_MAX);
        let after = failure.retry_after.unwrap_or(doubled);
        if after > self.options.patience {
            return Err(failure.error);
        }
        self.options.report(Progress::Retry {
            reason: failure.error.to_string(),
            after,
        });
        tokio::time::sleep(after).await;
        Ok(())
    }
}

fn shortened(tags: &[String]) -> String {
    let shown: Vec<&str> = tags.iter().take(TAGS_SHOWN).map(String::as_str).collect();
    let more = tags.len().saturating_sub(TAGS_SHOWN);
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
