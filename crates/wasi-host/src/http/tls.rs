//! TLS as a client: the machine's certificates, read once, when the first guest needs them.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls_platform_verifier::Verifier;
use tokio::sync::OnceCell;
use wasmtime_wasi_http::Error;

use super::Client;

static MACHINES: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();

/// The protocols that are offered, the better first (RFC 7301).
pub(super) fn protocols() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

/// What a connection is made with.
///
/// # Errors
/// This machine has no certificates.
pub(super) async fn config(client: &Client) -> Result<Arc<ClientConfig>, Error> {
    #[cfg(test)]
    if let Some(config) = &client.trusts {
        return Ok(Arc::clone(config));
    }
    let load = || async {
        let loaded = client.blocking.run(load).await;
        loaded.map_err(|error| error.to_string())?
    };
    let config = MACHINES.get_or_try_init(load).await.cloned();
    config.map_err(|message: String| {
        tracing::warn!(message, "no guest can ask by HTTPS");
        Error::InternalError(Some(message))
    })
}

/// Reads the certificates. It blocks on the disk.
fn load() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(Arc::clone(&provider))
        .map_err(|error| format!("this machine's certificates can't be read: {error}"))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = protocols();
    Ok(Arc::new(config))
}
