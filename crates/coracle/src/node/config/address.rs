//! IP addresses of the file, with words that say what is expected.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Deserializer, de};

struct Address(IpAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an IP address such as 10.0.0.1")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Address, E> {
                match text {
                    // What was told as wrong already is read as an empty text.
                    "" => Ok(Address(Ipv4Addr::UNSPECIFIED.into())),
                    text => text.parse().map(Address).map_err(|_| {
                        E::custom(format!("{text:?} is no IP address; write it like 10.0.0.1"))
                    }),
                }
            }
        }
        deserializer.deserialize_str(Text)
    }
}

pub(super) fn one<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    let found = Option::<Address>::deserialize(from)?;
    Ok(found.map(|address| address.0))
}

pub(super) fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpAddr>, D::Error> {
    let found = Vec::<Address>::deserialize(from)?;
    Ok(found.into_iter().map(|address| address.0).collect())
}
