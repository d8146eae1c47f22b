#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
//! Preview1 as a guest calls it: a module that passes each call on.

mod files;
mod hostile;
mod streams;

use crate::fs::Root;
use crate::stdio::{NullSink, OutSink, Stdin};
use crate::{Blocking, Exit, Tty, World, WorldError, add_p1};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use wasmtime::{Engine, Instance, Linker, Module, Store, Val};

use super::Ctx;

/// Functions of preview1 and their parameters, in the order of the interface. All give an errno.
const FUNCTIONS: &[(&str, &str)] = &[
    ("args_get", "i32 i32"),
    ("args_sizes_get", "i32 i32"),
    ("environ_get", "i32 i32"),
    ("environ_sizes_get", "i32 i32"),
    ("clock_res_get", "i32 i32"),
    ("clock_time_get", "i32 i64 i32"),
    ("fd_advise", "i32 i64 i64 i32"),
    ("fd_allocate", "i32 i64 i64"),
    ("fd_close", "i32"),
    ("fd_datasync", "i32"),
    ("fd_fdstat_get", "i32 i32"),
    ("fd_fdstat_set_flags", "i32 i32"),
    ("fd_fdstat_set_rights", "i32 i64 i64"),
    ("fd_filestat_get", "i32 i32"),
    ("fd_filestat_set_size", "i32 i64"),
    ("fd_filestat_set_times", "i32 i64 i64 i32"),
    ("fd_pread", "i32 i32 i32 i64 i32"),
    ("fd_prestat_get", "i32 i32"),
    ("fd_prestat_dir_name", "i32 i32 i32"),
    ("fd_pwrite", "i32 i32 i32 i64 i32"),
    ("fd_read", "i32 i32 i32 i32"),
    ("fd_readdir", "i32 i32 i32 i64 i32"),
    ("fd_renumber", "i32 i32"),
    ("fd_seek", "i32 i64 i32 i32"),
    ("fd_sync", "i32"),
    ("fd_tell", "i32 i32"),
    ("fd_write", "i32 i32 i32 i32"),
    ("path_create_directory", "i32 i32 i32"),
    ("path_filestat_get", "i32 i32 i32 i32 i32"),
    ("path_filestat_set_times", "i32 i32 i32 i32 i64 i64 i32"),
    ("path_link", "i32 i32 i32 i32 i32 i32 i32"),
    ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
    ("path_readlink", "i32 i32 i32 i32 i32 i32"),
    ("path_remove_directory", "i32 i32 i32"),
    ("path_rename", "i32 i32 i32 i32 i32 i32"),
    ("path_symlink", "i32 i32 i32 i32 i32"),
    ("path_unlink_file", "i32 i32 i32"),
    ("poll_oneoff", "i32 i32 i32 i32"),
    ("proc_raise", "i32"),
    ("sched_yield", ""),
    ("random_get", "i32 i32"),
    ("sock_accept", "i32 i32 i32"),
    ("sock_recv", "i32 i32 i32 i32 i32 i32"),
    ("sock_send", "i32 i32 i32 i32 i32"),
    ("sock_shutdown", "i32 i32"),
];

