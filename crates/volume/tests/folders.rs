//! Removal of what guests leave, and the sources of volumes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use volume::{Error, HostPathType, MountKind, empty_dir, host_path, remove};

#[test]
fn removal_is_idempotent_and_follows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (keep, gone) = (dir.path().join("keep"), dir.path().join("gone"));
    std::fs::create_dir_all(gone.join("a/b")).unwrap();
    std::fs::create_dir(&keep).unwrap();
    std::fs::write(keep.join("file"), "x").unwrap();
    symlink(&keep, gone.join("a/link")).unwrap();
    std::fs::hard_link(keep.join("file"), gone.join("a/b/hard")).unwrap();
    std::fs::set_permissions(gone.join("a/b"), PermissionsExt::from_mode(0o000)).unwrap();
    remove(&gone).unwrap();
    remove(&gone).unwrap();
    remove(&gone.join("below/nothing")).unwrap();
    assert!(!gone.exists() && keep.join("file").exists());
    symlink(&keep, &gone).unwrap();
    remove(&gone).unwrap();
    assert!(std::fs::symlink_metadata(&gone).is_err() && keep.join("file").exists());
    assert!(remove(Path::new("/")).is_err());
}

/// Deeper than a path or this process's descriptors reach, as a guest can make it by relative steps.
#[test]
fn removal_of_a_very_deep_tree() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("top");
    std::fs::create_dir(&top).unwrap();
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mut at = rustix::fs::openat(CWD, &top, flags, Mode::empty()).unwrap();
    for n in 0..2500 {
        let name = if n % 2 == 0 { "d" } else { ".removed-1" };
        rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
        rustix::fs::openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
        at = rustix::fs::openat(&at, name, flags, Mode::empty()).unwrap();
    }
    assert!(rustix::fs::statat(&at, ".", AtFlags::empty()).is_ok());
    remove(&top).unwrap();
    assert!(!top.exists());
}

#[test]
fn removal_stops_at_a_mount() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("pod/volume");
    std::fs::create_dir_all(&inside).unwrap();
    let mounted = || -> rustix::io::Result<()> {
        let context = rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(&context)?;
        let flags = rustix::mount::FsMountFlags::FSMOUNT_CLOEXEC;
        let mount =
            rustix::mount::fsmount(&context, flags, rustix::mount::MountAttrFlags::empty())?;
        let empty = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&mount, "", CWD, &inside, empty)
    };
    if let Err(error) = mounted() {
        eprintln!("left out: mounting needs CAP_SYS_ADMIN ({error})");
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "CI has to test this"
        );
        return;
    }
    std::fs::write(inside.join("precious"), "x").unwrap();
    let error = remove(&dir.path().join("pod")).unwrap_err();
    let kept = inside.join("precious").exists();
    rustix::mount::unmount(&inside, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(matches!(error, Error::Mounted(_)) && kept, "{error}");
    remove(&dir.path().join("pod")).unwrap();
}

#[test]
fn an_empty_dir_is_open_to_all_and_stays_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volumes/cache");
    drop(empty_dir(&path).unwrap());
    std::fs::write(path.join("kept"), "x").unwrap();
    empty_dir(&path).unwrap();
    assert!(path.join("kept").exists());
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o777
    );
    let link = dir.path().join("volumes/link");
    symlink("/etc", &link).unwrap();
    assert!(empty_dir(&link).is_err());
}

#[test]
fn host_paths_as_the_kubelet_checks_them() {
    let dir = tempfile::tempdir().unwrap();
    let (file, folder, none) = (
        dir.path().join("file"),
        dir.path().join("folder"),
        dir.path().join("none"),
    );
    std::fs::write(&file, "x").unwrap();
    std::fs::create_dir(&folder).unwrap();
    let text = |path: &Path, kind| host_path(path, kind).unwrap_err().to_string();
    for kind in [HostPathType::Directory, HostPathType::DirectoryOrCreate] {
        assert_eq!(
            text(&file, kind),
            format!(
                "hostPath type check failed: {} is not a directory",
                file.display()
            )
        );
    }
    for kind in [HostPathType::File, HostPathType::FileOrCreate] {
        assert_eq!(
            text(&folder, kind),
            format!(
                "hostPath type check failed: {} is not a file",
                folder.display()
            )
        );
    }
    assert!(text(&none, HostPathType::Directory).ends_with("is not a directory"));
    assert!(text(&none, HostPathType::File).ends_with("is not a file"));
    assert!(text(&none, HostPathType::Existing).contains("no such file"));
    assert!(text(Path::new("/a/../b"), HostPathType::Unset).contains("must not contain '..'"));
    assert!(text(Path::new("a"), HostPathType::Unset).contains("absolute"));
    assert!(
        text(Path::new("/dev/null"), HostPathType::Unset)
            .contains("neither a file nor a directory")
    );

    assert_eq!(
        host_path(&file, HostPathType::Unset).unwrap().kind,
        MountKind::File
    );
    assert_eq!(
        host_path(&folder, HostPathType::Existing).unwrap().kind,
        MountKind::Folder
    );
    let (made, made_file) = (dir.path().join("made/deep"), dir.path().join("made.txt"));
    assert_eq!(
        host_path(&made, HostPathType::DirectoryOrCreate)
            .unwrap()
            .kind,
        MountKind::Folder
    );
    assert_eq!(
        host_path(&made_file, HostPathType::FileOrCreate)
            .unwrap()
            .kind,
        MountKind::File
    );
    assert_eq!(
        host_path(&none, HostPathType::Unset).unwrap().kind,
        MountKind::Folder
    );
}

#[test]
fn host_path_types_by_their_words() {
    assert_eq!("".parse(), Ok(HostPathType::Unset));
    assert_eq!("FileOrCreate".parse(), Ok(HostPathType::FileOrCreate));
    for word in ["Socket", "CharDevice", "BlockDevice"] {
        assert!(word.parse::<HostPathType>().unwrap_err().contains(word));
    }
    assert_eq!(
        "Folder".parse::<HostPathType>().unwrap_err(),
        "Folder is an invalid volume type"
    );
}
