//! Pushes: blobs side by side, each only where the registry lacks it, then manifests, what is named before what names
//! it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder};

use crate::answer::Failure;
use crate::bundle::Bundle;
use crate::digest::Digest;
use crate::error::Error;
use crate::http::Connection;
use crate::lock::Lock;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::registry::PullOptions;
use crate::store::Store;
use crate::token::Action;
use crate::upload::Upload;

/// How many other names are looked through for repositories that may have the same blobs.
const MOUNTS_FROM: usize = 64;
/// In place of the client's own limit: how long an answer may take is watched here, since a request of gigabytes has no
/// answer before its end.
const NO_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What happens during a push, for a progress bar. Sent from any thread.
#[derive(Clone, Debug, PartialEq)]
pub enum Sending {
    /// What is to be there in the end.
    Begun {
        /// Bytes of all blobs.
        bytes: u64,
        /// How many.
        blobs: usize,
    },
    /// So many more bytes were sent.
    Sent {
        /// Bytes since the last such report.
        bytes: u64,
    },
    /// A blob is there.
    Done {
        /// Which.
        digest: Digest,
        /// Its size, in bytes.
        bytes: u64,
        /// How it came there.
        how: Delivery,
    },
}

/// How a blob came to be in a repository.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// It was there already.
    Present,
    /// The registry took it from another repository.
    Mounted {
        /// Which.
        from: String,
    },
    /// It was sent.
    Sent,
}

/// What a push left in the registry.
#[derive(Clone, Debug, PartialEq)]
pub struct Pushed {
    /// What the name stands for there. Another than in the store where that has one platform of several.
    pub digest: Digest,
    /// The size of that manifest or index, in bytes.
    pub size: u64,
}

/// Told what happens.
pub type Told = Arc<dyn Fn(Sending) + Send + Sync>;

impl Store {
    /// Sends the image `name` to the registry, repository and tag of `to`. Of the options, those of requests count; each
    /// blob goes on where a cut connection left off, where the registry can say where that is. Takes constant memory.
    /// May be dropped at any time: the registry keeps whole blobs alone.
    ///
    /// # Errors
    /// `NotPresent` and `Unsupported` for what the store has not; `Refused`, `NotFound`, `Throttled`, `Unavailable`,
    /// `Protocol`, `Untrusted` from the registry; `Io` where a blob can't be read.
    pub async fn push(
        &self,
        name: &Reference,
        to: &Reference,
        options: &PullOptions,
        told: Told,
    ) -> Result<Pushed, Error> {
        let (store, from, target) = (self.clone(), name.clone(), to.clone());
        let gathered = tokio::task::spawn_blocking(move || store.gather_for(&from, &target));
        let (_lock, bundle, mounts) = gathered
            .await
            .unwrap_or(Err(Error::Interrupted("reading an image")))?;
        if to.digest().is_some_and(|d| d != bundle.root.digest) {
            let reason = format!("{name} is {}; leave the digest out", bundle.root.digest);
            return Err(Error::input(to.to_string(), reason));
        }
        let requests = PullOptions {
            stall: NO_LIMIT,
            ..options.clone()
        };
        let push = Push {
            store: self,
            connection: Connection::open(to, &requests, Action::Push)?,
            stall: options.stall,
            told,
        };
        push.all(&bundle, &mounts, options.parallel).await?;
        let last = to.digest().map(|d| d.to_string());
        let last = last.or(to.tag().map(str::to_owned)).unwrap_or_default();
        for (descriptor, bytes) in &bundle.manifests {
            let by = match descriptor.digest == bundle.root.digest {
                true => last.clone(),
                false => descriptor.digest.to_string(),
            };
            let described = match descriptor.digest == bundle.root.digest {
                true => &bundle.root,
                false => descriptor,
            };
            push.manifest(&by, described, bytes).await?;
        }
        Ok(Pushed {
            digest: bundle.root.digest,
            size: bundle.root.size,
        })
    }

