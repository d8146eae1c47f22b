//! Requests to one registry on behalf of one pull.
//!
//! `oci-client` does the authentication. The requests are made here, since it hides an answer's headers (Retry-After)
//! and reads manifests of any size into memory.

use std::time::Duration;

use oci_client::RegistryOperation;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use reqwest::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE};
use reqwest::{Response, StatusCode};
use tokio::sync::{Mutex, mpsc};

use crate::answer::{
    Failure, body_start, chain, detail, install_tls_provider, redirects, retry_after,
};
use crate::digest::Digest;
use crate::error::Error;
use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, Descriptor, OCI_INDEX, OCI_MANIFEST};
use crate::reference::Reference;
use crate::registry::{Credentials, Progress, PullOptions};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(20);

/// One pull's way to its registry.
pub(crate) struct Connection<'a> {
    pub(crate) options: &'a PullOptions,
    http: reqwest::Client,
    auth: oci_client::Client,
    target: oci_client::Reference,
    image: String,
    registry: String,
    /// `https://registry/v2/repository`
    base: String,
    /// What to show, once the registry has asked for it.
    authorization: Mutex<Option<Authorization>>,
}

/// A manifest or index as it came.
pub(crate) struct RawManifest {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: String,
}

/// What goes into the header of that name.
#[derive(Clone, PartialEq)]
enum Authorization {
    Bearer(String),
    Basic(String, String),
}

