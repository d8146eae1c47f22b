//! Addresses of pods on a machine without a cluster, where all of 127.0.0.0/8 is local.
//!
//! A pod's address comes from its UID, so that it is the same wherever it can be. It is claimed by
//! the name of an abstract Unix socket: those are the network namespace's, as the addresses are, so
//! that no two coracles of any user have one address there, and the kernel lets go of a claim
//! however its process ends.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};

use runtime::Network;
use sha2::{Digest, Sha256};

/// How many addresses are tried for one pod.
const TRIES: u32 = 4096;

/// Why a pod has no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    /// So many are taken that something is wrong.
    #[error(
        "{TRIES} addresses of 127.64.0.0/10 were tried and are taken; end some of the pods on this machine"
    )]
    Taken,
    /// The claim can't be made.
    #[error("can't claim the address {ip} for the pod")]
    Claim {
        /// Which.
        ip: IpAddr,
        /// The system's words.
        #[source]
        source: io::Error,
    },
}

/// The addresses of this process's pods, by their UIDs.
#[derive(Debug, Default)]
pub(crate) struct Addresses(Mutex<HashMap<String, Claim>>);

#[derive(Debug)]
struct Claim {
    ip: IpAddr,
    _held: UnixDatagram,
}

impl Addresses {
    /// The pod's address: the one that it has, or a new one.
    ///
    /// # Errors
    /// [`AddressError`]
    pub(crate) fn claim(&self, uid: &str) -> Result<IpAddr, AddressError> {
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claim) = claims.get(uid) {
            return Ok(claim.ip);
        }
        let claim = claim(first(uid))?;
        let ip = claim.ip;
        claims.insert(uid.to_owned(), claim);
        Ok(ip)
    }

    /// The address that the pod has.
    pub(crate) fn of(&self, uid: &str) -> Option<IpAddr> {
        let claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        claims.get(uid).map(|claim| claim.ip)
    }

    /// Gives the pod's address back.
    pub(crate) fn release(&self, uid: &str) {
        let mut claims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        claims.remove(uid);
    }
}

/// Which number a pod begins to look at.
fn first(uid: &str) -> u32 {
    let digest = Sha256::digest(uid);
    digest
        .iter()
        .take(4)
        .fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn claim(first: u32) -> Result<Claim, AddressError> {
    for offset in 0..TRIES {
        let ip = Network::local_pod(first.wrapping_add(offset));
        match hold(ip) {
            Ok(held) => return Ok(Claim { ip, _held: held }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(source) => return Err(AddressError::Claim { ip, source }),
        }
    }
    Err(AddressError::Taken)
}

fn hold(ip: IpAddr) -> io::Result<UnixDatagram> {
    let name = SocketAddr::from_abstract_name(format!("coracle/pod/{ip}"))?;
    UnixDatagram::bind_addr(&name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_keeps_its_address_and_no_two_have_one() {
        let (here, there) = (Addresses::default(), Addresses::default());
        let ip = here.claim("one").unwrap();
        assert!(runtime::is_of_local_pods(ip));
        assert_eq!(here.claim("one").unwrap(), ip);
        assert_eq!(here.of("one"), Some(ip));
        // Another process's pod, by chance of the same number.
        let other = there.claim("one").unwrap();
        assert_ne!(other, ip);
        assert_ne!(here.claim("two").unwrap(), ip);
    }

    #[test]
    fn what_was_given_back_is_free() {
        let addresses = Addresses::default();
        let ip = addresses.claim("given-back").unwrap();
        addresses.release("given-back");
        assert_eq!(addresses.of("given-back"), None);
        assert_eq!(Addresses::default().claim("given-back").unwrap(), ip);
    }
}
