//! What is shown to a registry, and never to anyone else.

use std::fmt;

/// Who asks a registry.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// A user's name and password (or token in its place).
    Basic(String, String),
    /// A registry token, sent as it is.
    Bearer(String),
    /// A refresh token, which the registry's token service takes in place of a password ("identity token").
    Identity(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Anonymous => f.write_str("Anonymous"),
            Credentials::Basic(user, _) => write!(f, "Basic({user:?}, …)"),
            Credentials::Bearer(_) => f.write_str("Bearer(…)"),
            Credentials::Identity(_) => f.write_str("Identity(…)"),
        }
    }
}
