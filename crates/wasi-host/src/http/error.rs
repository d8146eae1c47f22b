//! From what goes wrong on the way to the error codes of `wasi:http`.

use std::error::Error as _;
use std::io;

use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

/// What a connection that can't be had is.
pub(super) fn connecting(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            Error::DestinationIpUnroutable
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            Error::ConnectionTerminated
        }
        _ => Error::InternalError(Some(error.to_string())),
    }
}

/// What a TLS handshake that failed is.
pub(super) fn handshaking(error: &io::Error) -> Error {
    let cause = error
        .get_ref()
        .and_then(|e| e.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        Some(_) => Error::TlsProtocolError,
        None => connecting(error),
    }
}

/// What a request or a body that failed half-way is.
pub(super) fn exchanging(error: &hyper::Error) -> Error {
    if let Some(code) = error.source().and_then(|e| e.downcast_ref::<ErrorCode>()) {
        return code.clone().into();
    }
    let io = error.source().and_then(|e| e.downcast_ref::<io::Error>());
    match io {
        _ if error.is_timeout() => Error::HttpResponseTimeout,
        _ if error.is_incomplete_message() => Error::HttpResponseIncomplete,
        _ if error.is_parse() || error.is_user() => Error::HttpProtocolError,
        Some(cut) if cut.kind() == io::ErrorKind::UnexpectedEof => Error::HttpResponseIncomplete,
        Some(error) => connecting(error),
        None if error.is_canceled() || error.is_closed() => Error::ConnectionTerminated,
        None => Error::HttpProtocolError,
    }
}