/// The guest: each function passes its call on; `exit` is `proc_exit`.
fn guest_module() -> String {
    let mut imports = String::new();
    let mut bodies = String::new();
    for (name, params) in FUNCTIONS {
        imports += &format!(
            "(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param {params}) (result i32)))\n"
        );
        let gets: String = (0..params.split_whitespace().count())
            .map(|at| format!("local.get {at} "))
            .collect();
        bodies += &format!(
            "(func (export \"{name}\") (param {params}) (result i32) {gets} call ${name})\n"
        );
    }
    format!(
        "(module {imports}
           (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
           (memory (export \"memory\") 16)
           {bodies}
           (func (export \"exit\") (param i32) local.get 0 call $exit))"
    )
}

/// Keeps what it is given.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[async_trait::async_trait]
impl OutSink for Kept {
    async fn write(&self, bytes: &[u8]) -> crate::fs::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

pub(super) fn world(root: &std::path::Path) -> World {
    let fd = std::fs::File::open(root).unwrap().into();
    World {
        root: Root::new(fd, Vec::new()).unwrap(),
        args: Vec::new(),
        env: Vec::new(),
        cwd: String::new(),
        stdin: Stdin::closed(),
        stdout: Arc::new(NullSink),
        stderr: Arc::new(NullSink),
        tty: Tty::default(),
        network: crate::Network::Node,
        listeners: Vec::new(),
        outgoing: crate::OutgoingHttp::default(),
        charge: crate::Charge::default(),
        blocking: Blocking::new(2),
        open_files: 64,
        cpu_clock: None,
    }
}

pub(super) struct Guest {
    store: Store<Ctx>,
    instance: Instance,
    pub(super) root: Option<TempDir>,
}

/// Where a guest's buffers are in the tests.
pub(super) const BUFFER: u32 = 4096;

impl Guest {
    /// A guest in an empty root.
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A guest in an empty root whose world was changed by `change`.
    async fn with(change: impl FnOnce(&mut World)) -> Self {
        let root = TempDir::new().unwrap();
        let mut world = world(root.path());
        change(&mut world);
        let engine = Engine::default();
        let module = Module::new(&engine, guest_module()).unwrap();
        let mut linker = Linker::new(&engine);
        add_p1(&mut linker, |ctx: &mut Ctx| ctx).unwrap();
        let mut store = Store::new(&engine, Ctx::new(world).unwrap());
        let instance = linker.instantiate_async(&mut store, &module).await.unwrap();
        Self {
            store,
            instance,
            root: Some(root),
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.as_ref().unwrap().path().join(name)
    }

    async fn try_call(&mut self, name: &str, args: &[i64]) -> wasmtime::Result<u32> {
        let func = self.instance.get_func(&mut self.store, name).unwrap();
        let params: Vec<_> = func.ty(&self.store).params().collect();
        assert_eq!(params.len(), args.len(), "{name}");
        let args: Vec<Val> = params
            .iter()
            .zip(args)
            .map(|(kind, arg)| {
                if kind.is_i64() {
                    Val::I64(*arg)
                } else {
                    Val::I32(*arg as i32)
                }
            })
            .collect();
        let mut results = [Val::I32(0)];
        func.call_async(&mut self.store, &args, &mut results)
            .await?;
        Ok(results[0].unwrap_i32() as u32)
    }

    /// The errno by its name: "Success" and so on.
    async fn call(&mut self, name: &str, args: &[i64]) -> String {
        let errno = self.try_call(name, args).await.unwrap();
        format!("{:?}", super::types::Errno::try_from(errno as i32).unwrap())
    }

    async fn ok(&mut self, name: &str, args: &[i64]) {
        assert_eq!(self.call(name, args).await, "Success", "{name} {args:?}");
    }

    async fn exit(&mut self, code: u32) -> wasmtime::Error {
        let exit = self
            .instance
            .get_typed_func::<u32, ()>(&mut self.store, "exit")
            .unwrap();
        exit.call_async(&mut self.store, code).await.unwrap_err()
    }

    fn put(&mut self, at: u32, bytes: &[u8]) {
        let memory = self.instance.get_memory(&mut self.store, "memory").unwrap();
        memory.write(&mut self.store, at as usize, bytes).unwrap();
    }

    fn take(&mut self, at: u32, length: usize) -> Vec<u8> {
        let memory = self.instance.get_memory(&mut self.store, "memory").unwrap();
        let mut bytes = vec![0; length];
        memory.read(&self.store, at as usize, &mut bytes).unwrap();
        bytes
    }

    fn u32(&mut self, at: u32) -> u32 {
        u32::from_le_bytes(self.take(at, 4).try_into().unwrap())
    }

    fn u64(&mut self, at: u32) -> u64 {
        u64::from_le_bytes(self.take(at, 8).try_into().unwrap())
    }

    /// Puts one buffer descriptor for `length` bytes at BUFFER, at 8.
    fn iovec(&mut self, length: u32) {
        self.put(8, &BUFFER.to_le_bytes());
        self.put(12, &length.to_le_bytes());
    }

    async fn read(&mut self, fd: i64, length: u32) -> Result<Vec<u8>, String> {
        self.iovec(length);
        match self.call("fd_read", &[fd, 8, 1, 0]).await.as_str() {
            "Success" => {
                let count = self.u32(0) as usize;
                Ok(self.take(BUFFER, count))
            }
            errno => Err(errno.to_owned()),
        }
    }

    async fn write(&mut self, fd: i64, bytes: &[u8]) -> Result<u32, String> {
        self.put(BUFFER, bytes);
        self.iovec(bytes.len() as u32);
        match self.call("fd_write", &[fd, 8, 1, 0]).await.as_str() {
            "Success" => Ok(self.u32(0)),
            errno => Err(errno.to_owned()),
        }
    }

    /// `path_open` from descriptor 3 with links followed.
    async fn open(&mut self, path: &str, oflags: i64, rights: i64) -> Result<i64, String> {
        self.put(BUFFER, path.as_bytes());
        let (at, length) = (i64::from(BUFFER), path.len() as i64);
        let args = [3, 1, at, length, oflags, rights, 0, 0, 0];
        match self.call("path_open", &args).await.as_str() {
            "Success" => Ok(i64::from(self.u32(0))),
            errno => Err(errno.to_owned()),
        }
    }
}

const CREAT: i64 = 1;
const DIRECTORY: i64 = 2;
const READ: i64 = 1 << 1;
const WRITE: i64 = 1 << 6;

#[tokio::test]
async fn exit_codes_are_exact() {
    let mut guest = Guest::new().await;
    for code in 0..=255 {
        let error = guest.exit(code).await;
        assert_eq!(error.downcast_ref::<Exit>(), Some(&Exit(code as u8)));
    }
    for (code, seen) in [(256, 0), (257, 1), (u32::MAX, 255)] {
        assert_eq!(
            guest.exit(code).await.downcast_ref::<Exit>(),
            Some(&Exit(seen))
        );
    }
}

#[tokio::test]
async fn arguments_and_environment_are_told() {
    let mut guest = Guest::with(|world| {
        world.args = vec!["name".into(), String::new(), "ünï".into()];
        world.env = vec![("A".into(), "1=2".into()), ("B".into(), String::new())];
        world.cwd = "/work".into();
    })
    .await;
    guest.ok("args_sizes_get", &[0, 4]).await;
    assert_eq!((guest.u32(0), guest.u32(4)), (3, 12));
    guest.ok("args_get", &[16, 64]).await;
    assert_eq!((guest.u32(16), guest.u32(20), guest.u32(24)), (64, 69, 70));
    assert_eq!(guest.take(64, 12), b"name\0\0\xc3\xbcn\xc3\xaf\0");
    guest.ok("environ_sizes_get", &[0, 4]).await;
    assert_eq!((guest.u32(0), guest.u32(4)), (3, 19));
    guest.ok("environ_get", &[16, 64]).await;
    assert_eq!(guest.take(64, 19), b"A=1=2\0B=\0PWD=/work\0");
}

#[tokio::test]
async fn worlds_that_can_not_be_told_are_refused() {
    let root = TempDir::new().unwrap();
    let refused = |change: fn(&mut World)| {
        let mut world = world(root.path());
        change(&mut world);
        Ctx::new(world).err().unwrap()
    };
    let error = refused(|world| world.args = vec!["a\0b".into()]);
    assert!(matches!(
        error,
        WorldError::Nul {
            what: "argument",
            ..
        }
    ));
    let error = refused(|world| world.env = vec![("A=B".into(), String::new())]);
    assert!(matches!(error, WorldError::VariableName(_)));
    assert!(matches!(
        refused(|world| world.open_files = 3),
        WorldError::OpenFiles { needed: 4, .. }
    ));
    let error = refused(|world| {
        world
            .listeners
            .push(std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into());
    });
    assert!(matches!(error, WorldError::Listener(_)));
}

#[tokio::test]
async fn clocks_go_and_say_what_they_lack() {
    let mut guest = Guest::with(|world| {
        world.cpu_clock = Some(Arc::new(|| std::time::Duration::from_nanos(77)));
    })
    .await;
    guest.ok("clock_time_get", &[0, 0, 0]).await;
    assert!(guest.u64(0) > 1_600_000_000_000_000_000);
    guest.ok("clock_time_get", &[1, 0, 0]).await;
    let first = guest.u64(0);
    guest.ok("clock_time_get", &[1, 0, 0]).await;
    assert!(guest.u64(0) >= first);
    guest.ok("clock_time_get", &[2, 0, 0]).await;
    assert_eq!(guest.u64(0), 77);
    let mut guest = Guest::new().await;
    assert_eq!(guest.call("clock_time_get", &[3, 0, 0]).await, "Notsup");
    guest.ok("clock_res_get", &[1, 0]).await;
    guest.ok("sched_yield", &[]).await;
    assert_eq!(guest.call("proc_raise", &[15]).await, "Notsup");
}
