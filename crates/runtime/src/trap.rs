//! How a guest's run ended, from what the engine returned.
//!
//! It knows the engine's errors and a container's budget, and nothing of how a guest is run.

use std::any::Any;

use wasmtime::{Trap, WasmBacktrace};

use crate::budget::{Memory, OverBudget};
use crate::spec::ExitKind;

/// As a process that SIGABRT has ended.
pub(crate) const TRAPPED: u8 = 134;
/// As a process that SIGKILL has ended.
pub(crate) const KILLED: u8 = 137;
/// As a process that SIGTERM has ended.
pub(crate) const TERMINATED: u8 = 143;

/// The end of a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) code: u8,
    pub(crate) kind: ExitKind,
    pub(crate) message: String,
    /// What the guest's standard error is told of it, whole lines; empty if nothing.
    pub(crate) report: String,
}

impl Ending {
    /// The guest ended by itself.
    pub(crate) fn exited(code: u8) -> Ending {
        Ending {
            code,
            kind: ExitKind::Exited,
            message: String::new(),
            report: String::new(),
        }
    }

    /// It was stopped at once, as a process without a handler for SIGTERM.
    pub(crate) fn terminated() -> Ending {
        Ending {
            code: TERMINATED,
            kind: ExitKind::Stopped,
            message: String::new(),
            report: String::new(),
        }
    }

    /// It drained until its grace was over.
    pub(crate) fn grace_over() -> Ending {
        let message = "it did not end within its grace".to_owned();
        Ending {
            code: KILLED,
            kind: ExitKind::Stopped,
            message,
            report: String::new(),
        }
    }

    /// It was an exec, and its container has ended.
    pub(crate) fn container_ended() -> Ending {
        Ending {
            code: KILLED,
            kind: ExitKind::Stopped,
            message: "its container has ended".to_owned(),
            report: String::new(),
        }
    }

    /// Its container has passed its memory budget.
    pub(crate) fn out_of_memory(over: &OverBudget) -> Ending {
        Ending {
            code: KILLED,
            kind: ExitKind::OomKilled,
            message: over.to_string(),
            report: String::new(),
        }
    }

    /// The host's own code panicked while it served the guest.
    pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Ending {
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a panic without a message");
        let message = format!(
            "the guest host failed while it served this guest (a bug of Coracle's): {text}"
        );
        Ending {
            code: KILLED,
            kind: ExitKind::Lost,
            message,
            report: String::new(),
        }
    }

    /// What the engine returned.
    pub(crate) fn of(result: wasmtime::Result<()>, memory: &Memory) -> Ending {
        let error = match result {
            Ok(()) => return Ending::exited(0),
            Err(error) => error,
        };
        if let Some(exit) = error.downcast_ref::<wasi_host::Exit>() {
            return Ending::exited(exit.0);
        }
        if let Some(over) = memory.over() {
            return Ending::out_of_memory(over);
        }
        Ending::trapped(&error)
    }

    /// It trapped, or the host's functions failed.
    pub(crate) fn trapped(error: &wasmtime::Error) -> Ending {
        let message = match error.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string(),
            None => error.root_cause().to_string(),
        };
        let mut report = format!("{message}\n");
        if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
            report.push_str("wasm backtrace:\n");
            // The first line of the engine's own text says what ours has said.
            for line in backtrace.to_string().lines().skip(1) {
                // A module without a name is none the better known for that.
                report.push_str(&line.replace("<unknown>!", ""));
                report.push('\n');
            }
        }
        Ending {
            code: TRAPPED,
            kind: ExitKind::Trapped,
            message,
            report,
        }
    }
}
