//! The cache folder: whose it is, what of it is believed, and what fails to be written.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;

/// The files of the only entry: its code and what stands beside it.
fn entry_files(cache: &Path) -> (PathBuf, PathBuf) {
    let folders = std::fs::read_dir(cache).unwrap();
    let mut folders = folders.map(|entry| entry.unwrap().path());
    let key = folders
        .find(|path| cache::is_hex(path.file_name().unwrap().to_str().unwrap()))
        .unwrap();
    let mut files: Vec<_> = std::fs::read_dir(key)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    files.sort();
    let [code, sidecar] = <[PathBuf; 2]>::try_from(files).unwrap();
    (code, sidecar)
}

async fn cached(cache: &Path) -> bool {
    compile(cache, HELLO).await.unwrap().cached
}

#[tokio::test]
async fn an_entry_serves_the_next_process_without_a_child() {
    let cache = scratch();
    assert!(!cached(cache.path()).await);
    let compiler = compiler(cache.path());
    let key = compiler.known_key().expect("it was remembered");
    let digest = hex::encode(source(HELLO).digest);
    assert!(matches!(
        compiler.0.cache.find(&key, &digest),
        Found::Whole(_)
    ));
    assert!(cached(cache.path()).await);
}

#[tokio::test]
async fn a_damaged_entry_is_rebuilt() {
    type Damage = fn(&Path, &Path);
    let damages: [(&str, Damage); 6] = [
        ("a bit flips", |code, _| {
            let mut bytes = std::fs::read(code).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(code, bytes).unwrap();
        }),
        ("cut", |code, _| {
            let file = File::options().write(true).open(code).unwrap();
            file.set_len(100).unwrap();
        }),
        ("no code", |code, _| std::fs::remove_file(code).unwrap()),
        ("no sidecar", |_, sidecar| {
            std::fs::remove_file(sidecar).unwrap()
        }),
        ("an empty sidecar", |_, sidecar| {
            std::fs::write(sidecar, "").unwrap()
        }),
        ("a link in the code's place", |code, _| {
            let aside = code.with_extension("aside");
            std::fs::rename(code, &aside).unwrap();
            std::os::unix::fs::symlink(&aside, code).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let cache = scratch();
        assert!(!cached(cache.path()).await);
        let (code, sidecar) = entry_files(cache.path());
        damage(&code, &sidecar);
        assert!(!cached(cache.path()).await, "{what}");
        assert!(cached(cache.path()).await, "{what}");
    }
}

#[tokio::test]
async fn a_touched_entry_is_verified_once_more() {
    let cache = scratch();
    assert!(!cached(cache.path()).await);
    let (code, _) = entry_files(cache.path());
    let bytes = std::fs::read(&code).unwrap();
    std::fs::write(&code, bytes).unwrap();
    let compiler = compiler(cache.path());
    let key = compiler.known_key().unwrap();
    let digest = hex::encode(source(HELLO).digest);
    assert!(matches!(
        compiler.0.cache.find(&key, &digest),
        Found::Unverified(_)
    ));
    assert!(cached(cache.path()).await);
    assert!(matches!(
        compiler.0.cache.find(&key, &digest),
        Found::Whole(_)
    ));
}

#[tokio::test]
async fn another_engines_code_is_not_used_and_is_collected() {
    let cache = scratch();
    assert!(!cached(cache.path()).await);
    let (code, _) = entry_files(cache.path());
    let other = cache.path().join("0".repeat(64));
    std::fs::rename(code.parent().unwrap(), &other).unwrap();
    assert!(!cached(cache.path()).await);

    let compiler = compiler(cache.path());
    let day = Duration::from_secs(86_400);
    assert_eq!(compiler.collect(day).unwrap(), Collected::default());
    let old = std::time::SystemTime::now() - 2 * day;
    for file in std::fs::read_dir(&other).unwrap() {
        let file = File::open(file.unwrap().path()).unwrap();
        file.set_modified(old).unwrap();
    }
    assert_eq!(compiler.collect(day).unwrap().files, 2);
    assert!(!other.exists());
    assert!(cached(cache.path()).await);
}

#[tokio::test]
async fn an_entry_under_another_modules_name_is_not_used() {
    let cache = scratch();
    assert!(!cached(cache.path()).await);
    let (code, sidecar) = entry_files(cache.path());
    let other = "(module (func (export \"_start\")))";
    let digest = hex::encode(source(other).digest);
    for file in [&code, &sidecar] {
        let extension = file.extension().unwrap().to_str().unwrap();
        std::fs::copy(file, file.with_file_name(format!("{digest}.{extension}"))).unwrap();
    }
    let code = compile(cache.path(), other).await.unwrap();
    assert!(!code.cached);
    assert_eq!(code.info.exports, ["_start"]);
}

#[tokio::test]
async fn a_folder_that_others_can_reach_is_refused() {
    let cache = scratch();
    let exe = std::env::current_exe().unwrap();
    let refuse = |path: &Path| {
        let limits = CompileLimits::default();
        let error = Compiler::new(path, &exe, &child_args(), limits)
            .err()
            .unwrap();
        assert!(matches!(error, CompileError::Cache { .. }), "{error}");
        error.to_string()
    };
    for mode in [0o755, 0o770, 0o701] {
        std::fs::set_permissions(cache.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(refuse(cache.path()).contains(&format!("{mode:04o}")));
    }
    std::fs::set_permissions(cache.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let link = cache.path().join("link");
    std::os::unix::fs::symlink(cache.path(), &link).unwrap();
    refuse(&link);
    let file = cache.path().join("file");
    std::fs::write(&file, "").unwrap();
    refuse(&file);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(cache.path(), Some(12_345), None).unwrap();
        assert!(refuse(cache.path()).contains("belongs to user 12345"));
    } else {
        println!("skipped: only root can give a folder away");
    }
    let deep = scratch();
    let deep = deep.path().join("made/on/demand");
    assert!(!cached(&deep).await);
    assert_eq!(
        std::fs::metadata(&deep).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

/// A file system of `size` bytes that nobody else sees and that goes with its descriptor.
fn small_disk(size: usize) -> Option<OwnedFd> {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
        fsopen,
    };
    let made = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).and_then(|context| {
        fsconfig_set_string(&context, "size", size.to_string())?;
        fsconfig_set_string(&context, "mode", "0700")?;
        fsconfig_create(&context)?;
        fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )
    });
    made.inspect_err(|error| println!("skipped: no small disk without privilege: {error}"))
        .ok()
}

fn make_read_only(disk: &OwnedFd) {
    use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick};
    let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
    let read_only = || {
        let context = fspick(disk, c"", flags)?;
        fsconfig_set_flag(&context, "ro")?;
        fsconfig_reconfigure(&context)
    };
    // A child that another test is just starting has a copy of each descriptor until it executes,
    // and with one that writes the disk is busy.
    while let Err(error) = read_only() {
        assert_eq!(error, rustix::io::Errno::BUSY);
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing() {
    use std::os::fd::AsRawFd;
    let Some(disk) = small_disk(256 << 10) else {
        return;
    };
    let cache = PathBuf::from(format!("/proc/self/fd/{}/cache", disk.as_raw_fd()));
    let error = compile(&cache, heavy(400, 40)).await.unwrap_err();
    assert!(matches!(error, CompileError::DiskFull { .. }), "{error}");
    assert!(error.retryable());
    // What fits still does: nothing was left behind.
    assert!(!cached(&cache).await);
    assert!(cached(&cache).await);

    // Full to the last page: an entry that is there serves, with nothing to write.
    std::fs::write(cache.join("tmp-filler"), vec![0; 1 << 20]).unwrap_err();
    assert!(cached(&cache).await);
    let other = compile(&cache, "(module)").await.unwrap_err();
    assert!(matches!(other, CompileError::DiskFull { .. }), "{other}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_still_serves() {
    use std::os::fd::AsRawFd;
    let Some(disk) = small_disk(8 << 20) else {
        return;
    };
    let cache = PathBuf::from(format!("/proc/self/fd/{}/cache", disk.as_raw_fd()));
    assert!(!cached(&cache).await);
    make_read_only(&disk);
    assert!(cached(&cache).await);
    let error = compile(&cache, "(module)").await.unwrap_err();
    assert!(matches!(error, CompileError::Cache { .. }), "{error}");
    assert!(
        error.to_string().contains("Read-only file system"),
        "{error}"
    );
}
