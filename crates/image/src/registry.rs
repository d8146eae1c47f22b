//! Pulls: documents first, what can't run refused at once, then the layers side by side, each unpacked as it comes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};

use crate::blob::{BlobWriter, Expected};
use crate::certificates::Certificates;
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::Error;
use crate::http::Connection;
use crate::image::{Image, Walk};
use crate::lock::Lock;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::store::{Store, check_document_size};
use crate::token::Action;

/// Chunks on their way from the network to the disk, at most; with a chunk's size this bounds a pull's memory.
const CHUNKS_IN_FLIGHT: usize = 16;

/// What happens during a pull, for a progress bar. Sent from any thread.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// The manifest is known.
    Resolved {
        /// What the name stands for.
        digest: Digest,
        /// Bytes that will be fetched.
        bytes: u64,
        /// Layers (or modules) among them.
        layers: usize,
    },
    /// So many more bytes were fetched.
    Fetched {
        /// Bytes since the last such report.
        bytes: u64,
    },
    /// A request failed and will be made again.
    Retry {
        /// Why.
        reason: String,
        /// When.
        after: Duration,
    },
    /// A layer is whole and being unpacked.
    Unpacking {
        /// Its diffID.
        diff_id: Digest,
    },
}

/// How to pull.
#[derive(Clone)]
pub struct PullOptions {
    /// For this pull alone: every pull has a connection of its own, so that no other can use them.
    pub credentials: Credentials,
    /// Whom to believe, and what to show on a connection.
    pub certificates: Certificates,
    /// How often a request is made before its failure counts, at least 1.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles with each further one.
    pub backoff: Duration,
    /// The longest wait that a registry may ask for (Retry-After); asked for more, the pull fails with that.
    pub patience: Duration,
    /// How long a connection may be silent.
    pub stall: Duration,
    /// The platform that the image must be for, `os/architecture`; `None`: the one that runs here.
    pub platform: Option<String>,
    /// How many layers are fetched at once.
    pub parallel: usize,
    /// Told what happens.
    pub progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

impl Default for PullOptions {
    fn default() -> PullOptions {
        PullOptions {
            credentials: Credentials::Anonymous,
            certificates: Certificates::default(),
            attempts: 5,
            backoff: Duration::from_millis(500),
            patience: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            platform: None,
            parallel: 4,
            progress: None,
        }
    }
}

impl fmt::Debug for PullOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PullOptions")
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

impl PullOptions {
    pub(crate) fn report(&self, progress: Progress) {
        if let Some(report) = &self.progress {
            report(progress);
        }
    }
}

impl Store {
    /// Asks the registry what `name` stands for now, fetches what the store lacks, and unpacks it. Whoever asks for the
    /// same blob at once, here or in another process, waits for the first. May be dropped at any time.
    ///
    /// # Errors
    /// `Refused`, `NotFound`, `Throttled`, `Unavailable`, `Protocol` from the registry; `Platform`, `NoPlatform`,
    /// `OtherPlatform`, `Unsupported`, `TooLarge` before a layer is fetched; `Mismatch` where bytes are not those promised; and what
    /// unpacking gives.
    pub async fn pull(&self, name: &Reference, options: &PullOptions) -> Result<Image, Error> {
        let store = self.clone();
        let lock = tokio::task::spawn_blocking(move || store.lock_against_collection());
        let lock = lock
            .await
            .unwrap_or(Err(Error::Interrupted("locking the store")))?;
        let held = Held(Arc::new(lock));
        let connection = Connection::open(name, options, Action::Pull)?;
        let root = self.pull_root(&held, &connection, name).await?;
        let platform = options.platform.as_deref();
        let mut walk = Walk::new(&name.to_string(), root).only_for(platform);
        let content = loop {
            let (wanted, what) = (walk.wanted().clone(), walk.what());
            let bytes = self
                .pull_document(&held, &connection, &what, &wanted)
                .await?;
            if let Some(content) = walk.give(&bytes, self.limits())? {
                break content;
            }
        };
        let root = walk.into_root();
        let mut bytes = 0;
        let mut pulls = Vec::new();
        for (blob, diff_id) in &content.blobs {
            if !self.has_content(blob, *diff_id) {
                bytes += blob.size;
            }
            pulls.push(Box::pin(self.pull_layer(
                &held,
                &connection,
                blob,
                *diff_id,
            )));
        }
        options.report(Progress::Resolved {
            digest: root.digest,
            bytes,
            layers: content.blobs.len(),
        });
        let mut pulls = futures::stream::iter(pulls).buffer_unordered(options.parallel.max(1));
        while let Some(result) = pulls.next().await {
            result?;
        }
        drop(pulls);
        let (store, name) = (self.clone(), name.clone());
        held.blocking("naming an image", move || store.finish(&name, &root))
            .await
    }

