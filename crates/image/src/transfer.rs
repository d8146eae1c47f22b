//! A blob on its way from a registry: in pieces, over as many connections as it takes.

use bytes::Bytes;

use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{RequestBuilder, StatusCode};
use tokio::sync::mpsc;

use crate::answer::Failure;
use crate::error::Error;
use crate::http::Connection;
use crate::manifest::Descriptor;
use crate::registry::Progress;

/// How often a blob may go on after a cut: whoever sends a byte a connection would keep us for ever.
const RESUMES_MAX: u32 = 1000;

impl Connection<'_> {
    /// Sends a blob's bytes into `chunks`, going on where a cut connection left off.
    pub(crate) async fn blob(
        &self,
        what: &str,
        blob: &Descriptor,
        chunks: &mpsc::Sender<Bytes>,
    ) -> Result<(), Error> {
        let url = format!("{}/blobs/{}", self.base().await, blob.digest);
        let mut sent = 0;
        let mut attempt = 1;
        for _ in 0..RESUMES_MAX {
            let before = sent;
            let Err(failure) = self.blob_once(&url, what, blob, chunks, &mut sent).await else {
                return Ok(());
            };
            if failure.transient && sent == blob.size && blob.size > 0 {
                // Cut at its very end: its digest will tell.
                return Ok(());
            }
            // Bytes that came are progress: a long layer over a bad line may take many connections.
            attempt = if sent > before { 1 } else { attempt };
            self.wait(failure, attempt).await?;
            attempt += 1;
        }
        let reason = format!("{what} was cut {RESUMES_MAX} times");
        Err(self.unavailable(reason, None).error)
    }

    async fn blob_once(
        &self,
        url: &str,
        what: &str,
        blob: &Descriptor,
        chunks: &mpsc::Sender<Bytes>,
        sent: &mut u64,
    ) -> Result<(), Failure> {
        let from = *sent;
        let thing = format!("blob {}", blob.digest);
        let ranged = |request: RequestBuilder| match from {
            0 => request,
            from => request.header(RANGE, format!("bytes={from}-")),
        };
        let mut response = self.get(url, &thing, &ranged).await?;
        let mut skip = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response
                    .headers()
                    .get(CONTENT_RANGE)
                    .and_then(|v| v.to_str().ok())
                    .unwrap_or_default();
                if !range.starts_with(&format!("bytes {from}-")) {
                    let reason = format!("asked for bytes from {from} on, it sends {range:?}");
                    return Err(Failure::last(self.protocol(reason)));
                }
                0
            }
            // The registry knows no ranges: the bytes that are there already come again.
            _ => from,
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
            let reason = format!("{what} ended after {sent} of {} bytes", blob.size);
            return Err(self.unavailable(reason, None));
        }
        Ok(())
    }
}
