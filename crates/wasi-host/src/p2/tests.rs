#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;

use async_trait::async_trait;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::cli::{stdin as wasi_stdin, stdout as wasi_stdout};
use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Descriptor, DescriptorFlags, ErrorCode, HostDescriptor, HostDirectoryEntryStream, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p2::{FsResult, StreamError};

use super::*;
use crate::stdio::{NullSink, Stdin};

/// Keeps what it is given, and waits for a permit before each write.
#[derive(Default)]
struct Kept {
    bytes: Mutex<Vec<u8>>,
    permits: Option<tokio::sync::Semaphore>,
}

#[async_trait]
impl OutSink for Kept {
    async fn write(&self, bytes: &[u8]) -> crate::fs::Result<usize> {
        if let Some(permits) = &self.permits {
            permits.acquire().await.unwrap().forget();
        }
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

fn world(dir: &Path, stdin: Stdin, stdout: Arc<dyn OutSink>) -> P2 {
    let root: OwnedFd = std::fs::File::open(dir).unwrap().into();
    let world = World {
        root: Root::new(root, Vec::new()).unwrap(),
        args: vec!["guest".into()],
        env: Vec::new(),
        cwd: "/".into(),
        stdin,
        stdout,
        stderr: Arc::new(NullSink),
        tty: Tty::default(),
        network: crate::Network::Node,
        listeners: Vec::new(),
        outgoing: crate::OutgoingHttp::default(),
        charge: crate::Charge::default(),
        blocking: Blocking::new(2),
        open_files: 64,
        cpu_clock: None,
    };
    P2::new(world, 64).unwrap()
}

fn files(dir: &Path) -> P2 {
    world(dir, Stdin::closed(), Arc::new(NullSink))
}

fn code<T>(result: FsResult<T>) -> ErrorCode {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => error.downcast().unwrap(),
    }
}

fn borrow<T: 'static>(resource: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(resource.rep())
}

fn root(p2: &mut P2) -> Resource<Descriptor> {
    let mut preopens = p2.view().get_directories().unwrap();
    let (root, path) = preopens.pop().unwrap();
    assert_eq!((path.as_str(), preopens.len()), ("/", 0));
    root
}

async fn open(
    p2: &mut P2,
    at: &Resource<Descriptor>,
    path: &str,
    open: OpenFlags,
    flags: DescriptorFlags,
) -> FsResult<Resource<Descriptor>> {
    let (at, path) = (borrow(at), path.to_owned());
    p2.view()
        .open_at(at, PathFlags::SYMLINK_FOLLOW, path, open, flags)
        .await
}

fn read_write() -> DescriptorFlags {
    DescriptorFlags::READ | DescriptorFlags::WRITE
}

#[tokio::test]
async fn a_stream_writes_what_another_reads() {
    let dir = tempfile::tempdir().unwrap();
    let mut p2 = files(dir.path());
    let root = root(&mut p2);
    let file = open(&mut p2, &root, "f", OpenFlags::CREATE, read_write())
        .await
        .unwrap();
    let stream = p2.view().write_via_stream(borrow(&file), 2).unwrap();
    let output = p2.table.get_mut(&stream).unwrap();
    assert!(output.check_write().unwrap() >= 4096);
    output.write("hello".into()).unwrap();
    assert_eq!(output.check_write().unwrap(), 0, "one piece at a time");
    output.ready().await;
    assert!(output.check_write().unwrap() > 0);
    assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), b"\0\0hello");
    let append = p2.view().append_via_stream(borrow(&file)).unwrap();
    let output = p2.table.get_mut(&append).unwrap();
    output.write("!".into()).unwrap();
    output.cancel().await;
    let input = p2.view().read_via_stream(borrow(&file), 4).unwrap();
    let input = p2.table.get_mut(&input).unwrap();
    assert_eq!(input.blocking_read(2).await.unwrap(), "ll");
    assert_eq!(input.blocking_read(10).await.unwrap(), "o!");
    assert!(matches!(
        input.blocking_read(10).await,
        Err(StreamError::Closed)
    ));
}

#[tokio::test]
async fn absolute_links_start_at_the_root_and_absolute_paths_are_not_permitted() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("d")).unwrap();
    std::fs::write(dir.path().join("target"), "inside").unwrap();
    std::os::unix::fs::symlink("/target", dir.path().join("d/link")).unwrap();
    let mut p2 = files(dir.path());
    let root = root(&mut p2);
    let read = DescriptorFlags::READ;
    let folder = open(&mut p2, &root, "d", OpenFlags::DIRECTORY, read)
        .await
        .unwrap();
    for (at, path) in [
        (&root, "d/link"),
        (&folder, "link"),
        (&folder, "../../../target"),
    ] {
        let file = open(&mut p2, at, path, OpenFlags::empty(), read)
            .await
            .unwrap();
        let (bytes, end) = p2.view().read(borrow(&file), 100, 0).await.unwrap();
        assert_eq!((bytes.as_slice(), end), (&b"inside"[..], false), "{path}");
    }
    let absolute = open(&mut p2, &root, "/target", OpenFlags::empty(), read).await;
    assert_eq!(code(absolute), ErrorCode::NotPermitted);
    let target = p2
        .view()
        .readlink_at(borrow(&folder), "link".into())
        .await
        .unwrap();
    assert_eq!(target, "/target");
}

