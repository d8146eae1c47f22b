//! `wasi:sockets` in the guest's network: as preview2 has it here, with its addresses translated
//! and its descriptors counted, in the words of preview3.

mod lookup;
mod tcp;
mod udp;

use std::io;

use wasmtime_wasi::p2::SocketError as P2Error;
use wasmtime_wasi::p2::bindings::sockets::network::{
    ErrorCode as P2Code, IpAddressFamily as P2Family, IpSocketAddress as P2Address,
};
use wasmtime_wasi::p3::bindings::sockets::types::{
    self, ErrorCode, IpAddressFamily, IpSocketAddress,
};
use wasmtime_wasi::p3::sockets::SocketError;

use super::pipe::Code;
use crate::p2::SocketsView;

impl types::Host for SocketsView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }
}

impl Code for ErrorCode {
    fn of(error: &io::Error) -> ErrorCode {
        match error.kind() {
            io::ErrorKind::BrokenPipe => ErrorCode::ConnectionBroken,
            _ => ErrorCode::from(error),
        }
    }

    fn other(error: &wasmtime::Error) -> ErrorCode {
        if let Some(code) = error.downcast_ref::<wasmtime_wasi::sockets::ErrorCode>() {
            return ErrorCode::from(*code);
        }
        error
            .downcast_ref::<P2Code>()
            .map_or(ErrorCode::Other(None), |code| of_preview2(*code))
    }
}

/// An error of preview2's sockets.
fn of_preview2(code: P2Code) -> ErrorCode {
    match code {
        P2Code::AccessDenied => ErrorCode::AccessDenied,
        P2Code::NotSupported => ErrorCode::NotSupported,
        P2Code::InvalidArgument => ErrorCode::InvalidArgument,
        P2Code::OutOfMemory => ErrorCode::OutOfMemory,
        P2Code::Timeout => ErrorCode::Timeout,
        P2Code::InvalidState | P2Code::NotInProgress | P2Code::ConcurrencyConflict => {
            ErrorCode::InvalidState
        }
        P2Code::NewSocketLimit => ErrorCode::Other(Some("too many open files".to_owned())),
        P2Code::AddressNotBindable => ErrorCode::AddressNotBindable,
        P2Code::AddressInUse => ErrorCode::AddressInUse,
        P2Code::RemoteUnreachable => ErrorCode::RemoteUnreachable,
        P2Code::ConnectionRefused => ErrorCode::ConnectionRefused,
        P2Code::ConnectionReset => ErrorCode::ConnectionReset,
        P2Code::ConnectionAborted => ErrorCode::ConnectionAborted,
        P2Code::DatagramTooLarge => ErrorCode::DatagramTooLarge,
        _ => ErrorCode::Other(None),
    }
}

fn error(error: P2Error) -> SocketError {
    match error.downcast() {
        Ok(code) => of_preview2(code).into(),
        Err(trap) => SocketError::trap(trap),
    }
}

fn family(family: IpAddressFamily) -> P2Family {
    match family {
        IpAddressFamily::Ipv4 => P2Family::Ipv4,
        IpAddressFamily::Ipv6 => P2Family::Ipv6,
    }
}

fn address(address: IpSocketAddress) -> P2Address {
    std::net::SocketAddr::from(address).into()
}

fn shown(address: P2Address) -> IpSocketAddress {
    std::net::SocketAddr::from(address).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_either_layer_keep_their_meaning() {
        let refused = wasmtime::Error::from(P2Code::ConnectionRefused);
        assert!(matches!(
            ErrorCode::other(&refused),
            ErrorCode::ConnectionRefused
        ));
        assert!(matches!(ErrorCode::broken(), ErrorCode::ConnectionBroken));
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert!(matches!(ErrorCode::of(&reset), ErrorCode::ConnectionReset));
    }
}