    async fn pull_root(
        &self,
        held: &Held,
        connection: &Connection<'_>,
        name: &Reference,
    ) -> Result<Descriptor, Error> {
        let manifest = connection.manifest(name).await?;
        let store = self.clone();
        let (what, bytes) = (format!("the manifest of {name}"), manifest.bytes);
        let blob = held
            .blocking("storing a manifest", move || store.put(&what, &bytes))
            .await?;
        Ok(Descriptor::new(
            &manifest.media_type,
            blob.digest,
            blob.size,
        ))
    }

    /// A document that another one names: from the store if it is there.
    async fn pull_document(
        &self,
        held: &Held,
        connection: &Connection<'_>,
        what: &str,
        wanted: &Descriptor,
    ) -> Result<Vec<u8>, Error> {
        check_document_size(what, wanted.size)?;
        let (store, label, digest) = (self.clone(), what.to_owned(), wanted.digest);
        if let Ok(Some(bytes)) = held
            .blocking("reading a document", move || store.document(&label, digest))
            .await
        {
            return Ok(bytes);
        }
        let bytes = connection.document(what, wanted).await?;
        let (store, label) = (self.clone(), what.to_owned());
        held.blocking("storing a document", move || {
            store.put(&label, &bytes).map(|_| bytes)
        })
        .await
    }

    async fn pull_layer(
        &self,
        held: &Held,
        connection: &Connection<'_>,
        blob: &Descriptor,
        diff_id: Option<Digest>,
    ) -> Result<(), Error> {
        if !self.has_content(blob, diff_id) {
            self.pull_blob(held, connection, blob).await?;
        }
        let Some(diff_id) = diff_id else {
            return Ok(());
        };
        connection.options.report(Progress::Unpacking { diff_id });
        let (store, blob) = (self.clone(), Expected::from(blob));
        held.blocking("unpacking a layer", move || {
            store.layer(diff_id, blob).map(|_| ())
        })
        .await
    }

    /// A thread hashes and writes what this task receives; between them is a short queue, so memory stays constant.
    async fn pull_blob(
        &self,
        held: &Held,
        connection: &Connection<'_>,
        blob: &Descriptor,
    ) -> Result<(), Error> {
        let what = format!("layer {}", blob.digest);
        let (chunks, received) = mpsc::channel(CHUNKS_IN_FLIGHT);
        let (ready, is_ready) = oneshot::channel();
        let (store, label, expected) = (self.clone(), what.clone(), Expected::from(blob));
        let writing = held.blocking("writing a layer", move || {
            write_blob(&store, &label, expected, ready, received)
        });
        let fetched = match is_ready.await {
            // Someone else fetched it meanwhile, or the writer failed and tells below.
            Err(_) => Ok(()),
            Ok(()) => connection.blob(&what, blob, &chunks).await,
        };
        drop(chunks);
        let written = writing.await;
        // A cut transfer makes the writer miss bytes: the cause is what to tell. A full disk makes the transfer stop.
        match (fetched, written) {
            (Err(Error::Interrupted(_)), written) => written,
            (fetched, written) => fetched.and(written),
        }
    }
}

fn write_blob(
    store: &Store,
    what: &str,
    expected: Expected,
    ready: oneshot::Sender<()>,
    mut chunks: mpsc::Receiver<bytes::Bytes>,
) -> Result<(), Error> {
    let _lock = store.lock_digest(expected.digest)?;
    if store.has_blob(expected) {
        return Ok(());
    }
    let mut writer = BlobWriter::create(store, what, Some(expected))?;
    if ready.send(()).is_err() {
        return Err(Error::Interrupted("a pull"));
    }
    while let Some(chunk) = chunks.blocking_recv() {
        writer.write(&chunk)?;
    }
    writer.commit().map(|_| ())
}

/// The pull's lock against the collector. Each thread at work holds it too, since it outlives a pull that is dropped.
struct Held(Arc<Lock>);

impl Held {
    /// Runs what blocks on a thread for that.
    fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send + 'static {
        let lock = Arc::clone(&self.0);
        let thread = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(lock);
            result
        });
        async move { thread.await.unwrap_or(Err(Error::Interrupted(what))) }
    }
}
