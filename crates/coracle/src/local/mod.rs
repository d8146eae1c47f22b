//! One machine without a cluster: a session holds the agent, the hands and the guest host of the
//! pods that one `coracle run` or `coracle play` was asked for.
//!
//! ```text
//! <root>/runs/<id>.lock          held for as long as the session lives
//! <root>/runs/<id>.sock          where other commands reach it
//! <root>/runs/<id>/<uid>.json    what is known of a pod that is kept until `rm`
//!                  <uid>.pod     says that a pod is of this session
//!                  out.log       what a detached session says itself
//! <root>/names/<ns>/<pod>        which session has a pod of that name
//! ```
//!
//! A session with one pod has its UID as id. Must not know what a command line is: it is given Pods.

pub(crate) mod alive;
mod board;
pub(crate) mod control;
pub(crate) mod detach;
pub(crate) mod end;
pub(crate) mod events;
pub(crate) mod find;
mod keep;
pub(crate) mod names;
pub(crate) mod record;
mod session;
mod until;
pub(crate) mod words;

pub(crate) use board::Known;
pub(crate) use session::{Options, Session, name_of};
