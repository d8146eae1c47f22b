//! Roots on real folders: what a guest sees, by either method, and what hostile images can't do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::collections::BTreeSet;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use volume::{
    Error, Etc, LayerSpec, Method, MountKind, MountPoint, Root, RootSpec, assemble, remove,
};

/// Overlayfs needs CAP_SYS_ADMIN: tests of it are left out without, which a build machine must not do silently.
fn privileged() -> bool {
    let can = rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC).is_ok();
    if !can {
        eprintln!("left out: overlayfs needs CAP_SYS_ADMIN");
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "CI has to test overlayfs"
        );
    }
    can
}

fn methods() -> Vec<Method> {
    if privileged() {
        vec![Method::Overlay, Method::Copy]
    } else {
        vec![Method::Copy]
    }
}

fn put(dir: &Path, path: &str, content: &str) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// The root as this process can walk it.
fn view(root: &Root) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/", root.fd.as_raw_fd()))
}

fn read(root: &Root, path: &str) -> String {
    std::fs::read_to_string(view(root).join(path)).unwrap()
}

fn names(root: &Root, path: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(view(root).join(path)).unwrap();
    entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

struct Layers {
    dir: tempfile::TempDir,
    specs: Vec<LayerSpec>,
}

impl Layers {
    fn new() -> Layers {
        Layers {
            dir: tempfile::tempdir().unwrap(),
            specs: Vec::new(),
        }
    }

    fn add(&mut self, fill: impl FnOnce(&Path)) -> &mut LayerSpec {
        let path = self.dir.path().join(format!("layer{}", self.specs.len()));
        std::fs::create_dir(&path).unwrap();
        fill(&path);
        self.specs.push(LayerSpec {
            path,
            marked: true,
            ..LayerSpec::default()
        });
        self.specs.last_mut().unwrap()
    }

    fn spec(&self, method: Method) -> RootSpec {
        let dir = self.dir.path().join(format!("pod-{method:?}"));
        RootSpec {
            layers: self.specs.clone(),
            dir,
            method,
            ..RootSpec::default()
        }
    }
}

fn whiteout(path: &Path) {
    rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

#[test]
fn layers_show_as_one_tree_and_stay_as_they_are() {
    for method in methods() {
        let mut layers = Layers::new();
        layers.add(|l| {
            put(l, "gone", "1");
            put(l, "kept/a", "low");
            put(l, "hidden/old", "1");
            put(l, "was-file", "1");
            put(l, "was-dir/x", "1");
            symlink("/kept/a", l.join("link")).unwrap();
        });
        let marked = method == Method::Overlay;
        let spec = layers.add(|l| {
            put(l, "kept/b", "high");
            put(l, "hidden/new", "2");
            put(l, "was-file/y", "2");
            put(l, "was-dir", "2");
            if marked {
                whiteout(&l.join("gone"));
                rustix::fs::setxattr(
                    l.join("hidden"),
                    "trusted.overlay.opaque",
                    b"y",
                    XattrFlags::empty(),
                )
                .unwrap();
            }
        });
        spec.marked = marked;
        spec.removed = vec!["gone".into()];
        spec.opaque = vec!["hidden".into()];
        let root = assemble(&layers.spec(method)).unwrap();
        assert_eq!(root.method, method);
        assert_eq!(
            names(&root, ""),
            set(&["kept", "hidden", "was-file", "was-dir", "link", "tmp"]),
            "{method:?}"
        );
        assert_eq!(names(&root, "kept"), set(&["a", "b"]));
        assert_eq!(names(&root, "hidden"), set(&["new"]));
        assert_eq!(read(&root, "was-file/y") + &read(&root, "was-dir"), "22");
        assert_eq!(
            std::fs::read_link(view(&root).join("link")).unwrap(),
            Path::new("/kept/a")
        );

        std::fs::write(view(&root).join("kept/a"), "mine").unwrap();
        std::fs::rename(view(&root).join("kept"), view(&root).join("moved")).unwrap();
        assert_eq!(read(&root, "moved/a"), "mine");
        assert_eq!(
            std::fs::read_to_string(layers.specs[0].path.join("kept/a")).unwrap(),
            "low"
        );
        assert_eq!(root.cost.files > 0, method == Method::Copy);
    }
}

#[test]
fn a_detached_mount_is_gone_with_its_descriptor() {
    if !privileged() {
        return;
    }
    let mut layers = Layers::new();
    layers.add(|l| put(l, "a", "1"));
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let spec = layers.spec(Method::Auto);
    let root = assemble(&spec).unwrap();
    assert_eq!((root.method, &root.fallback), (Method::Overlay, &None));
    let inside = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(
        before.matches("coracle").count(),
        inside.matches("coracle").count(),
        "attached somewhere"
    );
    // The descriptor works on after the folder's name is gone, and the folder can be removed under it.
    assert_eq!(read(&root, "a"), "1");
    drop(root);
    remove(&spec.dir).unwrap();
    assert!(!spec.dir.exists());
}

#[test]
fn many_layers() {
    for method in methods() {
        let mut layers = Layers::new();
        for n in 0..100 {
            layers.add(|l| {
                put(l, "same", &n.to_string());
                put(l, &format!("own{n}"), "");
            });
        }
        let root = assemble(&layers.spec(method)).unwrap();
        assert_eq!(read(&root, "same"), "99");
        assert_eq!(names(&root, "").len(), 102);
    }
}

#[test]
fn unmarked_removals_fall_back_to_a_copy_and_say_so() {
    let mut layers = Layers::new();
    layers.add(|l| put(l, "a", "1"));
    let spec = layers.add(|l| put(l, "b", "2"));
    (spec.marked, spec.removed) = (false, vec!["a".into()]);
    if privileged() {
        let error = assemble(&layers.spec(Method::Overlay)).unwrap_err();
        assert!(matches!(error, Error::Overlay(_)), "{error}");
        assert!(
            assemble(&layers.spec(Method::Auto))
                .unwrap()
                .fallback
                .unwrap()
                .contains("without privilege")
        );
    }
    let root = assemble(&layers.spec(Method::Copy)).unwrap();
    assert_eq!(names(&root, ""), set(&["b", "tmp"]));
}

#[test]
fn files_of_etc_tmp_and_mount_points() {
    for method in methods() {
        let mut layers = Layers::new();
        layers.add(|l| {
            put(l, "etc/hosts", "the image's");
            std::fs::hard_link(l.join("etc/hosts"), l.join("etc/twin")).unwrap();
            symlink("../run/systemd/resolv.conf", l.join("etc/resolv.conf")).unwrap();
            symlink("/real", l.join("alias")).unwrap();
            symlink("/elsewhere", l.join("tmp")).unwrap();
        });
        let mut spec = layers.spec(method);
        spec.etc = Etc {
            hosts: Some("127.0.0.1 localhost\n".into()),
            hostname: Some("web\n".into()),
            resolv_conf: Some("nameserver 10.0.0.10\n".into()),
        };
        let point = |path: &str, kind| MountPoint {
            path: path.into(),
            kind,
        };
        spec.mount_points = vec![
            point("/data/deep", MountKind::Folder),
            point("relative/file.txt", MountKind::File),
            point("/alias/x", MountKind::Folder),
            point("/etc", MountKind::Folder),
        ];
        // What an unfinished assembly left is no obstacle.
        put(&spec.dir, "upper/stale", "x");
        put(&spec.dir, "root/stale", "x");
        let root = assemble(&spec).unwrap();
        assert_eq!(read(&root, "etc/hosts"), "127.0.0.1 localhost\n");
        assert_eq!(read(&root, "etc/twin"), "the image's");
        assert_eq!(read(&root, "etc/hostname"), "web\n");
        assert_eq!(
            read(&root, "run/systemd/resolv.conf"),
            "nameserver 10.0.0.10\n"
        );
        assert!(
            view(&root).join("data/deep").is_dir()
                && view(&root).join("relative/file.txt").is_file()
        );
        assert!(view(&root).join("real/x").is_dir());
        assert!(!view(&root).join("stale").exists());
        let mode = |path: &str| std::fs::metadata(view(&root).join(path)).unwrap().mode() & 0o7777;
        assert_eq!(
            (mode("elsewhere"), mode(""), mode("etc/hosts"), mode("data")),
            (0o1777, 0o755, 0o644, 0o755)
        );
    }
}

#[test]
fn a_hostile_image_leads_nowhere() {
    for method in methods() {
        let mut layers = Layers::new();
        let outside = layers.dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        let far = outside.clone();
        layers.add(|l| {
            symlink(
                "../../../../../../../../../../".to_owned() + far.to_str().unwrap(),
                l.join("etc"),
            )
            .unwrap();
            symlink("loop", l.join("loop")).unwrap();
            put(l, "plain", "x");
            std::fs::create_dir(l.join("dir")).unwrap();
        });
        let mut spec = layers.spec(method);
        spec.etc.hosts = Some("inside".into());
        spec.mount_points = vec![MountPoint {
            path: "/etc/mount".into(),
            kind: MountKind::Folder,
        }];
        let root = assemble(&spec).unwrap();
        assert_eq!(
            std::fs::read_dir(&outside).unwrap().count(),
            0,
            "{method:?}"
        );
        let inside = outside.strip_prefix("/").unwrap();
        assert_eq!(
            read(&root, inside.join("hosts").to_str().unwrap()),
            "inside"
        );

        for (path, kind, word) in [
            ("/plain", MountKind::Folder, "a file there"),
            ("/plain/below", MountKind::Folder, "a file there"),
            ("/dir", MountKind::File, "a folder there"),
            ("/loop/x", MountKind::Folder, "symbolic links"),
            ("/", MountKind::Folder, "root itself"),
            ("/a/../b", MountKind::Folder, "'..'"),
            ("/a\0b", MountKind::Folder, "NUL"),
        ] {
            spec.mount_points = vec![MountPoint {
                path: path.into(),
                kind,
            }];
            let error = assemble(&spec).unwrap_err().to_string();
            assert!(error.contains(word), "{path}: {error}");
        }
    }
}

#[test]
fn no_layers_make_a_plain_folder() {
    let layers = Layers::new();
    let root = assemble(&layers.spec(Method::Auto)).unwrap();
    assert_eq!(
        (root.method, names(&root, "")),
        (Method::Copy, set(&["tmp"]))
    );
}

#[test]
fn a_root_in_memory_touches_no_disk_and_holds_no_more_than_it_may() {
    let layers = Layers::new();
    let bytes = Some(1 << 20);
    let mut spec = layers.spec(Method::Memory { bytes });
    spec.etc.hostname = Some("pod\n".to_owned());
    let root = assemble(&spec).unwrap();
    assert_eq!(names(&root, ""), set(&["etc", "tmp"]));
    assert_eq!(read(&root, "etc/hostname"), "pod\n");
    if !privileged() {
        assert_eq!(root.method, Method::Copy);
        assert!(root.fallback.unwrap().contains("tmpfs"));
        return;
    }
    assert_eq!(root.method, Method::Memory { bytes });
    assert!(!spec.dir.exists());
    let full = std::fs::write(view(&root).join("tmp/large"), vec![0; 2 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let mode = std::fs::metadata(view(&root)).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o755);
}

#[test]
fn with_layers_memory_is_as_auto() {
    let mut layers = Layers::new();
    layers.add(|l| put(l, "a", "content"));
    let root = assemble(&layers.spec(Method::Memory { bytes: None })).unwrap();
    assert_eq!(read(&root, "a"), "content");
    assert!(matches!(root.method, Method::Overlay | Method::Copy));
}

#[test]
fn copies_keep_links_modes_and_times() {
    let mut layers = Layers::new();
    layers.add(|l| {
        put(l, "a", "content");
        std::fs::hard_link(l.join("a"), l.join("b")).unwrap();
        std::fs::set_permissions(l.join("a"), PermissionsExt::from_mode(0o751)).unwrap();
        let old = std::fs::FileTimes::new()
            .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000));
        std::fs::File::open(l.join("a"))
            .unwrap()
            .set_times(old)
            .unwrap();
        std::fs::write(l.join(std::ffi::OsStr::from_bytes(b"\xff")), "raw").unwrap();
    });
    let root = assemble(&layers.spec(Method::Copy)).unwrap();
    let meta = |path: &str| std::fs::metadata(view(&root).join(path)).unwrap();
    assert_eq!(
        (meta("a").ino(), meta("a").mode() & 0o777, meta("a").mtime()),
        (meta("b").ino(), 0o751, 1000)
    );
    assert_eq!(root.cost.copied + root.cost.shared, 7 + 3);
    assert_eq!(
        std::fs::read(view(&root).join(std::ffi::OsStr::from_bytes(b"\xff"))).unwrap(),
        b"raw"
    );
}

#[test]
fn a_full_disk_is_named_and_cleaned_up() {
    if !privileged() {
        return;
    }
    let context =
        rustix::mount::fsopen("tmpfs", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    rustix::mount::fsconfig_set_string(&context, "size", "64k").unwrap();
    rustix::mount::fsconfig_create(&context).unwrap();
    let attributes = rustix::mount::MountAttrFlags::empty();
    let small = rustix::mount::fsmount(
        &context,
        rustix::mount::FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )
    .unwrap();
    let mut layers = Layers::new();
    layers.add(|l| put(l, "big", &"x".repeat(200 << 10)));
    let mut spec = layers.spec(Method::Copy);
    spec.dir = PathBuf::from(format!("/proc/self/fd/{}/pod", small.as_raw_fd()));
    let error = assemble(&spec).unwrap_err();
    assert!(
        error.is_disk_full() && error.retryable() && error.to_string().contains("big"),
        "{error}"
    );
    remove(&spec.dir).unwrap();
    assert!(!spec.dir.exists());
}