    /// The image, and where else the registry may have its blobs. The collector is kept away meanwhile.
    #[allow(clippy::type_complexity)]
    fn gather_for(
        &self,
        name: &Reference,
        to: &Reference,
    ) -> Result<(Lock, Bundle, HashMap<Digest, String>), Error> {
        let lock = self.lock_against_collection()?;
        let bundle = self.bundle(name)?;
        let mut mounts = HashMap::new();
        let elsewhere = self.list()?.into_iter().filter(|other| {
            let other = &other.reference;
            other.registry() == to.registry() && other.repository() != to.repository()
        });
        for other in elsewhere.take(MOUNTS_FROM) {
            // One that is not whole mounts nothing; what it lacks is nobody's error here.
            let Ok(found) = self.bundle(&other.reference) else {
                continue;
            };
            for blob in found.blobs {
                let repository = other.reference.repository().to_owned();
                mounts.entry(blob.digest).or_insert(repository);
            }
        }
        Ok((lock, bundle, mounts))
    }
}

/// One push.
pub(crate) struct Push<'a> {
    pub(crate) store: &'a Store,
    pub(crate) connection: Connection<'a>,
    /// How long the registry may be silent.
    pub(crate) stall: Duration,
    pub(crate) told: Told,
}

impl Push<'_> {
    async fn all(
        &self,
        bundle: &Bundle,
        mounts: &HashMap<Digest, String>,
        parallel: usize,
    ) -> Result<(), Error> {
        (self.told)(Sending::Begun {
            bytes: bundle.blobs.iter().map(|b| b.size).sum(),
            blobs: bundle.blobs.len(),
        });
        let uploads = bundle
            .blobs
            .iter()
            .map(|blob| Box::pin(self.blob(blob, mounts.get(&blob.digest))));
        let uploads: Vec<_> = uploads.collect();
        let mut uploads = futures::stream::iter(uploads).buffer_unordered(parallel.max(1));
        while let Some(result) = uploads.next().await {
            result?;
        }
        Ok(())
    }

    async fn blob(&self, blob: &Descriptor, mount: Option<&String>) -> Result<(), Error> {
        let mut upload = Upload::new(self, blob, mount.map(String::as_str));
        let mut attempt = 1;
        loop {
            let before = upload.reached();
            let failure = match upload.attempt().await {
                Ok(how) => {
                    (self.told)(Sending::Done {
                        digest: blob.digest,
                        bytes: blob.size,
                        how,
                    });
                    return Ok(());
                }
                Err(failure) => failure,
            };
            // Bytes that the registry has taken are progress: a long blob over a bad line may take many connections.
            attempt = if upload.reached() > before {
                1
            } else {
                attempt
            };
            self.connection.wait(failure, attempt).await?;
            attempt += 1;
        }
    }

    async fn manifest(&self, by: &str, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), Error> {
        let url = format!("{}/manifests/{by}", self.connection.base().await);
        let shape = |request: RequestBuilder| {
            request
                .header(CONTENT_TYPE, &descriptor.media_type)
                .body(bytes.to_vec())
        };
        let mut attempt = 1;
        loop {
            let sent = async {
                let answer = self.connection.request(Method::PUT, &url, &shape);
                let answer = self.in_time(self.stall, answer).await?;
                self.connection
                    .check(answer, &format!("manifest {by}"))
                    .await
            };
            match sent.await {
                Ok(_) => return Ok(()),
                Err(failure) => self.connection.wait(failure, attempt).await?,
            }
            attempt += 1;
        }
    }

    /// A request whose answer has to come within `limit`.
    pub(crate) async fn in_time<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(limit, request).await {
            Ok(answer) => answer,
            Err(_) => Err(self.silent()),
        }
    }

    pub(crate) fn silent(&self) -> Failure {
        self.connection
            .unavailable("it does not answer any more".to_owned(), None)
    }
}
