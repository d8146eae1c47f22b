//! What a guest may import: the one list of what the WASI host provides, by name.
//!
//! A missing import would come to light at instantiation anyway; here it does before a start, with
//! all that the name tells. Types are left to instantiation, which alone can compare them.

use super::error::CompileError;

/// Preview1's module.
pub(crate) const PREVIEW1: &str = "wasi_snapshot_preview1";

/// Preview1's functions, from its witx, with `sock_accept` of its last snapshot.
pub(crate) const PREVIEW1_FUNCTIONS: &[&str] = &[
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

/// WasmEdge's socket functions beyond preview1's, in the same module.
const WASMEDGE_SOCKETS: &[&str] = &[
    "sock_bind",
    "sock_connect",
    "sock_getaddrinfo",
    "sock_getlocaladdr",
    "sock_getpeeraddr",
    "sock_getsockopt",
    "sock_listen",
    "sock_open",
    "sock_recv_from",
    "sock_send_to",
    "sock_setsockopt",
];

/// Preview2's interfaces, of any version 0.2.x.
pub(crate) const PREVIEW2_INTERFACES: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// Preview3's interfaces, of any version 0.3.x.
pub(crate) const PREVIEW3_INTERFACES: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/types",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/system-clock",
    "wasi:clocks/types",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/client",
    "wasi:http/types",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/types",
];

/// Which snapshot of WASI an interface is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preview {
    /// 0.2
    Two,
    /// 0.3
    Three,
}

/// What a component exports that serves HTTP, of any version 0.2.x.
const INCOMING_HANDLER: &str = "wasi:http/incoming-handler";

/// The same, of any version 0.3.x.
const HANDLER: &str = "wasi:http/handler";

/// Checks a function that a core module imports.
pub(crate) fn check_function(module: &str, name: &str) -> Result<(), CompileError> {
    let problem = match module {
        PREVIEW1 if PREVIEW1_FUNCTIONS.contains(&name) => return Ok(()),
        PREVIEW1 if WASMEDGE_SOCKETS.contains(&name) => {
            "is WasmEdge's socket extension: it is not offered by this version".to_owned()
        }
        PREVIEW1 => format!("is not a function of {PREVIEW1}"),
        "wasi_unstable" | "wasi" => {
            format!("is an older WASI than {PREVIEW1}: build it with a newer toolchain")
        }
        module if module.starts_with("wasi_") || module.starts_with("wasi:") => {
            format!("no world of this version has: a core module may import {PREVIEW1}")
        }
        "env" => format!(
            "no world has: it is what its toolchain expects of a web page or of an embedder of its own; build it for WASI ({PREVIEW1})"
        ),
        _ => format!("no world has: a core module may import {PREVIEW1}"),
    };
    Err(CompileError::Import {
        import: format!("{module}.{name}"),
        problem,
    })
}

/// Refuses what a core module imports that is no function.
pub(crate) fn refuse_other(module: &str, name: &str, kind: &str) -> CompileError {
    CompileError::Import {
        import: format!("{module}.{name}"),
        problem: format!("is a {kind}, and no world provides one: link the module statically"),
    }
}

/// Checks something that a component imports, by its whole name, and says what it is of.
pub(crate) fn check_interface(import: &str) -> Result<Preview, CompileError> {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    let in_two = PREVIEW2_INTERFACES.contains(&interface);
    let in_three = PREVIEW3_INTERFACES.contains(&interface);
    let problem = match interface {
        _ if in_two && of_preview2(version) => return Ok(Preview::Two),
        _ if in_three && of_preview3(version) => return Ok(Preview::Three),
        _ if (in_two || in_three) && version.is_empty() => {
            "has no version: those of 0.2 are offered".to_owned()
        }
        _ if in_three && version.starts_with("0.3.") => {
            "is of a draft of preview3: build it for the release 0.3".to_owned()
        }
        _ if in_two || in_three => {
            format!("is of version {version}: those of 0.2 are offered")
        }
        name if name.starts_with("wasi:") => {
            "no world of this version has: those of wasi:cli 0.2 are offered".to_owned()
        }
        _ => "no world has: compose the component with one that provides it".to_owned(),
    };
    Err(CompileError::Import {
        import: import.to_owned(),
        problem,
    })
}

/// Checks something that a component exports, and says whether it makes the component a server.
pub(crate) fn is_handler(export: &str) -> Result<bool, CompileError> {
    let (interface, version) = export.split_once('@').unwrap_or((export, ""));
    match interface {
        INCOMING_HANDLER if of_preview2(version) => Ok(true),
        HANDLER if of_preview3(version) => Ok(true),
        HANDLER | INCOMING_HANDLER => Err(CompileError::Export {
            export: export.to_owned(),
            problem: format!(
                "is served as {INCOMING_HANDLER} of 0.2 or {HANDLER} of 0.3 alone: build it for one of them"
            ),
        }),
        _ => Ok(false),
    }
}

/// Whether something that a component exports is an interface of preview3.
pub(crate) fn is_of_preview3(export: &str) -> bool {
    export
        .strip_prefix("wasi:")
        .and_then(|export| export.split_once('@'))
        .is_some_and(|(_, version)| of_preview3(version))
}

/// Whether a version is a release of 0.2.
fn of_preview2(version: &str) -> bool {
    is_release(version, "0.2.")
}

/// Whether a version is a release of 0.3: its drafts had other types.
fn of_preview3(version: &str) -> bool {
    is_release(version, "0.3.")
}

fn is_release(version: &str, of: &str) -> bool {
    version
        .strip_prefix(of)
        .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|b| b.is_ascii_digit()))
}
