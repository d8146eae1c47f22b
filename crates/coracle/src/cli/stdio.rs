//! What of coracle's own standard streams a guest is given.

/// `-i` and `-t`.
///
/// The terminal stays as it is: a guest gets no signals, so that a Ctrl-C that reached it as a byte
/// would stop nothing. With the terminal's own line discipline it stops the pod, gracefully.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attach {
    /// The guest reads coracle's standard input; else it finds the end of it at once.
    pub(crate) stdin: bool,
    /// The guest is told that its stdio is a terminal.
    pub(crate) tty: bool,
}