impl<'a> Connection<'a> {
    pub(crate) fn open(
        name: &Reference,
        options: &'a PullOptions,
    ) -> Result<Connection<'a>, Error> {
        install_tls_provider();
        let registry = name.registry().to_owned();
        let broken = |e: String| Error::Protocol {
            registry: registry.clone(),
            reason: e,
        };
        let tag = name.tag().unwrap_or("latest").to_owned();
        let target =
            oci_client::Reference::with_tag(registry.clone(), name.repository().to_owned(), tag);
        let plain = name.is_loopback();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(options.stall)
            .redirect(redirects());
        if plain {
            builder = builder.no_proxy();
        }
        for pem in &options.authorities {
            let certificate = reqwest::Certificate::from_pem(pem).map_err(|e| broken(chain(&e)))?;
            builder = builder.add_root_certificate(certificate);
        }
        let certificate = |pem: &Vec<u8>| Certificate {
            encoding: CertificateEncoding::Pem,
            data: pem.clone(),
        };
        let auth = oci_client::Client::try_from(ClientConfig {
            protocol: if plain {
                ClientProtocol::Http
            } else {
                ClientProtocol::Https
            },
            extra_root_certificates: options.authorities.iter().map(certificate).collect(),
            read_timeout: Some(options.stall),
            connect_timeout: Some(CONNECT_TIMEOUT),
            ..ClientConfig::default()
        });
        Ok(Connection {
            options,
            http: builder.build().map_err(|e| broken(chain(&e)))?,
            auth: auth.map_err(|e| broken(e.to_string()))?,
            image: name.to_string(),
            base: format!(
                "{}://{}/v2/{}",
                if plain { "http" } else { "https" },
                target.resolve_registry(),
                name.repository()
            ),
            target,
            registry,
            authorization: Mutex::new(None),
        })
    }

    /// What the name stands for.
    pub(crate) async fn manifest(&self, name: &Reference) -> Result<RawManifest, Error> {
        let digest = name.digest();
        let last = digest
            .map(|d| d.to_string())
            .or(name.tag().map(str::to_owned))
            .unwrap_or_default();
        let url = format!("{}/manifests/{last}", self.base);
        let what = format!("the manifest of {name}");
        let (bytes, headers) = self.whole(&url, &what, "repository, tag or digest").await?;
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

    /// A manifest or configuration that is known by its digest.
    pub(crate) async fn document(&self, what: &str, wanted: &Descriptor) -> Result<Vec<u8>, Error> {
        let is_manifest = matches!(
            wanted.media_type.as_str(),
            OCI_MANIFEST | OCI_INDEX | DOCKER_MANIFEST | DOCKER_LIST
        );
        let kind = if is_manifest { "manifests" } else { "blobs" };
        let url = format!("{}/{kind}/{}", self.base, wanted.digest);
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

    /// Sends a blob's bytes into `chunks`, going on where a cut connection left off.
    pub(crate) async fn blob(
        &self,
        what: &str,
        blob: &Descriptor,
        chunks: &mpsc::Sender<bytes::Bytes>,
    ) -> Result<(), Error> {
        let url = format!("{}/blobs/{}", self.base, blob.digest);
        let mut sent = 0;
        let mut attempt = 1;
        loop {
            let before = sent;
            let Err(failure) = self.blob_once(&url, what, blob, chunks, &mut sent).await else {
                return Ok(());
            };
            // Bytes that came are progress: a long layer over a bad line may take many connections.
            attempt = if sent > before { 1 } else { attempt };
            self.wait(failure, attempt).await?;
            attempt += 1;
        }
    }

    async fn blob_once(
        &self,
        url: &str,
        what: &str,
        blob: &Descriptor,
        chunks: &mpsc::Sender<bytes::Bytes>,
        sent: &mut u64,
    ) -> Result<(), Failure> {
        let mut response = self
            .get(url, &format!("blob {}", blob.digest), *sent)
            .await?;
        let mut skip = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response
                    .headers()
                    .get(CONTENT_RANGE)
                    .and_then(|v| v.to_str().ok())
                    .unwrap_or_default();
                if !range.starts_with(&format!("bytes {sent}-")) {
                    return Err(Failure::last(self.protocol(format!(
                        "asked for bytes from {sent} on, got {range:?}"
                    ))));
                }
                0
            }
            // The registry knows no ranges: the bytes that are there already come again.
            _ => *sent,
        };
        let length = response.content_length();
        while let Some(mut chunk) = response.chunk().await.map_err(|e| self.cut(&e))? {
            let repeated = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= repeated as u64;
            let chunk = chunk.split_off(repeated);
            if chunk.is_empty() {
                continue;
            }
            let n = chunk.len() as u64;
            // The writer is gone: a full disk, or more bytes than promised. It has the better error.
            chunks
                .send(chunk)
                .await
                .map_err(|_| Failure::last(Error::Interrupted("writing a layer")))?;
            *sent += n;
            self.options.report(Progress::Fetched { bytes: n });
        }
        if *sent < blob.size && length.is_none() {
            // An end without a length may be a cut as well as a short blob; the next attempt tells.
            return Err(self.transient(format!("{what} ended after {sent} of {} bytes", blob.size)));
        }
        Ok(())
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
                let mut response = self.get(url, thing, 0).await?;
                let headers = response.headers().clone();
                let mut bytes = Vec::new();
                while let Some(chunk) = response.chunk().await.map_err(|e| self.cut(&e))? {
                    bytes.extend_from_slice(&chunk);
                    crate::store::check_document_size(what, bytes.len() as u64)
                        .map_err(Failure::last)?;
                }
                Ok((bytes, headers))
            };
            match result.await {
                Ok(whole) => return Ok(whole),
                Err(failure) => self.wait(failure, attempt).await?,
            }
            attempt += 1;
        }
    }

    /// One GET, made twice where the registry asks for credentials in between.
    async fn get(&self, url: &str, thing: &str, from: u64) -> Result<Response, Failure> {
        let known = self.authorization.lock().await.clone();
        let response = self.send(url, known.as_ref(), from).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.check(response, thing).await;
        }
        let authorization = self.authorize(known).await?;
        let response = self.send(url, authorization.as_ref(), from).await?;
        self.check(response, thing).await
    }

    async fn send(
        &self,
        url: &str,
        authorization: Option<&Authorization>,
        from: u64,
    ) -> Result<Response, Failure> {
        let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, "*/*"].join(", ");
        let mut request = self.http.get(url).header(ACCEPT, accept);
        request = match authorization {
            Some(Authorization::Bearer(token)) => request.bearer_auth(token),
            Some(Authorization::Basic(user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        };
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        request.send().await.map_err(|e| self.cut(&e))
    }

    /// Gets a token, or the user's own header; unless another request of this pull just did.
    async fn authorize(
        &self,
        stale: Option<Authorization>,
    ) -> Result<Option<Authorization>, Failure> {
        let mut current = self.authorization.lock().await;
        if *current != stale {
            return Ok(current.clone());
        }
        let auth = match &self.options.credentials {
            Credentials::Anonymous => RegistryAuth::Anonymous,
            Credentials::Basic(user, password) => {
                RegistryAuth::Basic(user.clone(), password.clone())
            }
            Credentials::Bearer(token) => RegistryAuth::Bearer(token.clone()),
        };
        let token = self.auth.auth(&self.target, &auth, RegistryOperation::Pull);
        let token = tokio::time::timeout(self.options.stall + CONNECT_TIMEOUT, token).await;
        let token =
            token.map_err(|_| self.transient("its token service doesn't answer".to_owned()))?;
        *current = match (token.map_err(|e| self.unauthorised(e))?, &auth) {
            (Some(token), _) => Some(Authorization::Bearer(token)),
            (None, RegistryAuth::Basic(user, password)) => {
                Some(Authorization::Basic(user.clone(), password.clone()))
            }
            (None, _) => None,
        };
        Ok(current.clone())
    }

    fn unauthorised(&self, error: OciDistributionError) -> Failure {
        match error {
            OciDistributionError::AuthenticationFailure(answer) => {
                Failure::last(self.refused("401 Unauthorized", &detail(answer.as_bytes())))
            }
            OciDistributionError::RequestError(e) => self.cut(&e),
            other => Failure::last(self.protocol(other.to_string())),
        }
    }

    /// Makes an error of an answer that is not a success.
    async fn check(&self, response: Response, thing: &str) -> Result<Response, Failure> {
        let status = response.status();
        if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Ok(response);
        }
        let retry_after = retry_after(response.headers());
        let detail = detail(&body_start(response).await);
        let registry = self.registry.clone();
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Failure::last(self.refused(&status.to_string(), &detail))
            }
            StatusCode::NOT_FOUND => {
                let (image, what) = (self.image.clone(), thing.to_owned());
                Failure::last(Error::NotFound {
                    registry,
                    image,
                    what,
                    detail,
                })
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let error = Error::Throttled {
                    registry,
                    detail,
                    retry_after,
                };
                Failure {
                    error,
                    transient: true,
                    retry_after,
                }
            }
            s if s.is_server_error() || s == StatusCode::REQUEST_TIMEOUT => {
                let error = Error::Unavailable {
                    registry,
                    reason: format!("{status}{detail}"),
                };
                Failure {
                    error,
                    transient: true,
                    retry_after,
                }
            }
            _ => Failure::last(
                self.protocol(format!("unexpected answer {status} for {thing}{detail}")),
            ),
        })
    }

    /// Waits before the next attempt, or gives the failure back if there is to be none.
    async fn wait(&self, failure: Failure, attempt: u32) -> Result<(), Error> {
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

    fn refused(&self, status: &str, detail: &str) -> Error {
        let advice = match self.options.credentials {
            Credentials::Anonymous => "no credentials were given for it",
            _ => "check the credentials and what they may read",
        };
        Error::Refused {
            registry: self.registry.clone(),
            image: self.image.clone(),
            status: status.to_owned(),
            detail: detail.to_owned(),
            advice,
        }
    }

    fn protocol(&self, reason: String) -> Error {
        Error::Protocol {
            registry: self.registry.clone(),
            reason,
        }
    }

    fn transient(&self, reason: String) -> Failure {
        let error = Error::Unavailable {
            registry: self.registry.clone(),
            reason,
        };
        Failure {
            error,
            transient: true,
            retry_after: None,
        }
    }

    fn cut(&self, error: &reqwest::Error) -> Failure {
        if error.is_redirect() || error.is_builder() {
            return Failure::last(self.protocol(chain(error)));
        }
        self.transient(chain(error))
    }
}
