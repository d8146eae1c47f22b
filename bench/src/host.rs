//! What a guest host is given by an agent, made here in the plainest way: code by the compile
//! child, a folder as a root, a spec.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use runtime::{
    CompileLimits, Compiler, GuestFds, GuestId, GuestSpec, Limits, LogSpec, ModuleContent,
    ModuleSource,
};
use sha2::{Digest, Sha256};

/// A program of this project that stands beside this one.
pub(crate) fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(
        path.is_file(),
        "{} is not built: run `cargo xtask bench`",
        path.display()
    );
    Ok(path)
}

/// Compiles a module as coracle does, into `cache`.
pub(crate) async fn compile(cache: &Path, module: &[u8]) -> anyhow::Result<OwnedFd> {
    let args = ["internal", "compile"].map(Into::into);
    let compiler = Compiler::new(cache, &sibling("coracle")?, &args, CompileLimits::default())?;
    let source = ModuleSource {
        digest: Sha256::digest(module).into(),
        content: ModuleContent::Bytes(module.to_vec().into()),
        preview3: false,
    };
    Ok(compiler.code(&source, |_| ()).await?.file)
}

/// A guest's module, as it is built.
pub(crate) fn module(guest: guests::Guest) -> anyhow::Result<Vec<u8>> {
    let path = guests::path(guest)?;
    std::fs::read(&path).with_context(|| format!("{}", path.display()))
}

/// A guest to be, number `number`: no arguments, no limits, no log.
pub(crate) fn spec(number: u32) -> GuestSpec {
    let uid = format!("00000000-0000-4000-8000-{number:012x}");
    GuestSpec {
        id: GuestId {
            pod_uid: uid,
            container: "main".to_owned(),
            attempt: 0,
        },
        name: format!("default/pod-{number}/main"),
        export: None,
        args: vec!["guest".to_owned()],
        env: [("PATH", "/bin"), ("HOSTNAME", "pod")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        cwd: "/".to_owned(),
        tty: false,
        mounts: Vec::new(),
        read_only_root: false,
        limits: Limits::default(),
        drain: false,
        log: None,
        network: runtime::Network::Node,
        http: None,
        outgoing: runtime::OutgoingHttp::default(),
    }
}

/// The spec of a log as `coracle node` has it.
pub(crate) fn log() -> LogSpec {
    LogSpec {
        stem: "0".to_owned(),
        max_size: 10 << 20,
        max_files: 5,
    }
}

/// A container's root: a new folder with what a pod finds in `/etc`, and `/tmp`.
pub(crate) fn root(path: &Path) -> anyhow::Result<OwnedFd> {
    let etc = path.join("etc");
    std::fs::create_dir_all(&etc)?;
    std::fs::create_dir(path.join("tmp"))?;
    std::fs::write(etc.join("hosts"), "127.0.0.1\tlocalhost\n")?;
    std::fs::write(etc.join("hostname"), "pod\n")?;
    std::fs::write(etc.join("resolv.conf"), "")?;
    folder(path)
}

/// A folder's descriptor.
pub(crate) fn folder(path: &Path) -> anyhow::Result<OwnedFd> {
    let file = File::open(path).with_context(|| format!("{}", path.display()))?;
    Ok(file.into())
}

/// Descriptors of a guest that says nothing to anybody.
pub(crate) fn fds(code: &OwnedFd, root: OwnedFd) -> anyhow::Result<GuestFds> {
    Ok(GuestFds {
        code: code.try_clone()?,
        root,
        mounts: Vec::new(),
        log_dir: None,
        stdin: None,
        stdout: None,
        stderr: None,
        listeners: Vec::new(),
    })
}

/// A socket that listens on loopback.
pub(crate) fn listener() -> anyhow::Result<TcpListener> {
    Ok(TcpListener::bind("127.0.0.1:0")?)
}