#[tokio::test]
async fn a_listing_is_whole_and_two_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..1500 {
        std::fs::write(
            dir.path().join(format!("file-with-a-longer-name-{n:04}")),
            "",
        )
        .unwrap();
    }
    let mut p2 = files(dir.path());
    let root = root(&mut p2);
    let one = p2.view().read_directory(borrow(&root)).await.unwrap();
    let two = p2.view().read_directory(borrow(&root)).await.unwrap();
    let mut names = [Vec::new(), Vec::new()];
    for _ in 0..1500 {
        for (names, stream) in names.iter_mut().zip([&one, &two]) {
            let entry = p2
                .view()
                .read_directory_entry(borrow(stream))
                .await
                .unwrap();
            names.push(entry.unwrap().name);
        }
    }
    assert!(
        p2.view()
            .read_directory_entry(borrow(&one))
            .await
            .unwrap()
            .is_none()
    );
    for mut names in names {
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 1500);
    }
}

#[tokio::test]
async fn what_is_open_for_reading_alone_takes_no_writes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), "x").unwrap();
    let mut p2 = files(dir.path());
    let root = root(&mut p2);
    let read = DescriptorFlags::READ;
    let file = open(&mut p2, &root, "f", OpenFlags::empty(), read)
        .await
        .unwrap();
    assert_eq!(
        code(p2.view().write_via_stream(borrow(&file), 0)),
        ErrorCode::BadDescriptor
    );
    let written = p2.view().write(borrow(&file), b"y".to_vec(), 0).await;
    assert_eq!(code(written), ErrorCode::BadDescriptor);
    assert_eq!(
        code(p2.view().read_via_stream(borrow(&root), 0)),
        ErrorCode::IsDirectory
    );
}

#[tokio::test]
async fn handles_of_standard_input_are_one_stream() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    rustix::io::write(&writer, b"abcd").unwrap();
    drop(writer);
    let mut p2 = world(
        dir.path(),
        Stdin::from_fd(reader).unwrap(),
        Arc::new(NullSink),
    );
    let one = wasi_stdin::Host::get_stdin(&mut p2.view()).unwrap();
    let two = wasi_stdin::Host::get_stdin(&mut p2.view()).unwrap();
    let first = p2
        .table
        .get_mut(&one)
        .unwrap()
        .blocking_read(1)
        .await
        .unwrap();
    let rest = p2
        .table
        .get_mut(&two)
        .unwrap()
        .blocking_read(9)
        .await
        .unwrap();
    assert_eq!((first, rest), ("a".into(), "bcd".into()));
    let end = p2.table.get_mut(&one).unwrap().blocking_read(1).await;
    assert!(matches!(end, Err(StreamError::Closed)));
}

#[tokio::test]
async fn output_that_was_not_flushed_is_not_lost_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Arc::new(Kept {
        permits: Some(tokio::sync::Semaphore::new(0)),
        ..Kept::default()
    });
    let mut p2 = world(dir.path(), Stdin::closed(), sink.clone());
    let out = wasi_stdout::Host::get_stdout(&mut p2.view()).unwrap();
    p2.table
        .get_mut(&out)
        .unwrap()
        .write("last words".into())
        .unwrap();
    let flushed = p2.flushed();
    sink.permits.as_ref().unwrap().add_permits(1);
    flushed.await;
    assert_eq!(*sink.bytes.lock().unwrap(), b"last words");
}

#[tokio::test]
async fn a_guest_that_is_dropped_leaves_no_task_behind() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Arc::new(Kept {
        permits: Some(tokio::sync::Semaphore::new(0)),
        ..Kept::default()
    });
    let (reader, _writer) = rustix::pipe::pipe().unwrap();
    let mut p2 = world(dir.path(), Stdin::from_fd(reader).unwrap(), sink);
    let out = wasi_stdout::Host::get_stdout(&mut p2.view()).unwrap();
    p2.table
        .get_mut(&out)
        .unwrap()
        .write("stuck".into())
        .unwrap();
    let input = wasi_stdin::Host::get_stdin(&mut p2.view()).unwrap();
    let waiting = p2.table.get_mut(&input).unwrap().ready();
    assert!(futures::FutureExt::now_or_never(waiting).is_none());
    let tasks = p2.host.work.tasks.clone();
    drop(p2);
    tasks.close();
    tasks.wait().await;
}

/// A budget of so many bytes.
struct Bytes(std::sync::atomic::AtomicI64);

impl crate::Budget for Bytes {
    fn take(&self, bytes: u64, _what: &'static str) -> bool {
        let bytes = i64::try_from(bytes).unwrap();
        self.0.fetch_sub(bytes, std::sync::atomic::Ordering::SeqCst) >= bytes || {
            self.give(u64::try_from(bytes).unwrap());
            false
        }
    }

    fn give(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap();
        self.0.fetch_add(bytes, std::sync::atomic::Ordering::SeqCst);
    }
}

#[tokio::test]
async fn what_streams_read_ahead_is_charged_until_it_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), vec![7; 1000]).unwrap();
    let budget = Arc::new(Bytes(1500.into()));
    let mut p2 = files(dir.path());
    p2.host.work.charge = crate::Charge::to(budget.clone());
    let root = root(&mut p2);
    let read = DescriptorFlags::READ;
    let file = open(&mut p2, &root, "f", OpenFlags::empty(), read)
        .await
        .unwrap();
    let one = p2.view().read_via_stream(borrow(&file), 0).unwrap();
    let two = p2.view().read_via_stream(borrow(&file), 0).unwrap();
    p2.table.get_mut(&one).unwrap().ready().await;
    let left = || budget.0.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(left(), 500);
    let refused = p2.table.get_mut(&two).unwrap().blocking_read(10).await;
    assert!(matches!(refused, Err(StreamError::LastOperationFailed(_))));
    assert_eq!(
        p2.table
            .get_mut(&one)
            .unwrap()
            .blocking_read(1000)
            .await
            .unwrap()
            .len(),
        1000
    );
    assert_eq!(left(), 1500);
}
